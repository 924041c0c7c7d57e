//! How many loops a token runs: exit policies, and budgets.
//!
//! A policy is a type behind [`ExitPolicy`]. After each loop that may be the last one it sees the
//! loop's state and says whether the token stops there. Loops that are not needed are neither
//! computed nor fetched. A [`Budget`] bounds what tokens cost, whatever the policy wants.
//!
//! ```
//! use ouro_runtime::depth::{ExitPolicy, LoopState, Needs, Reason};
//!
//! /// Stops as soon as the hidden state is large: a policy of one's own.
//! struct LargeState(f32);
//!
//! impl ExitPolicy for LargeState {
//!     fn needs(&self) -> Needs {
//!         Needs::NOTHING
//!     }
//!
//!     fn exit(&self, state: &LoopState<'_>) -> Option<Reason> {
//!         let norm: f32 = state.hidden.iter().map(|x| x * x).sum();
//!         (norm > self.0).then_some(Reason::Other("large state"))
//!     }
//! }
//! ```

mod budget;
mod policy;

#[cfg(feature = "budget")]
pub(crate) use budget::Account;
pub use budget::{Bucket, Budget, EnergyMeter, LOOP, Left};
pub use policy::{ExitPolicy, FixedDepth, LoopState, Margin, Needs, QExit, StepDifference, TopProbability};

use core::fmt;

/// Why a token stopped at its depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Reason {
    /// The run's last loop was reached.
    Fixed,
    /// The exit gate's cumulative probability reached the threshold.
    Gate,
    /// The likeliest token was probable enough.
    Confidence,
    /// The second likeliest token was far enough behind.
    Margin,
    /// The hidden state hardly moved.
    Step,
    /// The budget had no more for another loop.
    Budget,
    /// Earlier tokens used the budget up, so this one ran the fallback depth, unasked.
    Fallback,
    /// There was no time for another loop.
    Deadline,
    /// A policy of one's own, which names its reason.
    Other(&'static str),
}

impl Reason {
    /// The reasons that the runtime itself gives, in the order in which reports list them.
    pub const ALL: [Reason; 8] = [
        Self::Gate,
        Self::Confidence,
        Self::Margin,
        Self::Step,
        Self::Fixed,
        Self::Budget,
        Self::Fallback,
        Self::Deadline,
    ];

    /// The name used in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Gate => "gate",
            Self::Confidence => "confidence",
            Self::Margin => "margin",
            Self::Step => "step",
            Self::Budget => "budget",
            Self::Fallback => "fallback",
            Self::Deadline => "deadline",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
