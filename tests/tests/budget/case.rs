//! Random runs: models, policies, budgets, and clocks that jump, go back, or stand still.

use ouro_runtime::clock::Clock;
use ouro_runtime::depth::{Bucket, Budget, EnergyMeter, LOOP};
use ouro_runtime::kv::{KvSettings, KvSharing, KvType};
use ouro_runtime::model::{Model, Tile};
use ouro_runtime::session::Settings;
use ouro_runtime::store::{Fault, Faulty, MemoryStore, Pin, Pinned, Span};
use ouro_tests::model_draft::{Draft, FFN, HIDDEN, VOCAB, draft};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A clock and a meter that show what they are told to.
#[derive(Debug, Default)]
pub(crate) struct Hands {
    pub millis: AtomicU64,
    pub joules: AtomicU64,
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
pub(crate) type Ticking = Faulty<MemoryStore<Vec<u8>>, Box<dyn FnMut(u64, Span) -> Option<Fault>>, [u8; 300]>;

/// The same with some tiles kept: they take nothing any more once they were read.
pub(crate) type Pinning = Pinned<Ticking, Vec<Pin>, Vec<u8>>;

/// Each load takes the next of `ticks`, over and over. A tick of 100 or more sets the clock back.
pub(crate) fn ticking(store: MemoryStore<Vec<u8>>, hands: &'static Hands, ticks: Vec<u64>) -> Ticking {
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
pub(crate) enum Policy {
    Fixed,
    Q(f32),
    Probability(f32),
    Margin(f32),
    Step(f32),
}

/// A run to be judged.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    seed: u64,
    pub layers: usize,
    pub settings: Settings,
    pub budget: Budget,
    pub policy: Policy,
    pub ticks: Vec<u64>,
    /// None in some: then the first token fills the pins.
    pub prompt: Vec<u32>,
    pub tokens: Vec<u32>,
    /// Which tiles are pinned, over and over; the last of them lack so many bytes of memory.
    pins: Vec<bool>,
    lacking: usize,
}

/// About the bytes of a layer.
const LAYER_BYTES: u64 = 4 * (HIDDEN * (8 + 4 + 4 + 8) + 3 * HIDDEN * FFN);

/// The tiles that are to be pinned, in order of offset, and those for which there is room.
pub(crate) fn pins(model: &Model<'_>, max: usize, case: &Case) -> (Vec<Span>, Vec<Span>) {
    let tiles = model.stack_tiles(max).chain(model.head_tiles(max)).map(|tile| tile.span);
    let chosen = tiles.zip(case.pins.iter().cycle()).filter(|(_, is_pinned)| **is_pinned);
    let mut pins: Vec<Span> = chosen.map(|(tile, _)| tile).collect();
    pins.sort_by_key(|pin| pin.offset);
    let mut room = pins.iter().map(|pin| pin.len).sum::<usize>().saturating_sub(case.lacking);
    let kept = pins.iter().take_while(|pin| room.checked_sub(pin.len).map(|left| room = left).is_some());
    let kept = kept.copied().collect();
    (pins, kept)
}

/// Bytes of a pass and the head after it; and the least that a budget of bytes must add per token,
/// which what [`case`] gives is beyond: the fallback depth, an embedding, and the largest load.
pub(crate) fn fetched(model: &Model<'_>, max: usize, kept: &[Span], case: &Case) -> (u64, u64) {
    let size = |tile: Tile| if kept.contains(&tile.span) { 0 } else { tile.span.len as u64 };
    let tiles = model.stack_tiles(max).chain(model.head_tiles(max));
    let largest = tiles.map(size).max().unwrap().max(4 * HIDDEN);
    let (pass, head): (u64, u64) =
        (model.stack_tiles(max).map(size).sum(), model.head_tiles(max).map(size).sum());
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
    pub(crate) fn case()((settings, layers, fallback) in shape())(
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
        prompt in prop::collection::vec(0..VOCAB as u32, 0..6),
        tokens in prop::collection::vec(0..VOCAB as u32, 1..24),
        pins in prop_oneof![Just(vec![false]), prop::collection::vec(any::<bool>(), 1..9)],
        lacking in prop_oneof![3 => Just(0), 1 => 1..1000usize],
        seed in any::<u64>(),
        settings in Just(settings),
        layers in Just(layers),
        fallback in Just(fallback),
    ) -> Case {
        let budget = Budget { loops, bytes, energy, fallback, token_time, answer_time };
        Case { seed, layers, settings, budget, policy, ticks, prompt, tokens, pins, lacking }
    }
}

/// Judges so many random runs. A failure names the simplest run that fails, and the seed of all of them.
pub(crate) fn judge_all<S: Strategy>(cases: u32, runs: &S, judge: impl Fn(S::Value)) {
    let mut config = Config { cases, failure_persistence: None, ..Config::default() };
    if matches!(config.rng_seed, RngSeed::Random) {
        config.rng_seed = RngSeed::Fixed(RandomState::new().hash_one(cases));
    }
    let seed = config.rng_seed;
    let result = TestRunner::new(config).run(runs, |run| {
        judge(run);
        Ok(())
    });
    if let Err(error) = result {
        panic!("PROPTEST_RNG_SEED={seed}: {error}");
    }
}

/// A small model with random weights.
pub(crate) fn model_file(case: &Case) -> Vec<u8> {
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
