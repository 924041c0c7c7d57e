//! `ouro eval --perplexity` as users run it, against the logits of the original model code.

use ouro_tests::harness::golden;
use ouro_tests::{Ran, run_command, smollm2};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::path::Path;

fn ouro(args: &[&str]) -> Ran {
    run_command(env!("CARGO_BIN_EXE_ouro-tested"), args, b"")
}

fn lively() -> String {
    golden("lively/lively-gate-f32.gguf").to_str().unwrap().to_owned()
}

fn saved(dir: &Path, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn rows(args: &[&str]) -> Vec<Value> {
    let ran = ouro(&[&["eval", "--json", "-"], args].concat());
    serde_json::from_str(ran.text()).unwrap_or_else(|error| panic!("{error}: {}", ran.text()))
}

/// The golden ids, and the original code's logits, `[T, S, V]`.
fn original() -> (Vec<u32>, Vec<Vec<Vec<f64>>>) {
    let bytes = std::fs::read(golden("lively/expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let ids = tensors.tensor("input_ids").unwrap();
    let width = ids.data().len() / ids.shape().iter().product::<usize>();
    let ids = ids.data().chunks_exact(width).map(|id| u32::from_le_bytes(id[..4].try_into().unwrap()));
    let logits = tensors.tensor("logits").unwrap();
    let &[_, positions, vocab] = logits.shape() else { panic!("{:?}", logits.shape()) };
    let values = logits.data().as_chunks().0.iter().map(|value| f64::from(f32::from_le_bytes(*value)));
    let values: Vec<f64> = values.collect();
    let by_loop = values.chunks_exact(positions * vocab);
    (ids.collect(), by_loop.map(|all| all.chunks_exact(vocab).map(<[f64]>::to_vec).collect()).collect())
}

/// The negative log-probability of a token.
fn surprise(logits: &[f64], token: u32) -> f64 {
    logits.iter().map(|logit| logit.exp()).sum::<f64>().ln() - logits[token as usize]
}

#[test]
fn perplexities_are_those_of_the_original_logits() {
    let dir = tempfile::tempdir().unwrap();
    let (ids, logits) = original();
    let file = saved(dir.path(), "ids.json", json!(ids).to_string());
    let window = ids.len().to_string();
    let exact = ["--backend", "reference", "--kv-type", "f32", "-m", &lively()];
    let rows =
        rows(&[&exact[..], &["--tokens-file", &file, "--window", &window, "--loops", "4,1,2"]].concat());
    assert_eq!(rows.len(), 3);
    for (row, loops) in rows.iter().zip([1, 2, 4]) {
        let scored = ids.len() / 2..ids.len() - 1;
        let count = scored.len() as f64;
        let surprises: Vec<f64> =
            scored.map(|position| surprise(&logits[loops - 1][position], ids[position + 1])).collect();
        let mean = surprises.iter().sum::<f64>() / count;
        let variance = surprises.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
        let close = |key: &str, expected: f64| {
            let found = row[key].as_f64().unwrap();
            assert!((found / expected - 1.0).abs() < 1e-4, "{loops} loops, {key}: {found}, {expected}");
        };
        assert_eq!((&row["loops"], &row["positions"]), (&json!(loops), &json!(count as u64)));
        assert!(row.get("agreement").is_none());
        close("perplexity", mean.exp());
        close("standard_error", mean.exp() * (variance / count).sqrt());
    }
}

#[test]
fn agreement_is_with_the_reference_path() {
    let dir = tempfile::tempdir().unwrap();
    let (ids, _) = original();
    let ids: Vec<u32> = ids.iter().cycle().take(96).copied().collect();
    let file = saved(dir.path(), "ids.json", json!(ids).to_string());
    let model = golden("mha/mha-Q4_0.gguf");
    let compare = |more: &[&str]| {
        let args = ["--tokens-file", &file, "--window", "32", "--agreement", "-m", model.to_str().unwrap()];
        let rows = rows(&[&args[..], more].concat());
        assert_eq!((rows.len(), &rows[0]["positions"]), (1, &json!(3 * 15)));
        let figure = |key: &str| rows[0][key].as_f64().unwrap();
        [figure("agreement"), figure("divergence"), figure("disagreeing_margin"), figure("perplexity")]
    };
    let [agreement, divergence, margin, perplexity] = compare(&["--backend", "reference"]);
    assert_eq!([agreement, divergence, margin], [100.0, 0.0, 0.0]);
    let scalar = compare(&["--backend", "scalar"]);
    let [agreement, divergence, _, close] = scalar;
    assert!(agreement <= 100.0 && agreement > 50.0, "{agreement}");
    assert!(divergence > 0.0 && divergence < 0.1, "{divergence}");
    assert!(close != perplexity && (close / perplexity - 1.0).abs() < 0.05, "{close} {perplexity}");
    // The same bits on every back end, and for any number of threads.
    assert_eq!(compare(&["--backend", "auto", "--threads", "1"]), scalar);
    assert_eq!(compare(&["--backend", "auto", "--threads", "3"]), scalar);
    // Two sessions read the same tiles from a file.
    assert_eq!(compare(&["--ram", "40M", "--threads", "2"]), scalar);
}

#[test]
fn a_text_is_its_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let words = "stop belt7 and set fan4 to 20, then ask tank7. ".repeat(12);
    let text = saved(dir.path(), "text.txt", &words);
    let ids = ouro(&["tokenize", "--json", &words]).json()["ids"].clone();
    let ids = saved(dir.path(), "ids.json", ids.to_string());
    let [by_text, by_ids] = [["--perplexity", &text], ["--tokens-file", &ids]].map(|source| {
        let rows = rows(&[&source[..], &["--window", "64"]].concat());
        assert_eq!(rows[0]["loops"], 4);
        rows
    });
    assert_eq!(by_text, by_ids);
    let table = ouro(&["eval", "--perplexity", &text, "--window", "64", "--agreement", "--loops", "1,4"]);
    for word in ["loops", "perplexity", "agreement %", "divergence"] {
        assert!(table.text().contains(word), "{word}: {}", table.text());
    }
    assert_eq!((table.text().lines().count(), &*table.stderr), (3, ""));
}

#[test]
fn bad_input() {
    let dir = tempfile::tempdir().unwrap();
    let text = saved(dir.path(), "a.txt", "short");
    let bytes = saved(dir.path(), "b.txt", [0xff]);
    let object = saved(dir.path(), "o.json", "{\"ids\":[1,2]}");
    let high = saved(dir.path(), "h.json", json!(vec![511; 64]).to_string());
    let cases: [(&[&str], i32, &[&str]); 9] = [
        (&["--perplexity", "no-such-file"], 3, &["no-such-file"]),
        (&["--perplexity", &text], 3, &["a.txt", "less than a window of 512", "--window"]),
        (&["--perplexity", &bytes], 3, &["b.txt", "not UTF-8"]),
        (&["--tokens-file", &object], 3, &["o.json", "JSON array of token ids"]),
        (&["--tokens-file", &high, "--window", "32"], 2, &["511", "383"]),
        (&["--perplexity", &text, "--tokens-file", &high], 2, &["cannot be used with"]),
        (&["--perplexity", &text, "--exit", "fixed"], 2, &["cannot be used with"]),
        (&["--perplexity", &text, "--window", "1"], 2, &["1"]),
        (&["questions.jsonl", "--agreement"], 2, &["cannot be used with"]),
    ];
    for (args, code, words) in cases {
        ouro(&[&["eval"], args].concat()).expect_error(code, words);
    }
}

/// Real weights: eight-bit activations cost next to nothing. llama.cpp, which also quantizes them,
/// takes another token than exact arithmetic at 1 of 30 positions (`golden/smollm2/README.md`).
#[test]
fn smollm2_keeps_its_choices() {
    let Some(model) = smollm2() else { return };
    let text = std::fs::read_to_string(golden("smollm2/greedy.json")).unwrap();
    let greedy: Value = serde_json::from_str(&text).unwrap();
    std::thread::scope(|scope| {
        for case in greedy["greedy"].as_array().unwrap() {
            let ids: Vec<u64> = ["prompt_ids", "exact_ids"]
                .iter()
                .flat_map(|key| case[key].as_array().unwrap())
                .map(|id| id.as_u64().unwrap())
                .collect();
            if ids.len() >= 80 {
                scope.spawn(|| keeps_choices(&model, case["name"].as_str().unwrap(), ids));
            }
        }
    });
}

fn keeps_choices(model: &Path, name: &str, ids: Vec<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let (file, window) = (saved(dir.path(), "ids.json", json!(ids).to_string()), ids.len().to_string());
    let args = ["--tokens-file", &file, "--window", &window, "--agreement", "-m", model.to_str().unwrap()];
    let row = &rows(&args)[0];
    println!("{name}: {row}");
    assert!(row["agreement"].as_f64().unwrap() > 100.0 * 29.0 / 30.0 - 3.0, "{row}");
    assert!(row["divergence"].as_f64().unwrap() < 0.02, "{row}");
}
