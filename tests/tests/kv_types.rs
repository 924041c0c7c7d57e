//! What smaller types of K and V cost: the divergence of the predictions from those with f32.

use ouro_runtime::depth::FixedDepth;
use ouro_runtime::kernels::Backend;
use ouro_runtime::kv::{KvSettings, KvSharing, KvType};
use ouro_runtime::session::Settings;
use ouro_tests::harness::{Loaded, golden, load, session, trace};
use ouro_tests::{run_command, smollm2};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// Natural logarithms of the probabilities of all ids after each position in the last loop, `[S, vocab]`.
fn predictions(model: &mut Loaded, element: KvType, ids: &[u32]) -> Vec<Vec<f64>> {
    let config = model.model.config();
    let kv = KvSettings { sharing: KvSharing::PerLoop, element, window: 0 };
    let (context, loops) = (ids.len(), config.loops);
    let settings = Settings { context, rows: context, max_loops: loops, min_loops: 1, kv };
    let mut session = session(model.model, settings);
    session.set_backend(Backend::fastest());
    let trace = trace(&mut session, &mut model.store, &FixedDepth, ids, config.vocab).unwrap();
    let last = trace.logits.chunks_exact(config.vocab).skip((loops - 1) * context);
    last.map(|logits| {
        let largest = logits.iter().fold(f64::NEG_INFINITY, |max, logit| max.max(f64::from(*logit)));
        let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - largest).exp()).sum();
        logits.iter().map(|logit| f64::from(*logit) - largest - sum.ln()).collect()
    })
    .collect()
}

/// Compares each smaller type with f32 over all texts: its mean divergence (KL, nats) is to be below
/// its bound.
fn check(path: &Path, texts: &[Vec<u32>], bounds: [(KvType, f64); 3]) {
    let mut model = load(path);
    let exact: Vec<_> = texts.iter().flat_map(|ids| predictions(&mut model, KvType::F32, ids)).collect();
    println!("{}, {} positions", path.display(), exact.len());
    for (element, bound) in bounds {
        let found = texts.iter().flat_map(|ids| predictions(&mut model, element, ids));
        let divergences = exact.iter().zip(found).map(|(exact, found)| {
            exact.iter().zip(found).map(|(exact, found)| exact.exp() * (exact - found)).sum::<f64>()
        });
        let mean = divergences.sum::<f64>() / exact.len() as f64;
        println!("{element:?}: divergence {mean:.6}");
        assert!(mean > 0.0 && mean < bound, "{element:?}: {mean}, expected less than {bound}");
    }
}

#[derive(Deserialize)]
struct Greedy {
    greedy: Vec<Continuation>,
}

#[derive(Deserialize)]
struct Continuation {
    prompt_ids: Vec<u32>,
    exact_ids: Vec<u32>,
}

// Bounds are a quarter above what was measured. The bits are the same everywhere, so what exceeds them is
// another definition of a type.

#[test]
fn smollm2_predicts_nearly_the_same() {
    let Some(path) = smollm2() else { return };
    let text = std::fs::read_to_string(golden("smollm2/greedy.json")).unwrap();
    let Greedy { greedy } = serde_json::from_str(&text).unwrap();
    let texts: Vec<_> = greedy.into_iter().map(|case| [case.prompt_ids, case.exact_ids].concat()).collect();
    check(&path, &texts, [(KvType::F16, 0.0057), (KvType::Int8, 0.0085), (KvType::Int4, 0.124)]);
}

#[test]
fn the_built_in_model_predicts_nearly_the_same() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("models/ouro-pico/ouro-pico-Q8_0.gguf");
    let lines = include_str!("../data/pico-eval.jsonl").lines().step_by(40);
    let texts: Vec<_> = lines.map(|line| ids(&path, &serde_json::from_str(line).unwrap())).collect();
    check(&path, &texts, [(KvType::F16, 0.000363), (KvType::Int8, 0.000474), (KvType::Int4, 0.0102)]);
}

/// A line of the evaluation set as a conversation.
fn ids(model: &Path, line: &Value) -> Vec<u32> {
    let text = format!(
        "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>\n",
        line["prompt"].as_str().unwrap(),
        line["answer"].as_str().unwrap()
    );
    let args = ["tokenize", "--json", "-m", model.to_str().unwrap(), "-"];
    let ran = run_command(env!("CARGO_BIN_EXE_ouro-tested"), &args, text.as_bytes());
    let tokens: Value = serde_json::from_str(ran.text()).unwrap();
    serde_json::from_value(tokens["ids"].clone()).unwrap()
}
