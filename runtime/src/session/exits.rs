//! Which loop answers for a token: what the policy, the budget and the clock say of it, in which order,
//! and what is done next. Nothing is computed here.

use super::ledger::Ledger;
use super::{Depth, Feed, Phase, Session, SessionError, Settings};
use crate::depth::{ExitPolicy, LoopState, Reason};
use crate::kernels::Readout;

impl Session<'_> {
    /// Whether the head is read after loop `t`, as far as that is known before its end.
    pub(super) fn head_follows(&self, policy: &dyn ExitPolicy, t: usize) -> bool {
        let loops = t + 1;
        let Settings { max_loops, min_loops, .. } = self.settings;
        let last = self.ledger.fallback().unwrap_or(max_loops);
        let asks = self.ledger.fallback().is_none() && policy.needs().logits && loops >= min_loops;
        self.answer.is_none() && (loops == last || asks)
    }

    /// What follows the end of loop `t`.
    pub(super) fn after_loop(&mut self, policy: &dyn ExitPolicy, t: usize) {
        let loops = t + 1;
        let Settings { max_loops, min_loops, .. } = self.settings;
        let fallback = self.ledger.fallback();
        let reason = if self.answer.is_some() {
            self.phase = self.after_answer(loops);
            return;
        } else if fallback == Some(loops) {
            Some(Reason::Fallback)
        } else if loops == max_loops {
            Some(Reason::Fixed)
        } else if loops < min_loops || fallback.is_some() {
            None
        } else if policy.needs().logits {
            self.phase = Phase::Head { t, ask: true };
            return;
        } else {
            policy.exit(&self.loop_state(loops, &[]))
        };
        self.decide(loops, reason);
    }

    /// What follows the logits of loop number `loops`, about which the policy may have to be asked.
    pub(super) fn after_head(&mut self, policy: &dyn ExitPolicy, loops: usize, ask: bool) {
        if ask {
            let reason = policy.exit(&self.loop_state(loops, self.logits));
            self.decide(loops, reason);
        } else {
            self.phase = self.after_answer(loops);
        }
    }

    /// What follows loop number `loops`, after which there may be a reason to stop.
    fn decide(&mut self, loops: usize, reason: Option<Reason>) {
        let must_go_on = loops < self.settings.min_loops;
        let refusal = |ledger: &mut Ledger<'_>| if must_go_on { None } else { ledger.refusal() };
        match reason.or_else(|| refusal(&mut self.ledger)) {
            Some(reason) => self.answer_with(loops, reason),
            None => self.phase = Phase::Layer { t: loops, layer: 0 },
        }
    }

    /// The logits of loop number `loops` are the answer.
    fn answer_with(&mut self, loops: usize, reason: Reason) {
        self.answer = Some(Depth { loops, reason });
        self.phase = if self.logits_of_loop == loops {
            self.after_answer(loops)
        } else {
            Phase::Head { t: loops.saturating_sub(1), ask: false }
        };
    }

    /// Looks at the clock before layer `layer` of loop `t` (both from 0). If there is no time left,
    /// the deepest finished loop answers.
    pub(super) fn meet_deadline(&mut self, t: usize, layer: usize) -> Result<(), SessionError> {
        let enough = self.feed == Feed::Generated && t >= self.settings.min_loops;
        let can_answer = enough && self.kv.can_roll_back();
        if !self.ledger.is_late(can_answer) {
            return Ok(());
        }
        if !can_answer {
            self.phase = Phase::Idle;
            return Err(SessionError::OutOfTime { loops: t });
        }
        self.kv.roll_back(layer, t);
        if layer > 0 {
            self.buffers.set_hidden(self.in_flight - 1, self.previous);
        }
        self.answer_with(t, Reason::Deadline);
        Ok(())
    }

    /// What follows loop number `loops` once it is known which loop answers: a prompt runs all
    /// its loops, a generated token no more.
    fn after_answer(&self, loops: usize) -> Phase {
        if self.feed != Feed::Generated && loops < self.settings.max_loops {
            Phase::Layer { t: loops, layer: 0 }
        } else {
            Phase::Finish { loops }
        }
    }

    fn loop_state<'s>(&'s self, loops: usize, logits: &'s [f32]) -> LoopState<'s> {
        LoopState {
            loops,
            max_loops: self.settings.max_loops,
            exit_cdf: self.model.gate().map(|_| 1.0 - self.survival),
            hidden: self.hidden(self.in_flight - 1),
            previous: self.previous,
            logits,
            readout: if logits.is_empty() { Readout::default() } else { self.readout },
        }
    }
}
