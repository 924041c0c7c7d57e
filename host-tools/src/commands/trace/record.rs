//! Running a prompt through all loops and keeping what is worth telling.

use super::tensors::TensorFile;
use crate::error::Error;
use crate::interrupt;
use crate::open::session_error;
use crate::progress;
use crate::store::HostStore;
use ouro_runtime::depth::{ExitPolicy, FixedDepth, LoopState};
use ouro_runtime::kernels::Readout;
use ouro_runtime::kernels::math::sigmoid;
use ouro_runtime::model::Config;
use ouro_runtime::session::{Feed, Session, SessionError, Step};

/// What one loop did at one position.
#[derive(Clone, Debug)]
pub(super) struct LoopRecord {
    /// Ids and probabilities, the likeliest first.
    pub(super) top: Vec<(u32, f32)>,
    /// The gate's probability to stop here, lambda; `None` without a gate.
    pub(super) lambda: Option<f32>,
    /// The gate's probability to have stopped by now.
    pub(super) cdf: Option<f32>,
    /// Relative change of the hidden state; `None` in the first loop, which says nothing.
    pub(super) step: Option<f32>,
}

/// One position of the prompt.
#[derive(Clone, Debug, Default)]
pub(super) struct Position {
    /// One record per loop.
    pub(super) loops: Vec<LoopRecord>,
    /// The depth at which each policy stops.
    pub(super) depths: Vec<usize>,
    /// The hidden state after the latest loop.
    hidden: Vec<f32>,
    /// `prod(1 - lambda)` so far.
    survival: f32,
}

/// What is to be recorded.
pub(super) struct Recorder<'r> {
    pub(super) config: &'r Config,
    pub(super) policies: &'r [Box<dyn ExitPolicy>],
    /// Number of leading tokens.
    pub(super) top: usize,
    /// Takes hidden states, gate and logits.
    pub(super) out: Option<&'r mut TensorFile>,
}

impl Recorder<'_> {
    /// Runs `ids` through all loops of the session.
    pub(super) fn run(
        &mut self,
        session: &mut Session<'_>,
        store: &mut HostStore,
        ids: &[u32],
    ) -> Result<Vec<Position>, Error> {
        interrupt::watch();
        session.feed(ids, Feed::Prompt).map_err(session_error)?;
        let blank = Position { survival: 1.0, ..Position::default() };
        let mut positions = vec![blank; ids.len()];
        let loops = session.settings().max_loops;
        let steps = loops * (self.config.layers + ids.len());
        let progress = progress::bar(steps as u64, "tracing {bar:30} {percent}%, {eta} left");
        loop {
            if interrupt::is_set() {
                return Err(Error::Interrupted);
            }
            match session.step(store, &FixedDepth).map_err(session_error)? {
                Step::Layer { .. } => progress.inc(1),
                Step::Loop { loops } => {
                    for (row, position) in positions.iter_mut().enumerate() {
                        self.record(session, store, loops, row, position)?;
                        progress.inc(1);
                    }
                }
                Step::Head { .. } => {}
                Step::Done(_) => break,
            }
        }
        progress.finish_and_clear();
        Ok(positions)
    }

    fn record(
        &mut self,
        session: &mut Session<'_>,
        store: &mut HostStore,
        loops: usize,
        row: usize,
        position: &mut Position,
    ) -> Result<(), Error> {
        if interrupt::is_set() {
            return Err(Error::Interrupted);
        }
        let mut logits = vec![0.0; self.config.vocab];
        session.logits_of(store, row, &mut logits).map_err(session_error)?;
        if logits.iter().any(|logit| logit.is_nan()) {
            return Err(session_error(SessionError::NotANumber));
        }
        let (hidden, gate_logit) = (session.hidden(row), session.gate_logit(row));
        if let Some(out) = &mut self.out {
            out.write(loops - 1, row, hidden, gate_logit, &logits)?;
        }
        let lambda = gate_logit.map(sigmoid);
        position.survival *= 1.0 - lambda.unwrap_or(0.0);
        let state = LoopState {
            loops,
            max_loops: session.settings().max_loops,
            exit_cdf: lambda.map(|_| 1.0 - position.survival),
            hidden,
            previous: &position.hidden,
            logits: &logits,
            readout: Readout::of(&logits),
        };
        self.ask_policies(&state, &mut position.depths);
        let step = (loops > 1).then(|| state.step_difference());
        position.loops.push(LoopRecord {
            top: leading(&logits, self.top),
            lambda,
            cdf: state.exit_cdf,
            step,
        });
        position.hidden = hidden.to_vec();
        Ok(())
    }

    /// Notes for each policy the first loop at which it stops; none runs beyond the last.
    fn ask_policies(&self, state: &LoopState<'_>, depths: &mut Vec<usize>) {
        depths.resize(self.policies.len(), 0);
        for (policy, depth) in self.policies.iter().zip(depths) {
            let stops = || state.loops == state.max_loops || policy.exit(state).is_some();
            if *depth == 0 && stops() {
                *depth = state.loops;
            }
        }
    }
}

/// The `count` likeliest tokens with their probabilities; equals by id.
fn leading(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let logit = |id: &u32| logits[*id as usize];
    let order = |a: &u32, b: &u32| logit(b).total_cmp(&logit(a)).then(a.cmp(b));
    if count < ids.len() {
        ids.select_nth_unstable_by(count, order);
        ids.truncate(count);
    }
    ids.sort_unstable_by(order);
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| f64::from(logit - max).exp();
    let sum: f64 = logits.iter().map(|logit| weight(*logit)).sum();
    ids.into_iter().map(|id| (id, (weight(logit(&id)) / sum) as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::leading;

    #[test]
    fn leading_tokens() {
        let logits = [1.0f32, 3.0, 3.0, 2.0].map(f32::ln);
        let ids = |count| leading(&logits, count).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(ids(2), [1, 2]);
        assert_eq!(ids(9), [1, 2, 3, 0]);
        let all = leading(&logits, 4);
        assert!((all[0].1 - 1.0 / 3.0).abs() < 1e-6 && (all[3].1 - 1.0 / 9.0).abs() < 1e-6, "{all:?}");
    }
}
