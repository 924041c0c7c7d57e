//! `ouro trace` against the values of the original model code.

use ouro_tests::harness::golden;
use ouro_tests::{Ran, run_command, worst};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::path::Path;

/// A golden folder, and a file in it of the same f32 weights.
const MODELS: [(&str, &str); 3] =
    [("mha", "mha/mha-f32.gguf"), ("wide", "wide/wide-f32.gguf"), ("lively", "lively/lively-gate-f32.gguf")];
const LIVELY: &str = "lively/lively-gate-f32.gguf";

fn trace(model: &str, args: &[&str]) -> Ran {
    let model = golden(model);
    let args = [&["trace", "-m", model.to_str().unwrap()], args].concat();
    run_command(env!("CARGO_BIN_EXE_ouro-tested"), &args, b"")
}

fn tensors(bytes: &[u8]) -> SafeTensors<'_> {
    SafeTensors::deserialize(bytes).unwrap()
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = tensors.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
    tensor.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn ids(tensors: &SafeTensors<'_>) -> Vec<i64> {
    let tensor = tensors.tensor("input_ids").unwrap();
    let data = tensor.data();
    match tensor.dtype() {
        Dtype::I64 => data.chunks_exact(8).map(|id| i64::from_le_bytes(id.try_into().unwrap())).collect(),
        // So in some of the golden data.
        Dtype::I32 => {
            data.chunks_exact(4).map(|id| i32::from_le_bytes(id.try_into().unwrap()).into()).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// The expected values of a golden folder, and its ids as an argument.
fn expected(folder: &str) -> (Vec<u8>, String) {
    let bytes = std::fs::read(golden(folder).join("expected.safetensors")).unwrap();
    let ids: Vec<String> = ids(&tensors(&bytes)).iter().map(i64::to_string).collect();
    (bytes, ids.join(","))
}

fn write_out(model: &str, ids: &str, out: &Path, more: &[&str]) -> Vec<u8> {
    let args = [&["--tokens", ids, "--out", out.to_str().unwrap()], more].concat();
    let _ = trace(model, &args).text();
    std::fs::read(out).unwrap()
}

#[test]
fn written_tensors_equal_the_original() {
    let dir = tempfile::tempdir().unwrap();
    for (folder, model) in MODELS {
        let (expected, prompt) = expected(folder);
        let expected = tensors(&expected);
        let out = dir.path().join(folder);
        let found = write_out(model, &prompt, &out, &[]);
        assert_eq!(found, write_out(model, &prompt, &out, &["--store", "file", "--block-buffer", "4K"]));
        let found = tensors(&found);
        assert_eq!(found.tensor("input_ids").unwrap().dtype(), Dtype::I64);
        assert_eq!(ids(&found), ids(&expected));
        for name in ["hidden", "gate_logits", "logits"] {
            if name == "gate_logits" && folder != "lively" {
                assert!(found.tensor(name).is_err(), "{model} has no gate");
                continue;
            }
            let (shape, wanted) = (found.tensor(name).unwrap(), expected.tensor(name).unwrap());
            assert_eq!(shape.shape(), wanted.shape(), "{folder} {name}");
            let worst = worst(&floats(&found, name), &floats(&expected, name));
            println!("{folder} {name}: worst difference {worst:e}");
            assert!(worst <= 2e-4, "{folder} {name}: {worst}");
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), MODELS.len(), "no temporary file is left");
}

/// What the definitions of the policies give for the expected values, in f64.
struct Reference {
    loops: usize,
    positions: usize,
    hidden: Vec<f32>,
    gate_logits: Vec<f32>,
    logits: Vec<f32>,
}

impl Reference {
    fn row<'v>(&self, values: &'v [f32], t: usize, position: usize) -> &'v [f32] {
        let width = values.len() / self.loops / self.positions;
        &values[(t * self.positions + position) * width..][..width]
    }

    fn lambda(&self, t: usize, position: usize) -> f64 {
        1.0 / (1.0 + (-f64::from(self.row(&self.gate_logits, t, position)[0])).exp())
    }

    fn cdf(&self, t: usize, position: usize) -> f64 {
        1.0 - (0..=t).map(|t| 1.0 - self.lambda(t, position)).product::<f64>()
    }

    fn step(&self, t: usize, position: usize) -> f64 {
        let (h, before) = (self.row(&self.hidden, t, position), self.row(&self.hidden, t - 1, position));
        let norm =
            |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        norm(&mut h.iter().zip(before).map(|(h, b)| h - b)) / norm(&mut before.iter().copied())
    }

    /// Ids and probabilities, the likeliest first.
    fn ranking(&self, t: usize, position: usize) -> Vec<(usize, f64)> {
        let logits = self.row(&self.logits, t, position);
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        let mut ranking: Vec<_> =
            logits.iter().map(|logit| f64::from(*logit).exp() / sum).enumerate().collect();
        ranking.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranking
    }

    /// What a policy compares with its threshold; it stops where this is not negative.
    fn excess(&self, policy: &str, t: usize, position: usize) -> f64 {
        let (name, threshold) = policy.split_once('=').unwrap();
        let threshold: f64 = threshold.parse().unwrap();
        let ranking = self.ranking(t, position);
        match name {
            "q" => self.cdf(t, position) - threshold,
            "confidence" => ranking[0].1 - threshold,
            "margin" => ranking[0].1 - ranking[1].1 - threshold,
            "step" if t == 0 => -1.0,
            "step" => threshold - self.step(t, position),
            _ => panic!("{name}"),
        }
    }

    /// The depth, or `None` where a comparison is too close to tell.
    fn depth(&self, policy: &str, position: usize) -> Option<usize> {
        for t in 0..self.loops - 1 {
            let excess = self.excess(policy, t, position);
            if excess.abs() < 1e-4 {
                return None;
            }
            if excess > 0.0 {
                return Some(t + 1);
            }
        }
        Some(self.loops)
    }
}

fn close(found: &Value, expected: f64) -> bool {
    (found.as_f64().unwrap() - expected).abs() < 2e-4
}

#[test]
fn figures_follow_from_the_expected_values() {
    let (bytes, prompt) = expected("lively");
    let values = tensors(&bytes);
    let shape = values.tensor("hidden").unwrap().shape().to_vec();
    let reference = Reference {
        loops: shape[0],
        positions: shape[1],
        hidden: floats(&values, "hidden"),
        gate_logits: floats(&values, "gate_logits"),
        logits: floats(&values, "logits"),
    };
    let policies = ["q=0.5", "q=0.9", "confidence=0.3", "margin=0.1", "step=0.5"];
    let exits = policies.iter().flat_map(|policy| ["--exit", policy]);
    let args: Vec<&str> = ["--tokens", &prompt, "--json", "--top", "4"].into_iter().chain(exits).collect();
    let found = trace(LIVELY, &args).json();
    assert_eq!(found["positions"].as_array().unwrap().len(), reference.positions);

    let mut depths = std::collections::BTreeSet::new();
    for position in 0..reference.positions {
        let at = &found["positions"][position];
        for t in 0..reference.loops {
            let record = &at["loops"][t];
            assert!(close(&record["lambda"], reference.lambda(t, position)), "{position} {t}: {record}");
            assert!(close(&record["cdf"], reference.cdf(t, position)), "{position} {t}: {record}");
            match t {
                0 => assert!(record["step"].is_null()),
                _ => assert!(close(&record["step"], reference.step(t, position)), "{position} {t}: {record}"),
            }
            let ranking = reference.ranking(t, position);
            assert_eq!(record["top"].as_array().unwrap().len(), 4);
            for (rank, top) in record["top"].as_array().unwrap().iter().enumerate() {
                assert!(close(&top["probability"], ranking[rank].1), "{position} {t} {rank}: {record}");
                let id = top["id"].as_u64().unwrap() as usize;
                let same = ranking.iter().find(|(known, _)| *known == id).unwrap().1;
                assert!(close(&top["probability"], same), "{position} {t} {rank}: {record}");
            }
        }
        for policy in policies {
            if let Some(depth) = reference.depth(policy, position) {
                assert_eq!(at["exits"][policy], depth, "{policy} at {position}");
                depths.insert((policy, depth));
            }
        }
    }
    assert!(depths.len() > 8, "the policies hardly differ: {depths:?}");
}

#[test]
fn text_goes_through_the_chat_template_unless_raw() {
    let pieces = |args: &[&str]| -> String {
        let found = trace(LIVELY, &[&["--json", "Hi"], args].concat()).json();
        let positions = found["positions"].as_array().unwrap().clone();
        positions.iter().map(|position| position["piece"].as_str().unwrap()).collect()
    };
    assert_eq!(pieces(&["--raw"]), "Hi");
    assert_eq!(pieces(&[]), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

#[test]
fn the_table_fits_a_terminal() {
    let thresholds: Vec<String> = (10..40).map(|i| format!("confidence=0.{i}")).collect();
    let exits = thresholds.iter().flat_map(|policy| ["--exit", policy]);
    let args: Vec<&str> = ["--top", "9", "Hello, world"].into_iter().chain(exits).collect();
    for (_, model) in MODELS {
        let table = trace(model, &args);
        let table = table.text();
        for line in table.lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
        assert!(table.contains("\"<|im_start|>\"") && table.contains("confidence=0.39"), "{table}");
        assert_eq!(table.contains("lambda"), model == LIVELY);
    }
    let default = trace(LIVELY, &["--tokens", "1"]);
    for policy in ["q=0.5", "q=0.7", "q=0.9", "confidence=0.9", "margin=0.5", "step=0.1"] {
        assert!(default.text().contains(policy), "{policy}");
    }
}

#[test]
fn loops_beyond_the_trained_ones_are_said_so() {
    let ran = trace(LIVELY, &["--tokens", "5", "--loops", "6", "--json"]);
    assert_eq!(ran.json()["positions"][0]["loops"].as_array().unwrap().len(), 6);
    assert!(ran.stderr.contains("trained"), "{}", ran.stderr);
}

#[test]
fn wrong_usage_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("trace.safetensors");
    let out = out.to_str().unwrap();
    let nowhere = dir.path().join("no/such/folder");
    let cases: [(&[&str], i32, &[&str]); 9] = [
        (&[], 2, &["TEXT"]),
        (&["text", "--tokens", "1"], 2, &["--tokens"]),
        (&["--tokens", "1,x"], 2, &["\"x\" found"]),
        (&["--tokens", ""], 2, &["found"]),
        (&["--tokens", "1,512"], 2, &["512", "511"]),
        (&["--tokens", "1", "--loops", "0"], 2, &["--loops"]),
        (&["--tokens", "1", "--exit", "sometimes"], 2, &["sometimes"]),
        (&["--raw", ""], 2, &["no tokens"]),
        (&["--tokens", "1", "--exit", "q=0.5"], 2, &["--gate-from"]),
    ];
    for (args, code, words) in cases {
        trace("mha/mha-f32.gguf", &[args, &["--out", out]].concat()).expect_error(code, words);
    }
    trace(LIVELY, &["--tokens", "1", "--out", nowhere.to_str().unwrap()])
        .expect_error(1, &["no/such/folder"]);
    trace("mha/config.json", &["--tokens", "1", "--out", out]).expect_error(3, &["not a GGUF file"]);
    trace("no-such-file", &["--tokens", "1", "--out", out]).expect_error(3, &["no-such-file"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
