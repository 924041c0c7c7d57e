//! A session's budget, and the most that work within it can cost.

use super::cost::{Cost, Fetches, Work, worst_case};
use super::{Session, SessionError};
use crate::clock::Clock;
use crate::depth::{Budget, EnergyMeter, Left, Needs};
use crate::store::Store;

impl<'a> Session<'a> {
    /// The clock of the budget of time.
    pub fn set_clock(&mut self, clock: &'a dyn Clock) {
        self.ledger.set_clock(clock);
    }

    /// The meter of the budget of energy.
    pub fn set_energy_meter(&mut self, meter: &'a dyn EnergyMeter) {
        self.ledger.set_meter(meter);
    }

    /// Bounds what is generated from the next feed on, with weights from this store; every bucket
    /// begins full; [`restore`](Self::restore) after this goes on with what was left.
    ///
    /// Of bytes it is bounded what is fetched again and again: filling what the store keeps for good
    /// comes on top, once. A prompt does that, and it is in no bucket.
    ///
    /// # Errors
    /// The budget is as before then: [`SessionError::LoopRate`] or [`SessionError::ByteRate`] if a
    /// token in fallback could not be paid, [`SessionError::Setting`] for what makes no sense.
    pub fn set_budget<S: Store>(&mut self, budget: Budget, store: &S) -> Result<(), SessionError> {
        self.ledger.set_budget(budget, &self.settings, (self.model, store))
    }

    /// Another rate for the bucket of loops, in thousandths: a machine that gets hot, or whose
    /// battery runs low, can afford fewer. Nothing changes without such a bucket.
    ///
    /// # Errors
    /// [`SessionError::LoopRate`] if it is less than the fallback depth.
    pub fn set_loop_rate(&mut self, rate: u64) -> Result<(), SessionError> {
        self.ledger.set_loop_rate(rate)
    }

    /// The bounds in force.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        self.ledger.budget()
    }

    /// What is left of the budget, for the next token and in time.
    #[must_use]
    pub fn budget_left(&self) -> Left {
        self.ledger.left()
    }

    /// Whether a bucket was found empty and has not recovered yet.
    #[must_use]
    pub fn is_in_fallback(&self) -> bool {
        self.ledger.is_in_fallback()
    }

    /// The most that a prompt of `prompt` tokens, in as few feeds as
    /// [`Settings::rows`](super::Settings::rows) allows, and then `generated` tokens, fed one by one, can cost
    /// from here on with weights from this store and a policy that needs this. What is computed and fetched
    /// never exceeds it, but for loads that are tried again and tiles that were on order before.
    /// What the store keeps for good counts once, and no more when it is there. Not for a control loop:
    /// it asks the store where every row of the vocabulary lies.
    #[must_use]
    pub fn worst_case<S: Store>(&self, store: &S, prompt: usize, generated: usize, needs: Needs) -> Cost {
        let work = Work { older: self.kv.len(), prompt, generated };
        let fetches = Fetches::of(self.model, store);
        worst_case(self.model, &fetches, &self.settings, work, needs, self.ledger.most(generated as u64))
    }
}
