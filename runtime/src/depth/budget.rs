//! Budgets: what generated tokens may cost, whatever their policy wants.
//!
//! A *bucket* gets its rate with every token, keeps at most its burst from one token to the next,
//! and pays for what a token takes. A token that wants another loop which a bucket can't pay stops
//! there. From the next token on every token runs the *fallback depth*, and the policy is not
//! asked, until after one of them every bucket has recovered to its `resume`. So any n tokens take
//! at most burst + n * rate. Prompts are known beforehand, and take from no bucket.

#![cfg_attr(not(feature = "budget"), allow(dead_code))]

use core::fmt;
use core::time::Duration;

/// One loop, in the units of [`Budget::loops`].
pub const LOOP: u64 = 1000;

/// What may be taken, in units that its user names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Bucket {
    /// What every token adds.
    pub rate: u64,
    /// The most that is kept from one token to the next, and what there is at the beginning.
    pub burst: u64,
    /// What must be left after a token for the fallback to end; at most `burst`.
    pub resume: u64,
}

/// What generated tokens may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Budget {
    /// Loops, in thousandths (see [`LOOP`]): a rate of 2500 is two and a half loops per token.
    pub loops: Option<Bucket>,
    /// Bytes fetched from the store. No loop begins unless its bytes and those of the output head
    /// are there, as the store moves them: without what it keeps for good, in whole pages where it reads
    /// no less, and with what it may read ahead in vain. Paid is what the store counts.
    pub bytes: Option<Bucket>,
    /// Microjoules, where an [`EnergyMeter`] can say. A loop is expected to take what the last
    /// one took; what it takes beyond that becomes debt, which later tokens pay back.
    pub energy: Option<Bucket>,
    /// The depth of every token once a bucket was found empty: at least the minimum depth, and not
    /// more than the rates can pay.
    pub fallback: usize,
    /// The longest that a generated token may take.
    #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
    pub token_time: Option<Duration>,
    /// The longest that a prompt and its answer may take together, from when the prompt, or its first part,
    /// is fed ([`Feed::More`](crate::session::Feed::More) are the other parts).
    #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
    pub answer_time: Option<Duration>,
}

impl Budget {
    /// No bounds.
    pub const UNLIMITED: Budget =
        Budget { loops: None, bytes: None, energy: None, fallback: 1, token_time: None, answer_time: None };
}

impl Default for Budget {
    fn default() -> Self {
        Self::UNLIMITED
    }
}

/// Tells the energy that the machine has used.
pub trait EnergyMeter: fmt::Debug + Sync {
    /// Microjoules since some fixed moment; never less than before.
    fn microjoules(&self) -> u64;
}

/// What is left of a budget: of each bucket what the next token finds there before its rate is
/// added (negative in debt), and the time that is left; `None` where there is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Left {
    /// Loops, in thousandths.
    pub loops: Option<i64>,
    /// Bytes.
    pub bytes: Option<i64>,
    /// Microjoules.
    pub energy: Option<i64>,
    /// Of the token's time.
    #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
    pub token_time: Option<Duration>,
    /// Of the answer's time.
    #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
    pub answer_time: Option<Duration>,
}

/// A bucket and what is in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    bucket: Bucket,
    level: i64,
}

impl Account {
    /// A full bucket.
    pub(crate) fn new(bucket: Bucket) -> Self {
        Self { bucket, level: signed(bucket.burst) }
    }

    /// What every token adds.
    pub(crate) fn rate(&self) -> u64 {
        self.bucket.rate
    }

    pub(crate) fn set_rate(&mut self, rate: u64) {
        self.bucket.rate = rate;
    }

    /// What the next token finds, without its rate: no more than the burst.
    pub(crate) fn set_level(&mut self, level: i64) {
        self.level = level;
    }

    /// A token begins.
    pub(crate) fn begin(&mut self) {
        self.level = self.carried().saturating_add(signed(self.bucket.rate));
    }

    /// What the next token finds, without its rate.
    pub(crate) fn carried(&self) -> i64 {
        self.level.min(signed(self.bucket.burst))
    }

    pub(crate) fn take(&mut self, cost: u64) {
        self.level = self.level.saturating_sub(signed(cost));
    }

    pub(crate) fn affords(&self, cost: u64) -> bool {
        self.level >= signed(cost)
    }

    pub(crate) fn has_recovered(&self) -> bool {
        self.carried() >= signed(self.bucket.resume)
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_by_hand() {
        let mut account = Account::new(Bucket { rate: 2500, burst: 3000, resume: 2000 });
        // What a token takes, what is carried on, whether it has recovered.
        for (taken, carried, recovered) in [
            (5000, 500, false),
            (3000, 0, false),
            (1000, 1500, false),
            (2000, 2000, true),
            (0, 3000, true),
            (9000, -3500, false),
            (0, -1000, false),
        ] {
            account.begin();
            account.take(taken);
            assert_eq!((account.carried(), account.has_recovered()), (carried, recovered), "{account:?}");
        }
        account.begin();
        assert!(account.affords(1500) && !account.affords(1501));
    }

    #[test]
    fn no_number_is_too_large() {
        let most = Bucket { rate: u64::MAX, burst: u64::MAX, resume: u64::MAX };
        let mut account = Account::new(most);
        account.begin();
        account.take(u64::MAX);
        account.take(u64::MAX);
        account.begin();
        assert!(account.affords(0) && !account.affords(u64::MAX));
    }
}
