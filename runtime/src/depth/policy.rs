//! Exit policies: when a token has run enough loops.

use super::Reason;
use crate::kernels::Readout;
use crate::kernels::math::sqrt;
use crate::kernels::reference::dot;

/// What a policy reads, so that nothing is computed in vain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Needs {
    /// The exit gate; refused on a model without one.
    pub gate: bool,
    /// The logits of every loop at which the policy is asked, not of the last one alone.
    pub logits: bool,
}

impl Needs {
    /// The hidden state alone.
    pub const NOTHING: Needs = Needs { gate: false, logits: false };
}

/// The state of one token at the end of a loop.
#[derive(Clone, Copy, Debug)]
pub struct LoopState<'a> {
    /// Loops run so far, counted from 1.
    pub loops: usize,
    /// The run's last loop, D.
    pub max_loops: usize,
    /// The gate's cumulative exit probability, `1 - prod(1 - lambda_j)` over the loops so far;
    /// `None` on a model without a gate.
    pub exit_cdf: Option<f32>,
    /// The hidden state after this loop's norm, `[hidden]`.
    pub hidden: &'a [f32],
    /// The hidden state that entered this loop, `[hidden]`; before the first loop, the embedding.
    pub previous: &'a [f32],
    /// This loop's logits, `[vocab]`; empty unless [`Needs::logits`].
    pub logits: &'a [f32],
    /// What was gathered of the logits while they were computed; nothing unless [`Needs::logits`].
    pub readout: Readout,
}

impl LoopState<'_> {
    /// Relative change of the hidden state in this loop, `|h - previous| / |previous|` (L2).
    #[must_use]
    pub fn step_difference(&self) -> f32 {
        let moved = self.hidden.iter().zip(self.previous).fold(0.0, |sum, (h, p)| sum + (h - p) * (h - p));
        sqrt(moved) / sqrt(dot(self.previous, self.previous))
    }
}

/// Decides after each loop whether a token needs no more of them.
pub trait ExitPolicy {
    /// What [`exit`](Self::exit) reads.
    fn needs(&self) -> Needs;

    /// The reason to stop after this loop, or `None` to run another one. Asked after every loop
    /// from the run's minimum depth on, except the last.
    fn exit(&self, state: &LoopState<'_>) -> Option<Reason>;
}

/// Every token runs all D loops.
#[derive(Clone, Copy, Debug)]
pub struct FixedDepth;

impl ExitPolicy for FixedDepth {
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    fn exit(&self, _: &LoopState<'_>) -> Option<Reason> {
        None
    }
}

/// Q-exit (arXiv 2510.25741): stops at the first loop at which the gate's cumulative exit
/// probability is at least this quantile.
#[derive(Clone, Copy, Debug)]
pub struct QExit(
    /// The quantile q, 0..=1.
    pub f32,
);

impl ExitPolicy for QExit {
    fn needs(&self) -> Needs {
        Needs { gate: true, logits: false }
    }

    fn exit(&self, state: &LoopState<'_>) -> Option<Reason> {
        (state.exit_cdf? >= self.0).then_some(Reason::Gate)
    }
}

/// Stops when the most probable token of the intermediate logits has at least this probability.
#[derive(Clone, Copy, Debug)]
pub struct TopProbability(
    /// The probability, 0..=1.
    pub f32,
);

impl ExitPolicy for TopProbability {
    fn needs(&self) -> Needs {
        Needs { gate: false, logits: true }
    }

    fn exit(&self, state: &LoopState<'_>) -> Option<Reason> {
        (state.readout.top_two().0 >= self.0).then_some(Reason::Confidence)
    }
}

/// Stops when the two most probable tokens of the intermediate logits are at least this far apart.
#[derive(Clone, Copy, Debug)]
pub struct Margin(
    /// Difference of probabilities, 0..=1.
    pub f32,
);

impl ExitPolicy for Margin {
    fn needs(&self) -> Needs {
        Needs { gate: false, logits: true }
    }

    fn exit(&self, state: &LoopState<'_>) -> Option<Reason> {
        let (first, second) = state.readout.top_two();
        (first - second >= self.0).then_some(Reason::Margin)
    }
}

/// Stops when the hidden state changed by at most this share of its norm in a loop. What the
/// first loop did to the embedding says nothing, so the second is the first that can stop.
#[derive(Clone, Copy, Debug)]
pub struct StepDifference(
    /// Relative change, see [`LoopState::step_difference`].
    pub f32,
);

impl ExitPolicy for StepDifference {
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    fn exit(&self, state: &LoopState<'_>) -> Option<Reason> {
        (state.loops > 1 && state.step_difference() <= self.0).then_some(Reason::Step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state<'a>(hidden: &'a [f32], previous: &'a [f32], logits: &'a [f32], loops: usize) -> LoopState<'a> {
        LoopState {
            loops,
            max_loops: 4,
            exit_cdf: Some(0.6),
            hidden,
            previous,
            logits,
            readout: Readout::of(logits),
        }
    }

    #[test]
    fn policies_stop_exactly_at_their_threshold() {
        let logits = [f32::ln(1.0), f32::ln(6.0), f32::ln(3.0)];
        let state = state(&[3.0, 4.5], &[3.0, 4.0], &logits, 2);
        let cases: [(&dyn ExitPolicy, Option<Reason>); 9] = [
            (&FixedDepth, None),
            (&QExit(0.6), Some(Reason::Gate)),
            (&QExit(0.61), None),
            (&TopProbability(0.599), Some(Reason::Confidence)),
            (&TopProbability(0.601), None),
            (&Margin(0.299), Some(Reason::Margin)),
            (&Margin(0.301), None),
            (&StepDifference(0.1), Some(Reason::Step)),
            (&StepDifference(0.099), None),
        ];
        for (i, (policy, expected)) in cases.into_iter().enumerate() {
            assert_eq!(policy.exit(&state), expected, "case {i}");
        }
    }

    #[test]
    fn edges() {
        assert_eq!(StepDifference(1.0).exit(&state(&[1.0], &[1.0], &[], 1)), None);
        let without_gate = LoopState { exit_cdf: None, ..state(&[1.0], &[1.0], &[], 1) };
        assert_eq!(QExit(0.0).exit(&without_gate), None);
    }
}
