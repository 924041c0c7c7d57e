//! Budgets: what tokens may cost, against the rule written once more as a plain loop, over random
//! models, policies, budgets and clocks (that jump, go back, or stand still).

use ouro::budget::Rapl;
use ouro_runtime::clock::Clock;
use ouro_runtime::depth::{Bucket, Budget, EnergyMeter, LOOP, Left};
use ouro_runtime::depth::{ExitPolicy, FixedDepth, LoopState, Margin, Needs, QExit, Reason};
use ouro_runtime::depth::{StepDifference, TopProbability};
use ouro_runtime::kv::{KvSettings, KvSharing, KvType};
use ouro_runtime::model::{Model, Tiles};
use ouro_runtime::session::{Depth, Feed, Session, SessionError, Settings, Step};
use ouro_runtime::store::{Fault, Faulty, MemoryStore, Span, Store};
use ouro_tests::harness::{Loaded, golden, load, open, session};
use ouro_tests::model_draft::{Draft, FFN, HIDDEN, VOCAB, draft};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A clock and a meter that show what they are told to.
#[derive(Debug, Default)]
struct Hands {
    millis: AtomicU64,
    joules: AtomicU64,
}

impl Clock for Hands {
    fn now(&self) -> Duration {
        Duration::from_millis(self.millis.load(Relaxed))
    }
}

impl EnergyMeter for Hands {
    fn microjoules(&self) -> u64 {
        self.joules.load(Relaxed)
    }
}

/// A store in which every load takes time and energy, and with several tiles to a layer.
type Ticking = Faulty<MemoryStore<Vec<u8>>, Box<dyn FnMut(u64, Span) -> Option<Fault>>, [u8; 300]>;

/// Each load takes the next of `ticks`, over and over. A tick of 100 or more sets the clock back.
fn ticking(store: MemoryStore<Vec<u8>>, hands: &'static Hands, ticks: Vec<u64>) -> Ticking {
    let tick = move |load, _| {
        let tick = ticks[load as usize % ticks.len()];
        let now = hands.millis.load(Relaxed);
        let now = if tick < 100 { now + tick } else { now.saturating_sub(tick) };
        hands.millis.store(now, Relaxed);
        hands.joules.fetch_add(tick % 7, Relaxed);
        None
    };
    Faulty::new(store, Box::new(tick), [0; 300])
}

#[derive(Clone, Copy, Debug)]
enum Policy {
    Fixed,
    Q(f32),
    Probability(f32),
    Margin(f32),
    Step(f32),
}

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

/// Stops at one depth, whatever the state.
struct StopAt(usize);

impl ExitPolicy for StopAt {
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    fn exit(&self, state: &LoopState<'_>) -> Option<Reason> {
        (state.loops >= self.0).then_some(Reason::Other("told to"))
    }
}

/// A run to be judged.
#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    layers: usize,
    settings: Settings,
    budget: Budget,
    policy: Policy,
    ticks: Vec<u64>,
    prompt: Vec<u32>,
    tokens: Vec<u32>,
}

/// About the bytes of a layer.
const LAYER_BYTES: u64 = 4 * (HIDDEN * (8 + 4 + 4 + 8) + 3 * HIDDEN * FFN);

/// Bytes of a pass and the head after it; and the least that a budget of bytes must add per token,
/// which what [`case`] gives is beyond: the fallback depth, an embedding, and the largest tile.
fn fetched(model: &Model<'_>, store: &Ticking, case: &Case) -> (u64, u64) {
    let sizes = |tiles: Tiles<'_>| tiles.map(|tile| tile.span.len as u64).collect::<Vec<_>>();
    let (stack, head) =
        (sizes(model.stack_tiles(store.max_tile())), sizes(model.head_tiles(store.max_tile())));
    let largest = stack.iter().chain(&head).max().unwrap();
    let (pass, head): (u64, u64) = (stack.iter().sum(), head.iter().sum());
    (pass + head, case.budget.fallback as u64 * pass + head + 4 * HIDDEN + largest)
}

/// Perhaps a bucket that can pay `least` for every token, and up to so many `units` more.
fn bucket(least: u64, unit: u64) -> impl Strategy<Value = Option<Bucket>> {
    let bucket = (0..=3 * unit, 0..=8 * unit, 0..=100u64).prop_map(move |(spare, burst, resume)| Bucket {
        rate: least + spare,
        burst,
        resume: burst * resume / 100,
    });
    proptest::option::weighted(0.6, bucket)
}

fn time(most: u64) -> impl Strategy<Value = Option<Duration>> {
    proptest::option::weighted(0.4, (0..most).prop_map(Duration::from_millis))
}

prop_compose! {
    /// Settings, layers and a fallback depth.
    fn shape()(max_loops in 1..6usize)(
        max_loops in Just(max_loops),
        min_loops in 1..=max_loops,
        fallback in 0..5usize,
        layers in 1..4usize,
        sharing in prop::sample::select(KvSharing::ALL.to_vec()),
        element in prop::sample::select(vec![KvType::F32, KvType::F16, KvType::Int8, KvType::Int4]),
        window in 1..6usize,
    ) -> (Settings, usize, usize) {
        let kv = KvSettings { sharing, element, window };
        let fallback = min_loops + fallback % (max_loops - min_loops + 1);
        (Settings { context: 32, rows: 5, max_loops, min_loops, kv }, layers, fallback)
    }
}

prop_compose! {
    fn case()((settings, layers, fallback) in shape())(
        loops in bucket(fallback as u64 * LOOP, LOOP),
        bytes in bucket(0, layers as u64 * LAYER_BYTES),
        energy in bucket(10, 60),
        token_time in time(150),
        answer_time in time(2000),
        policy in prop_oneof![
            Just(Policy::Fixed),
            (0.2..1f32).prop_map(Policy::Q),
            (0.1..1f32).prop_map(Policy::Probability),
            (0f32..1.0).prop_map(Policy::Margin),
            (0.05..1f32).prop_map(Policy::Step),
        ],
        ticks in prop_oneof![
            prop::collection::vec(prop_oneof![8 => 0..4u64, 1 => 4..99u64, 1 => 100..160u64], 1..40),
            Just(vec![0]),
        ],
        prompt in prop::collection::vec(0..VOCAB as u32, 1..6),
        tokens in prop::collection::vec(0..VOCAB as u32, 1..24),
        seed in any::<u64>(),
        settings in Just(settings),
        layers in Just(layers),
        fallback in Just(fallback),
    ) -> Case {
        let budget = Budget { loops, bytes, energy, fallback, token_time, answer_time };
        Case { seed, layers, settings, budget, policy, ticks, prompt, tokens }
    }
}

/// A small model with random weights.
fn model_file(case: &Case) -> Vec<u8> {
    let layers = |draft: &mut Draft| {
        draft.seed = Some(case.seed);
        let layer: Vec<_> =
            draft.tensors.iter().filter(|(name, _)| name.starts_with("blk.0")).cloned().collect();
        for number in 1..case.layers {
            let renamed = layer
                .iter()
                .map(|(name, dims)| (name.replace("blk.0", &format!("blk.{number}")), dims.clone()));
            draft.tensors.extend(renamed);
        }
        draft.gate = (0..HIDDEN).map(|i| (i as f32 - 4.0) / 8.0).collect();
        draft.gate_bias = Some(-1.0);
    };
    draft().set("block_count", case.layers as u32).with(layers).build()
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
    store: Ticking,
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
    let (fetched, rate) = fetched(model, &store, case);
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
    let Some(depth) = judge.prompt() else {
        *seen.entry("out of time in the prompt").or_default() += 1;
        return;
    };
    free.feed(&case.prompt, Feed::Prompt).unwrap();
    assert_eq!(free.run(&mut free_store, &judge.policy), Ok(depth));
    assert_eq!(bits(judge.session.logits()), bits(free.logits()), "after the prompt");
    let mut taken = Vec::new();
    for (n, &token) in case.tokens.iter().enumerate() {
        let (counters, worst_token) =
            (judge.session.counters(), judge.session.worst_case(&judge.store, 0, 1, needs));
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
            let within = |bucket: Option<Bucket>, sum: u64| {
                bucket.is_none_or(|bucket| sum <= bucket.burst + n * bucket.rate)
            };
            assert!(within(loops, LOOP * sum.loops), "{n} tokens from {first}: {sum:?}");
            assert!(within(bytes, sum.bytes), "{n} tokens from {first}: {sum:?}");
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
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&case(), |case| {
        judge(&case, &mut seen.borrow_mut());
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let seen = seen.into_inner();
    println!("{cases} runs; tokens that stopped by: {seen:?}");
    for reason in
        Reason::ALL.map(Reason::name).into_iter().chain(["out of time", "out of time in the prompt"])
    {
        assert!(seen.get(reason).is_some_and(|times| *times > 20), "{reason} is hardly seen: {seen:?}");
    }
}

/// Counted over the tensors in the file: every weight of the stack once per position and loop, scores
/// and values over all positions that a query reads, and the head where its logits are read.
#[test]
fn work_is_that_of_the_tensors() {
    let Loaded { mut store, gguf, model } = load(&golden("lively/lively-gate-f32.gguf"));
    let mut session = session(model, Settings::new(model, 40, 12));
    let config = *model.config();
    let (mut stack, mut head) = (0, 0);
    for tensor in gguf.tensors() {
        let weights = tensor.dims[0] * tensor.dims[1];
        store.load(tensor.name(), None).unwrap();
        match store.tile() {
            b"output.weight" => head = weights,
            name if name.starts_with(b"blk.") && tensor.n_dims == 2 => stack += weights,
            _ => {}
        }
    }
    assert!(stack > 0 && head > 0);
    let (layers, loops, width) =
        (config.layers as u64, config.loops as u64, (config.heads * config.head_dim) as u64);
    let reads = |query: u64| 2 * width * query * layers;
    let worst = session.worst_case(&store, 12, 3, Needs::NOTHING);
    let prompt = loops * (12 * stack + (1..=12).map(reads).sum::<u64>()) + head;
    session.feed(&[7; 12], Feed::Prompt).unwrap();
    session.run(&mut store, &FixedDepth).unwrap();
    assert_eq!(session.counters().macs, prompt);
    let mut expected = prompt;
    for (query, depth) in [(13, 1), (14, 3), (15, loops)] {
        session.feed(&[7], Feed::Generated).unwrap();
        session.run(&mut store, &StopAt(depth as usize)).unwrap();
        expected += depth * (stack + reads(query)) + head;
        assert_eq!(session.counters().macs, expected);
    }
    let most = prompt + 3 * (loops * (stack + reads(15)) + head);
    assert_eq!((worst.loops, worst.heads, worst.macs), (15 * loops, 4, most));
    // Fetched once for all positions of a prompt; of the embedding one row for each position.
    let row = 4 * config.hidden as u64;
    assert!(worst.bytes >= 4 * (4 * loops * stack + 4 * head) + 15 * row, "{worst:?}");
    assert!(store.counters().bytes >= worst.bytes / 2, "not far from what was fetched: {worst:?}");
}

/// The processor's counter goes on with every tile; two packages, one of which wraps.
#[test]
fn energy_as_the_kernel_counts_it() {
    let sysfs = tempfile::tempdir().unwrap();
    let zones = ["intel-rapl:0", "intel-rapl:1"].map(|zone| sysfs.path().join("class/powercap").join(zone));
    for zone in &zones {
        std::fs::create_dir_all(zone).unwrap();
        std::fs::write(zone.join("name"), "package-0\n").unwrap();
        std::fs::write(zone.join("max_energy_range_uj"), "100\n").unwrap();
        std::fs::write(zone.join("energy_uj"), "0\n").unwrap();
    }
    let Loaded { mut store, model, .. } = load(&golden("lively/lively-gate-f32.gguf"));
    // Ten microjoules a tile: a layer is one, the head is one, an embedding is one.
    let mut loads = 0;
    let tick = |_, _| {
        loads += 1;
        std::fs::write(zones[loads % 2].join("energy_uj"), format!("{}\n", loads.div_ceil(2) * 10 % 100))
            .unwrap();
        None
    };
    let layers = model.config().layers as u64;
    let meter: &'static Rapl = Box::leak(Box::new(Rapl::open(sysfs.path()).unwrap()));
    let mut session = session(model, Settings::new(model, 32, 8));
    session.set_energy_meter(meter);
    // Two loops, an embedding and a head are paid, and one loop more is saved up.
    let per_loop = 10 * layers;
    let bucket = Bucket { rate: 2 * per_loop + 20, burst: per_loop, resume: per_loop };
    let budget = Budget { energy: Some(bucket), ..Budget::UNLIMITED };
    session.set_budget(budget, &store).unwrap();
    session.feed(&[175, 462, 33], Feed::Prompt).unwrap();
    session.run(&mut store, &FixedDepth).unwrap();
    let mut store = Faulty::new(store, tick, vec![0; 800_000]);
    let mut depths = Vec::new();
    for token in [7, 8, 9, 10] {
        session.feed(&[token], Feed::Generated).unwrap();
        let Depth { loops, reason } = session.run(&mut store, &FixedDepth).unwrap();
        depths.push((loops, reason.name(), session.budget_left().energy.unwrap()));
    }
    let full = per_loop as i64;
    let expected = [(3, "budget", 0), (1, "fallback", full), (3, "budget", 0), (1, "fallback", full)];
    assert_eq!(depths, expected);
}
