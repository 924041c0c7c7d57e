//! Budgets: what tokens may cost, against the rule written once more as a plain loop, over random runs.

mod case;
mod time;

use case::{Case, Hands, Pinning, Policy, case, fetched, judge_all, model_file, pins, ticking};
use ouro_runtime::depth::{Bucket, Budget, ExitPolicy, FixedDepth, LOOP, Left, LoopState, Margin, Needs};
use ouro_runtime::depth::{QExit, Reason, StepDifference, TopProbability};
use ouro_runtime::model::Model;
use ouro_runtime::session::{Depth, Feed, Session, SessionError, Settings, Step};
use ouro_runtime::store::{MemoryStore, Pin, Pinned, Store};
use ouro_tests::harness::{StopAt, open, session};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

/// Remembers what a policy said last.
struct Overheard {
    policy: Policy,
    said: Cell<Option<(usize, Option<Reason>)>>,
}

impl Overheard {
    fn inner(&self) -> Box<dyn ExitPolicy> {
        match self.policy {
            Policy::Fixed => Box::new(FixedDepth),
            Policy::Q(q) => Box::new(QExit(q)),
            Policy::Probability(p) => Box::new(TopProbability(p)),
            Policy::Margin(margin) => Box::new(Margin(margin)),
            Policy::Step(change) => Box::new(StepDifference(change)),
        }
    }
}

impl ExitPolicy for Overheard {
    fn needs(&self) -> Needs {
        self.inner().needs()
    }

    fn exit(&self, state: &LoopState<'_>) -> Option<Reason> {
        let reason = self.inner().exit(state);
        self.said.set(Some((state.loops, reason)));
        reason
    }
}

/// A bucket, as the rule has it.
#[derive(Clone, Copy, Debug)]
struct Purse {
    bucket: Bucket,
    level: i128,
}

impl Purse {
    fn carried(&self) -> i128 {
        self.level.min(self.bucket.burst.into())
    }
}

/// What one token took.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    loops: u64,
    bytes: u64,
}

/// The rule, over the steps of a session as they happen.
struct Judge<'c> {
    case: &'c Case,
    hands: &'static Hands,
    /// Bytes of a pass through the stack and of the head.
    loop_and_head: u64,
    session: Session<'static>,
    store: Pinning,
    policy: Overheard,
    /// Of loops, bytes and energy.
    purses: [Option<Purse>; 3],
    fallback: bool,
    exhausted: bool,
    deadline: Option<u64>,
    loop_time: u64,
    head_time: u64,
    loop_energy: i128,
    head_energy: i128,
    taken: Taken,
}

/// What a step took.
struct Took {
    millis: u64,
    energy: i128,
}

impl Judge<'_> {
    fn now(&self) -> u64 {
        self.hands.millis.load(Relaxed)
    }

    fn step(&mut self, expected: Result<Step, SessionError>, generated: bool) -> Took {
        let (millis, joules, bytes) =
            (self.now(), self.hands.joules.load(Relaxed), self.store.counters().bytes);
        let found = self.session.step(&mut self.store, &self.policy);
        assert_eq!(found, expected);
        let bytes = self.store.counters().bytes - bytes;
        let energy = i128::from(self.hands.joules.load(Relaxed) - joules);
        self.taken.bytes += bytes;
        if generated {
            self.pay(1, bytes.into());
            self.pay(2, energy);
        }
        Took { millis: self.now().saturating_sub(millis), energy }
    }

    fn pay(&mut self, purse: usize, cost: i128) {
        if let Some(purse) = &mut self.purses[purse] {
            purse.level -= cost;
        }
    }

    fn head(&mut self, loops: usize, generated: bool) {
        let took = self.step(Ok(Step::Head { loops }), generated);
        (self.head_time, self.head_energy) = (took.millis, took.energy);
    }

    fn is_late(&self, needed: u64) -> bool {
        self.deadline.is_some_and(|deadline| self.now() + needed >= deadline)
    }

    /// A prompt runs all its loops or none; what it costs is in no bucket.
    fn prompt(&mut self) -> Option<Depth> {
        let Settings { max_loops, min_loops, .. } = self.case.settings;
        let answer_time = self.case.budget.answer_time.map(|time| time.as_millis() as u64);
        self.deadline = answer_time.map(|time| self.now() + time);
        self.session.feed(&self.case.prompt, Feed::Prompt).unwrap();
        let mut answer = None;
        for loops in 1..=max_loops {
            for layer in 1..=self.case.layers {
                if self.is_late(0) {
                    self.step(Err(SessionError::OutOfTime { loops: loops - 1 }), false);
                    return None;
                }
                self.step(Ok(Step::Layer { loops, layer }), false);
            }
            self.policy.said.set(None);
            self.step(Ok(Step::Loop { loops }), false);
            let asks = self.policy.needs().logits && loops >= min_loops;
            let asks_by_logits = answer.is_none() && asks && loops < max_loops;
            if asks_by_logits {
                self.head(loops, false);
            }
            if answer.is_none() {
                let said = self.policy.said.get().and_then(|(_, reason)| reason);
                let reason = if loops == max_loops { Some(Reason::Fixed) } else { said };
                answer = reason.map(|reason| Depth { loops, reason });
                if answer.is_some() && !asks_by_logits {
                    self.head(loops, false);
                }
            }
        }
        self.step(Ok(Step::Done(answer.unwrap())), false);
        answer
    }

    /// One generated token: its depth, if there was time for it.
    fn token(&mut self, token: u32) -> Option<Depth> {
        let Settings { max_loops, min_loops, .. } = self.case.settings;
        let Budget { fallback, token_time, .. } = self.case.budget;
        self.taken = Taken::default();
        let answer_deadline = self.deadline;
        let token_deadline = token_time.map(|time| self.now() + time.as_millis() as u64);
        self.deadline = [answer_deadline, token_deadline].into_iter().flatten().min();
        if self.fallback {
            self.fallback =
                self.purses.iter().flatten().any(|purse| purse.carried() < purse.bucket.resume.into());
        }
        self.fallback |= std::mem::take(&mut self.exhausted);
        for purse in self.purses.iter_mut().flatten() {
            purse.level = purse.carried() + i128::from(purse.bucket.rate);
        }
        self.session.feed(&[token], Feed::Generated).unwrap();
        let mut depth = None;
        let mut has_logits = false;
        for loops in 1..=max_loops {
            let done = loops - 1;
            let began = self.now();
            let mut energy = 0;
            for layer in 1..=self.case.layers {
                let enough = done >= min_loops;
                if self.is_late(if enough { self.head_time } else { 0 }) {
                    if enough {
                        depth = Some(Depth { loops: done, reason: Reason::Deadline });
                    } else {
                        self.step(Err(SessionError::OutOfTime { loops: done }), true);
                        self.deadline = answer_deadline;
                        return None;
                    }
                    break;
                }
                if layer == 1 {
                    self.pay(0, LOOP.into());
                    self.taken.loops += 1;
                }
                energy += self.step(Ok(Step::Layer { loops, layer }), true).energy;
            }
            if depth.is_some() {
                break;
            }
            self.policy.said.set(None);
            has_logits = false;
            energy += self.step(Ok(Step::Loop { loops }), true).energy;
            (self.loop_time, self.loop_energy) = (self.now().saturating_sub(began), energy);
            let mut reason = None;
            if self.fallback {
                reason = (loops == fallback).then_some(Reason::Fallback);
            } else if loops == max_loops {
                reason = Some(Reason::Fixed);
            } else if loops >= min_loops {
                if self.policy.needs().logits {
                    self.head(loops, true);
                    has_logits = true;
                }
                let (asked_at, said) = self.policy.said.get().expect("it was asked");
                assert_eq!(asked_at, loops);
                reason = said;
            }
            if self.fallback || loops < min_loops || loops == max_loops {
                assert_eq!(self.policy.said.get(), None, "not to be asked");
            }
            if reason.is_none() && loops >= min_loops {
                let costs = [LOOP.into(), self.loop_and_head.into(), self.loop_energy + self.head_energy];
                let short = self
                    .purses
                    .iter()
                    .zip(costs)
                    .any(|(purse, cost)| purse.is_some_and(|purse| purse.level < cost));
                if short && !self.fallback {
                    reason = Some(Reason::Budget);
                    self.exhausted = true;
                } else if self.is_late(self.loop_time + self.head_time) {
                    reason = Some(Reason::Deadline);
                }
            }
            if let Some(reason) = reason {
                depth = Some(Depth { loops, reason });
                break;
            }
        }
        let depth = depth.unwrap();
        if !has_logits {
            self.head(depth.loops, true);
        }
        self.step(Ok(Step::Done(depth)), true);
        self.deadline = answer_deadline;
        Some(depth)
    }
}

/// Judges one run; counts the reasons.
fn judge(case: &Case, seen: &mut BTreeMap<&'static str, usize>) {
    let hands: &'static Hands = Box::leak(Box::default());
    let memory = MemoryStore::new(model_file(case));
    let mut store = ticking(memory.clone(), hands, case.ticks.clone());
    let (_, model) = open(&mut store);
    let (pins, kept) = pins(model, store.max_tile(), case);
    let (fetched, rate) = fetched(model, store.max_tile(), &kept, case);
    let room = kept.iter().map(|pin| pin.len).sum::<usize>();
    let store = Pinned::new(store, pins.into_iter().map(Pin::new).collect(), vec![0; room]);
    let mut case = case.clone();
    if let Some(bytes) = &mut case.budget.bytes {
        bytes.rate += rate;
    }
    let case = &case;
    let mut session = session(model, case.settings);
    session.set_clock(hands);
    session.set_energy_meter(hands);
    session.set_budget(case.budget, &store).unwrap();
    let purse = |bucket: Option<Bucket>| bucket.map(|bucket| Purse { bucket, level: bucket.burst.into() });
    let Budget { loops, bytes, energy, .. } = case.budget;
    let mut judge = Judge {
        case,
        hands,
        loop_and_head: fetched,
        session,
        store,
        policy: Overheard { policy: case.policy, said: Cell::new(None) },
        purses: [loops, bytes, energy].map(purse),
        fallback: false,
        exhausted: false,
        deadline: None,
        loop_time: 0,
        head_time: 0,
        loop_energy: 0,
        head_energy: 0,
        taken: Taken::default(),
    };
    // The same tokens at the same depths without any budget.
    let mut free_store = memory;
    let mut free = free_session(model, case);

    let needs = judge.policy.needs();
    let before = judge.store.counters().bytes;
    let worst = judge.session.worst_case(&judge.store, case.prompt.len(), case.tokens.len(), needs);
    assert_eq!(worst.filling, room as u64);
    if !case.prompt.is_empty() {
        let Some(depth) = judge.prompt() else {
            *seen.entry("out of time in the prompt").or_default() += 1;
            return;
        };
        free.feed(&case.prompt, Feed::Prompt).unwrap();
        assert_eq!(free.run(&mut free_store, &judge.policy), Ok(depth));
        assert_eq!(bits(judge.session.logits()), bits(free.logits()), "after the prompt");
    }
    let mut filling = Vec::new();
    let mut taken = Vec::new();
    for (n, &token) in case.tokens.iter().enumerate() {
        let (counters, worst_token) =
            (judge.session.counters(), judge.session.worst_case(&judge.store, 0, 1, needs));
        assert!(worst_token.filling == 0 || case.prompt.is_empty(), "a prompt fills all pins");
        filling.push(worst_token.filling);
        let depth = judge.token(token);
        taken.push(judge.taken);
        assert!(judge.taken.loops <= worst_token.loops && judge.taken.bytes <= worst_token.bytes);
        assert!(judge.session.counters().macs - counters.macs <= worst_token.macs);
        assert!(judge.session.counters().heads - counters.heads <= worst_token.heads);
        let [loops, bytes, energy] = judge.purses.map(|purse| purse.map(|purse| purse.carried() as i64));
        let left = judge.session.budget_left();
        assert_eq!(left, Left { loops, bytes, energy, ..left });
        assert_eq!(judge.session.is_in_fallback(), judge.fallback || judge.exhausted);
        *seen.entry(depth.map_or("out of time", |depth| depth.reason.name())).or_default() += 1;
        let Some(depth) = depth else { continue };
        free.feed(&[token], Feed::Generated).unwrap();
        assert_eq!(free.run(&mut free_store, &StopAt(depth.loops)).map(|depth| depth.loops), Ok(depth.loops));
        assert_eq!(bits(judge.session.logits()), bits(free.logits()), "token {n}, {depth:?}");
    }
    let counters = judge.session.counters();
    let begun: u64 = taken.iter().map(|taken| taken.loops).sum();
    let prompt_loops = (case.prompt.len() * case.settings.max_loops) as u64;
    assert!(begun + prompt_loops <= worst.loops, "{begun} loops, {worst:?}");
    assert!(counters.heads <= worst.heads && counters.macs <= worst.macs, "{counters:?}, {worst:?}");
    assert!(judge.store.counters().bytes - before <= worst.bytes, "{worst:?}");
    for first in 0..taken.len() {
        let mut sum = Taken::default();
        for (n, taken) in (1..).zip(&taken[first..]) {
            sum = Taken { loops: sum.loops + taken.loops, bytes: sum.bytes + taken.bytes };
            let within = |bucket: Option<Bucket>, once: u64, sum: u64| {
                bucket.is_none_or(|bucket| sum <= bucket.burst + n * bucket.rate + once)
            };
            assert!(within(loops, 0, LOOP * sum.loops), "{n} tokens from {first}: {sum:?}");
            assert!(within(bytes, filling[first], sum.bytes), "{n} tokens from {first}: {sum:?}");
        }
    }
}

fn free_session(model: &'static Model<'static>, case: &Case) -> Session<'static> {
    session(model, case.settings)
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn every_token_within_its_budget() {
    let cases = 5000;
    let seen = RefCell::new(BTreeMap::new());
    judge_all(cases, &case(), |case| judge(&case, &mut seen.borrow_mut()));
    let seen = seen.into_inner();
    println!("{cases} runs; tokens that stopped by: {seen:?}");
    for reason in
        Reason::ALL.map(Reason::name).into_iter().chain(["out of time", "out of time in the prompt"])
    {
        assert!(seen.get(reason).is_some_and(|times| *times > 20), "{reason} is hardly seen: {seen:?}");
    }
}
