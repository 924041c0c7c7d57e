//! The time that work takes at most, on machines whose rates are known.

use super::Overheard;
use super::case::{Case, Hands, Pinning, case, fetched, judge_all, model_file, pins, ticking};
use ouro_runtime::clock::Clock;
use ouro_runtime::depth::{ExitPolicy, FixedDepth, Needs};
use ouro_runtime::session::{Cost, Feed, Rates, Session, SessionError, Settings, Step};
use ouro_runtime::store::{MemoryStore, Pin, Pinned, Store};
use ouro_tests::harness::{open, session};
use ouro_tests::model_draft::draft;
use proptest::prelude::*;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The clock of a machine that takes for a step what its rates say.
#[derive(Debug)]
struct Machine {
    rates: Rates,
    /// Whether it fetches while it computes.
    overlaps: bool,
    nanos: AtomicU64,
}

impl Clock for Machine {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Relaxed))
    }
}

impl Machine {
    fn works(&self, macs: u64, bytes: u64) {
        let nanos = |amount: u64, rate: u64| (u128::from(amount) * 1_000_000_000 / u128::from(rate)) as u64;
        let computing = nanos(macs, self.rates.macs_per_second);
        let fetching = nanos(bytes, self.rates.bytes_per_second);
        let took = if self.overlaps { computing.max(fetching) } else { computing + fetching };
        self.nanos.fetch_add(took, Relaxed);
    }
}

/// A run on such a machine.
struct Run {
    machine: &'static Machine,
    session: Session<'static>,
    store: Pinning,
    policy: Overheard,
}

impl Run {
    fn new(case: &Case, machine: Machine) -> Self {
        let hands: &'static Hands = Box::leak(Box::default());
        let machine: &'static Machine = Box::leak(Box::new(machine));
        let mut store = ticking(MemoryStore::new(model_file(case)), hands, vec![0]);
        let (_, model) = open(&mut store);
        let (pins, kept) = pins(model, store.max_tile(), case);
        let (_, rate) = fetched(model, store.max_tile(), &kept, case);
        let room = kept.iter().map(|pin| pin.len).sum();
        let store = Pinned::new(store, pins.into_iter().map(Pin::new).collect(), vec![0; room]);
        let mut budget = case.budget;
        if let Some(bytes) = &mut budget.bytes {
            bytes.rate += rate;
        }
        let mut session = session(model, case.settings);
        session.set_clock(machine);
        session.set_energy_meter(hands);
        session.set_budget(budget, &store).unwrap();
        let policy = Overheard { policy: case.policy, said: Cell::new(None) };
        Self { machine, session, store, policy }
    }

    /// What so many tokens take at most from here on.
    fn most(&self, prompt: usize, generated: usize) -> Duration {
        let worst = self.session.worst_case(&self.store, prompt, generated, self.policy.needs());
        worst.time(&self.machine.rates)
    }

    /// Until the tokens are computed, or a budget of time is used up: false.
    fn goes_on(&mut self, tokens: &[u32], feed: Feed) -> bool {
        self.session.feed(tokens, feed).unwrap();
        loop {
            let (macs, bytes) = (self.session.counters().macs, self.store.counters().bytes);
            let step = self.session.step(&mut self.store, &self.policy);
            let macs = self.session.counters().macs - macs;
            self.machine.works(macs, self.store.counters().bytes - bytes);
            match step {
                Ok(Step::Done(_)) => return true,
                Ok(_) => {}
                Err(SessionError::OutOfTime { .. }) => return false,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Which part of the worst case a run takes.
fn share(case: &Case, machine: Machine) -> f64 {
    let mut run = Run::new(case, machine);
    let most = run.most(case.prompt.len(), case.tokens.len());
    if !case.prompt.is_empty() && !run.goes_on(&case.prompt, Feed::Prompt) {
        assert!(run.machine.now() <= most, "a prompt");
        return 0.0;
    }
    for (number, &token) in case.tokens.iter().enumerate() {
        let (begun, most) = (run.machine.now(), run.most(0, 1));
        run.goes_on(&[token], Feed::Generated);
        let took = run.machine.now() - begun;
        assert!(took <= most, "token {number}: {took:?}, at most {most:?}");
    }
    let took = run.machine.now();
    assert!(took <= most, "{took:?}, at most {most:?}");
    took.as_secs_f64() / most.as_secs_f64()
}

fn rate() -> impl Strategy<Value = u64> {
    (1..100u64, 2..7u32).prop_map(|(digits, zeros)| digits * 10u64.pow(zeros))
}

#[test]
fn no_run_takes_longer_than_the_worst_case() {
    let longest = Cell::new(0f64);
    judge_all(2000, &(case(), rate(), rate(), any::<bool>()), |drawn| {
        let (case, macs_per_second, bytes_per_second, overlaps) = drawn;
        let rates = Rates { macs_per_second, bytes_per_second };
        let share = share(&case, Machine { rates, overlaps, nanos: AtomicU64::new(0) });
        longest.set(longest.get().max(share));
    });
    println!("the longest run took {:.3} of its worst case", longest.get());
    assert!(longest.get() > 0.9, "the worst case is far from every run: {:.3}", longest.get());
}

/// By hand: a token of three loops through one layer, 8 wide, with 8 for queries, 4 for keys and for values,
/// 12 in the middle, a vocabulary of 10 and weights of four bytes.
#[test]
fn the_time_of_a_token_by_hand() {
    let mut store = MemoryStore::new(draft().build());
    let (_, model) = open(&mut store);
    let mut session = session(model, Settings::new(model, 8, 1));
    let weights = 8 * (8 + 4 + 4 + 8 + 3 * 12);
    // A score and a value of the position itself, and the head.
    let macs = 3 * (weights + 8 + 8) + 8 * 10;
    // With the two norms that lie between matrices; the head, and one row of the embedding.
    let (layer, rest) = (4 * (weights + 8 + 8), 4 * 8 * 10 + 4 * 8);
    let bytes = 3 * layer + rest;
    let cost = session.worst_case(&store, 1, 0, Needs::NOTHING);
    assert_eq!((cost.macs, cost.bytes), (macs, bytes));
    let before = store.counters().bytes;
    session.feed(&[5], Feed::Prompt).unwrap();
    session.run(&mut store, &FixedDepth).unwrap();
    // The only layer is still at hand in the second loop and the third.
    assert_eq!((session.counters().macs, store.counters().bytes - before), (macs, layer + rest));
    // One second to compute and two to fetch.
    let rates = Rates { macs_per_second: macs, bytes_per_second: bytes / 2 };
    assert_eq!(cost.time(&rates), Duration::from_secs(3));
    // 333 333 and two thirds, rounded up to a nanosecond, and three and a half.
    let cost = Cost { macs: 1_000_001, bytes: 7, ..Cost::default() };
    let rates = Rates { macs_per_second: 3, bytes_per_second: 2 };
    assert_eq!(cost.time(&rates), Duration::new(333_337, 166_666_667));
}
