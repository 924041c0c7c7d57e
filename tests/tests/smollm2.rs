//! Real weights: SmolLM2-135M-Instruct against exact arithmetic on the same weights
//! (`tests/golden/smollm2/README.md`). Skipped where the file was not fetched.

use ouro_runtime::depth::FixedDepth;
use ouro_runtime::kv::{KvSettings, KvSharing, KvType};
use ouro_runtime::sample::argmax;
use ouro_runtime::session::Settings;
use ouro_tests::harness::{Loaded, golden, greedy, load, session, trace};
use ouro_tests::{run_command, smollm2, worst};
use safetensors::SafeTensors;
use serde::Deserialize;
use std::fs;
use std::path::Path;
use xtask::build::repository;

#[derive(Deserialize)]
struct Sequences {
    sequences: Vec<Sequence>,
}

#[derive(Deserialize)]
struct Sequence {
    name: String,
    ids: Vec<u32>,
    argmax: Vec<u32>,
    margin: Vec<f32>,
    next_logprob: Vec<f64>,
    logits_std: f32,
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

fn settings(context: usize, rows: usize) -> Settings {
    let kv = KvSettings { sharing: KvSharing::PerLoop, element: KvType::F32, window: 0 };
    Settings { context, rows, max_loops: 1, min_loops: 1, kv }
}

/// A margin below which the README calls the choice a tie.
const TIE: f32 = 1e-3;

#[test]
fn logits_and_log_probabilities_are_exact() {
    let Some(path) = smollm2() else { return };
    let Loaded { mut store, model, .. } = load(&path);
    let vocab = model.config().vocab;
    let text = fs::read_to_string(golden("smollm2/sequences.json")).unwrap();
    let Sequences { sequences } = serde_json::from_str(&text).unwrap();
    let bytes = fs::read(golden("smollm2/sequences.safetensors")).unwrap();
    let finals = SafeTensors::deserialize(&bytes).unwrap();
    for sequence in sequences {
        let Sequence { name, ids, argmax: best, margin, next_logprob, logits_std } = sequence;
        let mut session = session(model, settings(ids.len(), ids.len()));
        let trace = trace(&mut session, &mut store, &FixedDepth, &ids, vocab).unwrap();
        let logits: Vec<&[f32]> = trace.logits.chunks_exact(vocab).collect();
        for (position, logits) in logits.iter().enumerate() {
            if margin[position] > TIE {
                assert_eq!(argmax(logits), best[position], "{name}, position {position}");
            }
        }
        assert_eq!((logits.len(), best.len()), (ids.len(), ids.len()), "{name}");
        let pairs = ids[1..].iter().zip(&logits);
        let found: Vec<f64> = pairs.map(|(next, logits)| log_probability(logits, *next)).collect();
        let worst_logprob = worst(&found, &next_logprob);
        let data = finals.tensor(&format!("{name}.final_logits")).unwrap();
        let expected = data.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let last = logits[ids.len() - 1];
        let worst = worst(last, &expected.collect::<Vec<f32>>()) / f64::from(logits_std);
        println!(
            "{name}: logits differ by {worst:.1e} of their deviation, log-probabilities by {worst_logprob:.1e}"
        );
        // The README's bound; plain f32 arithmetic is within 3.8e-5.
        assert!(worst < 1e-3, "{name}: {worst}");
        // The same bound in logits, which are all that a log-probability is made of.
        assert!(worst_logprob < f64::from(1e-3 * logits_std), "{name}: {worst_logprob}");
    }
}

fn log_probability(logits: &[f32], id: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
    f64::from(logits[id as usize] - max) - sum.ln()
}

#[test]
fn greedy_continuations_are_exact() {
    let Some(path) = smollm2() else { return };
    let text = fs::read_to_string(golden("smollm2/greedy.json")).unwrap();
    let Greedy { greedy: cases } = serde_json::from_str(&text).unwrap();
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| continuation_is_exact(&path, case));
        }
    });
}

fn continuation_is_exact(path: &Path, case: Continuation) {
    let Continuation { name, prompt_ids, exact_ids, exact_margin } = case;
    let Loaded { mut store, model, .. } = load(path);
    let mut session = session(model, settings(prompt_ids.len() + exact_ids.len(), prompt_ids.len()));
    let count = exact_ids.len();
    let turn = greedy(&mut session, &mut store, &FixedDepth, &prompt_ids, count).unwrap();
    let until_tie = exact_margin.iter().position(|margin| *margin < TIE).unwrap_or(count);
    assert_eq!(turn.tokens[..until_tie], exact_ids[..until_tie], "{name}");
    println!("{name}: {until_tie} of {count} tokens identical");
}

/// The question that README asks on the command line, and the answer that it gives.
#[test]
fn the_answer_in_the_readme() {
    let Some(path) = smollm2() else { return };
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let mut lines = readme.lines();
    let question = lines.find_map(|line| line.split_once("SmolLM2-135M-Instruct.Q4_1.gguf ")).unwrap().1;
    let question = question.trim_matches('"');
    let ran =
        run_command(env!("CARGO_BIN_EXE_ouro-tested"), &["run", "-m", path.to_str().unwrap(), question], b"");
    assert_eq!(ran.text().trim_end(), lines.next().unwrap(), "{question}");
}
