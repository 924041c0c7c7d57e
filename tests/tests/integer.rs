//! Whole models on the integer kernels: the same bits whatever computes them, and answers close
//! to those of the f32 path.

use ouro_runtime::depth::FixedDepth;
use ouro_runtime::kernels::{Backend, SmallestPiece, Workers};
use ouro_runtime::kv::{KvSettings, KvSharing, KvType};
use ouro_runtime::sample::argmax;
use ouro_runtime::session::{Feed, Session, Settings};
use ouro_runtime::store::Store;
use ouro_tests::PagedStore;
use ouro_tests::harness::{Loaded, golden, greedy, load, open, session, trace};
use ouro_tests::smollm2;
use serde::Deserialize;
use std::fs;

/// Of every kind of kernel and of layer: multi-head and grouped-query attention, all loops.
const FILES: [&str; 5] = [
    "mha/mha-Q8_0.gguf",
    "mha/mha-Q4_0.gguf",
    "wide/wide-Q8_0.gguf",
    "wide/wide-Q4_0.gguf",
    "wide/wide-Q4_K_M.gguf",
];
const PROMPT: [u32; 12] = [175, 462, 33, 245, 459, 222, 73, 404, 493, 503, 476, 191];

fn settings(max_loops: usize, sharing: KvSharing, element: KvType) -> Settings {
    let kv = KvSettings { sharing, element, window: max_loops - 1 };
    Settings { context: 64, rows: 16, max_loops, min_loops: 1, kv }
}

/// Bits of the logits after a prompt, fed `part` positions at a time, and after six more tokens.
fn run<S: Store>(session: &mut Session<'_>, store: &mut S, part: usize) -> Vec<u32> {
    let mut bits = Vec::new();
    let mut keep = |session: &mut Session<'_>| {
        bits.extend(session.logits().iter().map(|logit| logit.to_bits()));
        argmax(session.logits())
    };
    for part in PROMPT.chunks(part) {
        session.feed(part, Feed::Prompt).unwrap();
        session.run(store, &FixedDepth).unwrap();
    }
    for _ in 0..6 {
        let token = keep(session);
        session.feed(&[token], Feed::Generated).unwrap();
        session.run(store, &FixedDepth).unwrap();
    }
    keep(session);
    bits
}

/// Each piece on its own thread, the last one first, and however small it is.
#[derive(Debug)]
struct Threads(usize);

impl Workers for Threads {
    fn count(&self) -> usize {
        self.0
    }

    fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for piece in (0..pieces).rev() {
                scope.spawn(move || work(piece));
            }
        });
    }

    fn smallest_piece(&self) -> SmallestPiece {
        SmallestPiece { matrix: 1, attention: 1, groups: 1, silu: 1 }
    }
}

#[test]
fn the_same_bits_everywhere() {
    let backends: Vec<_> = Backend::available().filter(|backend| backend.is_integer()).collect();
    println!("back ends: {backends:?}");
    for name in FILES {
        let Loaded { mut store, model, .. } = load(&golden(name));
        let loops = model.config().loops;
        for (sharing, element) in [
            (KvSharing::Last, KvType::Int8),
            (KvSharing::Averaged, KvType::Int4),
            (KvSharing::PerLoop, KvType::F16),
        ] {
            let settings = settings(loops, sharing, element);
            let mut scalar = session(model, settings);
            scalar.set_backend(Backend::SCALAR);
            let expected = run(&mut scalar, &mut store, PROMPT.len());
            let mut reference = session(model, settings);
            assert_ne!(run(&mut reference, &mut store, PROMPT.len()), expected, "{name}: not integer");

            for backend in &backends {
                let mut session = session(model, settings);
                session.set_backend(*backend);
                let found = run(&mut session, &mut store, PROMPT.len());
                assert_eq!(found, expected, "{name}, {sharing:?}, {element:?}: {backend}");
            }
        }
    }
}

#[test]
fn threads_tiles_and_passes_change_no_bit() {
    for name in FILES {
        let file = fs::read(golden(name)).unwrap();
        let Loaded { mut store, model, .. } = load(&golden(name));
        // Only with every loop's K/V does a prompt in parts read what a whole one does.
        let settings = settings(model.config().loops, KvSharing::PerLoop, KvType::F32);
        let fastest = || {
            let mut session = session(model, settings);
            session.set_backend(Backend::fastest());
            session
        };
        let expected = run(&mut fastest(), &mut store, PROMPT.len());
        for part in [1, 2, 5] {
            assert_eq!(run(&mut fastest(), &mut store, part), expected, "{name}: {part} at a time");
        }
        for workers in [&Threads(1), &Threads(2), &Threads(3), &Threads(7)] {
            let mut session = fastest();
            session.set_workers(workers);
            assert_eq!(run(&mut session, &mut store, 12), expected, "{name}: {workers:?}");
        }
        for buffer in [640, 4096, 30_001] {
            let mut paged = PagedStore::new(&file, buffer);
            let (_, model) = open(&mut paged);
            let mut session = session(model, settings);
            session.set_backend(Backend::fastest());
            assert_eq!(run(&mut session, &mut paged, 12), expected, "{name}: buffer of {buffer} bytes");
        }
    }
}

/// Eight-bit activations cost no more than they cost llama.cpp, whose differences from exact
/// arithmetic `tests/golden/README.md` puts at 0.03 of the logits' deviation in root mean square,
/// for `wide`. `mha` enlarges any rounding more (0.06 here) and nobody else's figure is known.
#[test]
fn near_the_f32_path() {
    for name in FILES {
        let Loaded { mut store, model, .. } = load(&golden(name));
        let config = model.config();
        let settings = settings(config.loops, KvSharing::PerLoop, KvType::F32);
        let [exact, found] = &[Backend::REFERENCE, Backend::fastest()].map(|backend| {
            let mut session = session(model, settings);
            session.set_backend(backend);
            trace(&mut session, &mut store, &FixedDepth, &PROMPT, config.vocab).unwrap().logits
        });
        let deviation = root_mean_square(exact);
        let differences: Vec<f32> = exact.iter().zip(found).map(|(a, b)| (*a - *b) / deviation).collect();
        let worst = differences.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        let mean = root_mean_square(&differences);
        println!("{name}: of the deviation, worst {worst:.3}, root mean square {mean:.4}");
        assert!(mean < if name.starts_with("wide") { 0.03 } else { 0.08 }, "{name}: {mean}");
    }
}

fn root_mean_square(values: &[f32]) -> f32 {
    (values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32).sqrt()
}

#[derive(Deserialize)]
struct Greedy {
    greedy: Vec<Continuation>,
}

#[derive(Deserialize)]
struct Continuation {
    name: String,
    prompt_ids: Vec<u32>,
    exact_ids: Vec<u32>,
    exact_margin: Vec<f32>,
}

/// Real weights, each token of the exact continuation given: how often the next one is the
/// likeliest here too. llama.cpp: 571 of 591 over more prompts than are kept here, and never
/// another one where the margin is over 0.22 (`tests/golden/smollm2/README.md`).
#[test]
fn smollm2_agrees_with_exact_arithmetic() {
    let Some(path) = smollm2() else { return };
    let Loaded { mut store, model, .. } = load(&path);
    let text = fs::read_to_string(golden("smollm2/greedy.json")).unwrap();
    let Greedy { greedy: cases } = serde_json::from_str(&text).unwrap();
    let (mut same, mut all) = (0, 0);
    for Continuation { name, prompt_ids, exact_ids, exact_margin } in cases {
        let ids = [&prompt_ids[..], &exact_ids[..exact_ids.len() - 1]].concat();
        let kv = KvSettings { sharing: KvSharing::Last, element: KvType::F16, window: 0 };
        let settings = Settings { context: ids.len(), rows: ids.len(), max_loops: 1, min_loops: 1, kv };
        let mut session = session(model, settings);
        session.set_backend(Backend::fastest());
        let vocab = model.config().vocab;
        let trace = trace(&mut session, &mut store, &FixedDepth, &ids, vocab).unwrap();
        let predicted = trace.logits.chunks_exact(vocab).skip(prompt_ids.len() - 1).map(argmax);
        for ((predicted, exact), margin) in predicted.zip(&exact_ids).zip(exact_margin) {
            assert!(predicted == *exact || margin <= 0.22, "{name}: {predicted} for {exact} at {margin}");
            same += usize::from(predicted == *exact);
            all += 1;
        }
    }
    println!("{same} of {all} tokens");
    assert!(same * 591 > all * 571, "{same} of {all}");
}

#[test]
fn greedy_text_of_a_real_model_is_the_same_on_every_back_end() {
    let Some(path) = smollm2() else { return };
    let Loaded { mut store, model, .. } = load(&path);
    let prompt: Vec<u32> = (1000..1009).collect();
    let settings = settings(1, KvSharing::Last, KvType::Int8);
    let mut expected = None;
    for backend in Backend::available().filter(|backend| backend.is_integer()) {
        let mut session = session(model, settings);
        session.set_backend(backend);
        let turn = greedy(&mut session, &mut store, &FixedDepth, &prompt, 4).unwrap();
        let bits: Vec<u32> = session.logits().iter().map(|logit| logit.to_bits()).collect();
        let (tokens, expected) = expected.get_or_insert((turn.tokens.clone(), bits.clone()));
        assert_eq!((&turn.tokens, &bits), (&*tokens, &*expected), "{backend}");
    }
}
