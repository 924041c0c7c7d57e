//! What a session may still spend: its buckets, its deadlines, and whether it is in fallback.

use super::cost::Fetches;
use super::state::Standing;
use super::{Feed, SessionError, Settings};
use crate::clock::{Clock, between, together};
use crate::depth::{Account, Bucket, Budget, EnergyMeter, LOOP, Left, Reason};
use crate::model::Model;
use crate::store::Store;
use core::time::Duration;
use xxhash_rust::xxh3::Xxh3;

/// Whether tokens run the fallback depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The policy decides.
    Normal,
    /// The token in flight found a bucket empty; the fallback begins with the next.
    Exhausted,
    /// The token in flight runs the fallback depth.
    Fallback,
}

/// What can be read before and after a piece of work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    bytes: u64,
    microjoules: u64,
    at: Duration,
}

/// What the loop in hand and the output head took when they were last computed: the best guess of
/// what they will take.
#[derive(Clone, Copy, Debug, Default)]
struct Lately {
    loop_time: Duration,
    loop_energy: u64,
    head_time: Duration,
    head_energy: u64,
}

#[derive(Debug)]
pub(super) struct Ledger<'a> {
    budget: Budget,
    clock: Option<&'a dyn Clock>,
    meter: Option<&'a dyn EnergyMeter>,
    loops: Option<Account>,
    bytes: Option<Account>,
    energy: Option<Account>,
    mode: Mode,
    /// The rate of loops that was asked for, whatever it has become since.
    asked_rate: u64,
    /// Bytes fetched for another loop and its head at most.
    loop_and_head_bytes: u64,
    /// Whether a generated token is in flight.
    is_generated: bool,
    token_deadline: Option<Duration>,
    answer_deadline: Option<Duration>,
    lately: Lately,
    /// Of the loop in hand.
    loop_began: Duration,
    loop_energy: u64,
}

impl<'a> Ledger<'a> {
    pub(super) fn new() -> Self {
        Self {
            budget: Budget::UNLIMITED,
            clock: None,
            meter: None,
            loops: None,
            bytes: None,
            energy: None,
            mode: Mode::Normal,
            asked_rate: 0,
            loop_and_head_bytes: 0,
            is_generated: false,
            token_deadline: None,
            answer_deadline: None,
            lately: Lately::default(),
            loop_began: Duration::ZERO,
            loop_energy: 0,
        }
    }

    pub(super) fn set_clock(&mut self, clock: &'a dyn Clock) {
        self.clock = Some(clock);
    }

    pub(super) fn set_meter(&mut self, meter: &'a dyn EnergyMeter) {
        self.meter = Some(meter);
    }

    /// Takes a budget whose promises can be kept, with full buckets.
    pub(super) fn set_budget<S: Store>(
        &mut self,
        budget: Budget,
        settings: &Settings,
        (model, store): (&Model<'_>, &S),
    ) -> Result<(), SessionError> {
        let bad = |setting, expected| Err(SessionError::Setting { setting, expected });
        let Budget { loops, bytes, energy, fallback, token_time, answer_time } = budget;
        let mut buckets = [loops, bytes, energy].into_iter().flatten().peekable();
        if buckets.peek().is_some() && !(settings.min_loops..=settings.max_loops).contains(&fallback) {
            return bad("fallback depth", "at least the minimum number of loops, at most the largest");
        }
        if buckets.any(|bucket| bucket.resume > bucket.burst) {
            return bad("resume", "at most the burst, which is all that a bucket ever keeps");
        }
        check_loop_rate(loops, fallback)?;
        let fetches = bytes.map(|_| Fetches::of(model, store)).unwrap_or_default();
        let needed = fetches.least_rate(fallback);
        if let Some(bucket) = bytes.filter(|bucket| bucket.rate < needed) {
            return Err(SessionError::ByteRate { rate: bucket.rate, needed });
        }
        if energy.is_some() && self.meter.is_none() {
            return bad("budget of energy", "a meter to go by (Session::set_energy_meter)");
        }
        if token_time.or(answer_time).is_some() {
            if self.clock.is_none() {
                return bad("budget of time", "a clock to go by (Session::set_clock)");
            }
            if settings.max_loops > 1 && !settings.kv.keeps_loops() {
                return bad("budget of time", "K/V per loop, or a KV window of at least 1");
            }
        }
        self.budget = budget;
        self.loops = loops.map(Account::new);
        self.bytes = bytes.map(Account::new);
        self.energy = energy.map(Account::new);
        self.mode = Mode::Normal;
        self.asked_rate = loops.map_or(0, |bucket| bucket.rate);
        self.loop_and_head_bytes = fetches.loop_and_head();
        (self.token_deadline, self.answer_deadline) = (None, None);
        Ok(())
    }

    /// Another rate for the bucket of loops; without one nothing changes.
    pub(super) fn set_loop_rate(&mut self, rate: u64) -> Result<(), SessionError> {
        let Some(account) = &mut self.loops else { return Ok(()) };
        let bucket = self.budget.loops.map(|bucket| Bucket { rate, ..bucket });
        check_loop_rate(bucket, self.budget.fallback)?;
        account.set_rate(rate);
        self.budget.loops = bucket;
        Ok(())
    }

    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What is left, to go with a saved cache.
    pub(super) fn standing(&self) -> Standing {
        let levels = [&self.loops, &self.bytes, &self.energy];
        let levels = levels.map(|account| account.as_ref().map_or(0, Account::carried));
        let mode = match self.mode {
            Mode::Normal => 0,
            Mode::Exhausted => 1,
            Mode::Fallback => 2,
        };
        Standing { budget: self.identity(), levels, mode }
    }

    /// Goes on from there, if that was left of the same budget; else nothing changes.
    pub(super) fn resume(&mut self, stood: &Standing) {
        if stood.budget != self.identity() {
            return;
        }
        self.mode = match stood.mode {
            0 => Mode::Normal,
            1 => Mode::Exhausted,
            _ => Mode::Fallback,
        };
        let accounts = [&mut self.loops, &mut self.bytes, &mut self.energy];
        for (account, level) in accounts.into_iter().zip(stood.levels) {
            if let Some(account) = account {
                account.set_level(level);
            }
        }
    }

    /// Tells budgets apart: XXH3 of the buckets and of the fallback depth; 0 without buckets. Times begin anew
    /// with every answer.
    fn identity(&self) -> u64 {
        let Budget { loops, bytes, energy, fallback, .. } = self.budget;
        let loops = loops.map(|bucket| Bucket { rate: self.asked_rate, ..bucket });
        let buckets = [loops, bytes, energy];
        if buckets.iter().all(Option::is_none) {
            return 0;
        }
        let mut sum = Xxh3::new();
        sum.update(&(fallback as u64).to_le_bytes());
        for bucket in buckets {
            let numbers = bucket.map_or([0; 4], |Bucket { rate, burst, resume }| [1, rate, burst, resume]);
            numbers.iter().for_each(|number| sum.update(&number.to_le_bytes()));
        }
        sum.digest()
    }

    /// A prompt or a token is put in flight.
    pub(super) fn begin(&mut self, feed: Feed) {
        let now = self.now();
        self.token_deadline = None;
        self.is_generated = feed == Feed::Generated;
        match feed {
            Feed::Prompt => {
                self.answer_deadline = after(now, self.budget.answer_time);
            }
            Feed::More => {}
            Feed::Generated => {
                self.token_deadline = after(now, self.budget.token_time);
                let has_recovered = self.accounts().all(|account| account.has_recovered());
                self.mode = match self.mode {
                    Mode::Exhausted => Mode::Fallback,
                    Mode::Fallback if has_recovered => Mode::Normal,
                    mode => mode,
                };
                self.accounts().for_each(Account::begin);
            }
        }
    }

    /// Another loop begins.
    pub(super) fn begin_loop(&mut self) {
        self.loop_began = self.now();
        self.loop_energy = 0;
        if let Some(loops) = self.loops.as_mut().filter(|_| self.is_generated) {
            loops.take(LOOP);
        }
    }

    /// The loop in hand is done.
    pub(super) fn end_loop(&mut self) {
        if self.is_generated {
            self.lately.loop_time = between(self.loop_began, self.now());
            self.lately.loop_energy = self.loop_energy;
        }
    }

    /// What the meters show, with `bytes` fetched so far.
    pub(super) fn read(&self, bytes: u64) -> Reading {
        let microjoules = self.meter.filter(|_| self.energy.is_some()).map_or(0, EnergyMeter::microjoules);
        Reading { bytes, microjoules, at: self.now() }
    }

    /// Pays for the work since `before`, which was the output head's or a part of a loop's.
    pub(super) fn pay(&mut self, before: Reading, bytes: u64, is_head: bool) {
        let now = self.read(bytes);
        let energy = now.microjoules.saturating_sub(before.microjoules);
        if is_head {
            self.lately.head_time = between(before.at, now.at);
            self.lately.head_energy = energy;
        } else {
            self.loop_energy = self.loop_energy.saturating_add(energy);
        }
        if self.is_generated {
            if let Some(account) = &mut self.bytes {
                account.take(now.bytes.saturating_sub(before.bytes));
            }
            if let Some(account) = &mut self.energy {
                account.take(energy);
            }
        }
    }

    /// The fallback depth, if the token in flight has to run it.
    pub(super) fn fallback(&self) -> Option<usize> {
        (self.mode == Mode::Fallback && self.is_generated).then_some(self.budget.fallback)
    }

    pub(super) fn is_in_fallback(&self) -> bool {
        self.mode != Mode::Normal
    }

    /// Why a token that wants another loop, and need not run it, can't have it.
    pub(super) fn refusal(&mut self) -> Option<Reason> {
        if !self.is_generated {
            return None;
        }
        if self.mode == Mode::Normal && !self.affords_loop() {
            self.mode = Mode::Exhausted;
            return Some(Reason::Budget);
        }
        let Lately { loop_time, head_time, .. } = self.lately;
        self.is_out_of_time(together(loop_time, head_time)).then_some(Reason::Deadline)
    }

    fn affords_loop(&self) -> bool {
        let Lately { loop_energy, head_energy, .. } = self.lately;
        let costs = [
            (&self.loops, LOOP),
            (&self.bytes, self.loop_and_head_bytes),
            (&self.energy, loop_energy.saturating_add(head_energy)),
        ];
        costs.into_iter().all(|(account, cost)| account.is_none_or(|account| account.affords(cost)))
    }

    /// Whether a deadline has passed, or will before the output head is done if it still is
    /// `to_answer`.
    pub(super) fn is_late(&self, to_answer: bool) -> bool {
        self.is_out_of_time(if to_answer { self.lately.head_time } else { Duration::ZERO })
    }

    /// Whether what takes as long as `needed` can't be done in time.
    fn is_out_of_time(&self, needed: Duration) -> bool {
        let first = match (self.token_deadline, self.answer_deadline) {
            (Some(token), Some(answer)) => Some(token.min(answer)),
            (token, answer) => token.or(answer),
        };
        first.is_some_and(|deadline| together(self.now(), needed) >= deadline)
    }

    /// What is left now.
    pub(super) fn left(&self) -> Left {
        let carried = |account: &Option<Account>| account.map(|account| account.carried());
        let until = |deadline: Option<Duration>| deadline.map(|deadline| between(self.now(), deadline));
        Left {
            loops: carried(&self.loops),
            bytes: carried(&self.bytes),
            energy: carried(&self.energy),
            token_time: until(self.token_deadline),
            answer_time: until(self.answer_deadline),
        }
    }

    /// The most loops (in thousandths) and the most bytes that `tokens` from now on may take.
    pub(super) fn most(&self, tokens: u64) -> [Option<u64>; 2] {
        [&self.loops, &self.bytes].map(|account| {
            account.map(|account| {
                let carried = u64::try_from(account.carried()).unwrap_or_default();
                carried.saturating_add(account.rate().saturating_mul(tokens))
            })
        })
    }

    fn accounts(&mut self) -> impl Iterator<Item = &mut Account> {
        [&mut self.loops, &mut self.bytes, &mut self.energy].into_iter().flatten()
    }

    /// Zero without a budget of time, so that no clock is read in vain.
    #[inline(never)] // inlined into `begin`, LLVM 22 never ends selecting its instructions for riscv64gc
    fn now(&self) -> Duration {
        let timed = self.budget.token_time.or(self.budget.answer_time).is_some();
        self.clock.filter(|_| timed).map_or(Duration::ZERO, Clock::now)
    }
}

/// A token in fallback must be able to pay its loops from its own rate.
fn check_loop_rate(loops: Option<Bucket>, fallback: usize) -> Result<(), SessionError> {
    let needed = (fallback as u64).saturating_mul(LOOP);
    match loops.filter(|bucket| bucket.rate < needed) {
        Some(bucket) => Err(SessionError::LoopRate { rate: bucket.rate, fallback }),
        None => Ok(()),
    }
}

fn after(now: Duration, time: Option<Duration>) -> Option<Duration> {
    time.map(|time| together(now, time))
}
