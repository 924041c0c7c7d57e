//! `ouro calibrate`: its figures computed once more from what the session itself shows, and what
//! the other commands make of the file it writes.

use ouro_runtime::depth::{ExitPolicy, FixedDepth};
use ouro_runtime::model::{ExitDefault, ExitKind};
use ouro_runtime::sample::argmax;
use ouro_runtime::session::{Feed, Session, Settings};
use ouro_runtime::store::Store;
use ouro_tests::harness::{Trace, golden, load, session, trace};
use ouro_tests::{Ran, run_command};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn ouro(args: &[&str]) -> Ran {
    run_command(env!("CARGO_BIN_EXE_ouro-tested"), args, b"")
}

const TEXT: &str = "Open the valve when tank 7 is above 15, then stop belt 3. Is the pump running? \
                    The heater feeds the mixer, and the mixer feeds the line; 60 plus 70 is 130.";

/// A copy of lively, and data to calibrate it on.
fn model_and_data(dir: &Path) -> (String, String) {
    let (model, data) = (dir.join("model.gguf"), dir.join("data.txt"));
    std::fs::copy(golden("lively/lively-gate-f32.gguf"), &model).unwrap();
    std::fs::write(&data, TEXT).unwrap();
    (model.to_str().unwrap().to_owned(), data.to_str().unwrap().to_owned())
}

fn calibrate(model: &str, data: &str, options: &[&str]) -> Value {
    ouro(&[&["calibrate", "-m", model, "--data", data, "--json"], options].concat()).json()
}

fn keys(model: &str) -> Value {
    ouro(&["inspect", model, "--json"]).json()["metadata"].clone()
}

fn ids(model: &str, text: &str) -> Vec<u32> {
    serde_json::from_value(ouro(&["tokenize", "-m", model, "--plain", "--json", text]).json()["ids"].clone())
        .unwrap()
}

/// Depth and agreement of a policy, the slow way and in f64.
fn outcome(trace: &Trace, loops: usize, policy: &str, threshold: f64) -> (f64, f64) {
    let rows = trace.gate_logits.len() / loops;
    let (vocab, width) = (trace.logits.len() / loops / rows, trace.hidden.len() / loops / rows);
    let logits = |t: usize, row: usize| &trace.logits[(t * rows + row) * vocab..][..vocab];
    let hidden = |t: usize, row: usize| &trace.hidden[(t * rows + row) * width..][..width];
    let probabilities = |t: usize, row: usize| {
        let top = logits(t, row).iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut all: Vec<f64> = logits(t, row).iter().map(|l| f64::from(l - top).exp()).collect();
        let sum: f64 = all.iter().sum();
        all.iter_mut().for_each(|p| *p /= sum);
        all.sort_by(|a, b| b.total_cmp(a));
        all
    };
    let stops = |t: usize, row: usize| match policy {
        "q" => {
            let stay = |t: usize| 1.0 - 1.0 / (1.0 + (-f64::from(trace.gate_logits[t * rows + row])).exp());
            1.0 - (0..=t).map(stay).product::<f64>() >= threshold
        }
        "confidence" => probabilities(t, row)[0] >= threshold,
        "margin" => probabilities(t, row)[0] - probabilities(t, row)[1] >= threshold,
        "step" => {
            let norm = |h: &mut dyn Iterator<Item = f64>| h.map(|x| x * x).sum::<f64>().sqrt();
            let before = || hidden(t - 1, row).iter().map(|x| f64::from(*x));
            let moved = || hidden(t, row).iter().zip(before()).map(|(x, p)| f64::from(*x) - p);
            t > 0 && norm(&mut moved()) / norm(&mut before()) <= threshold
        }
        other => panic!("{other}"),
    };
    let depth = |row: usize| (0..loops - 1).find(|t| stops(*t, row)).map_or(loops, |t| t + 1);
    let agrees = |row: &usize| argmax(logits(depth(*row) - 1, *row)) == argmax(logits(loops - 1, *row));
    let agreement = (0..rows).filter(agrees).count() as f64 / rows as f64;
    (agreement, (0..rows).map(depth).sum::<usize>() as f64 / rows as f64)
}

/// What a run chooses along `ids`, the first half of them read at once, and at which depths.
fn decode(
    session: &mut Session<'_>,
    store: &mut impl Store,
    policy: &dyn ExitPolicy,
    ids: &[u32],
) -> Vec<(u32, usize)> {
    let (prompt, rest) = ids.split_at(ids.len().div_ceil(2));
    session.clear();
    session.feed(prompt, Feed::Prompt).unwrap();
    let mut chosen = Vec::new();
    for next in rest.iter().map(Some).chain([None]) {
        let depth = session.run(store, policy).unwrap();
        chosen.push((argmax(session.logits()), depth.loops));
        if let Some(next) = next {
            session.feed(&[*next], Feed::Generated).unwrap();
        }
    }
    chosen
}

#[test]
fn figures_computed_once_more() {
    let dir = tempfile::tempdir().unwrap();
    let (model, data) = model_and_data(dir.path());
    let ids = ids(&model, TEXT);
    let mut loaded = load(Path::new(&model));
    let config = *loaded.model.config();
    let mut session = session(loaded.model, Settings::new(loaded.model, ids.len(), ids.len()));
    let trace = trace(&mut session, &mut loaded.store, &FixedDepth, &ids, config.vocab).unwrap();
    let full = decode(&mut session, &mut loaded.store, &FixedDepth, &ids);
    let targets = ["agreement=0.9", "agreement=0.7", "depth=2.5", "depth=1"];
    let mut differing = 0;
    for target in targets {
        let found = calibrate(&model, &data, &["--target", target]);
        assert_eq!(found["positions"], ids.len());
        assert_eq!(found["decoded"], full.len());
        let policies = found["policies"].as_array().unwrap();
        assert_eq!(policies.len(), 4);
        let (name, value) = target.split_once('=').unwrap();
        let value: f64 = value.parse().unwrap();
        for fit in policies {
            let number = |field: &str| fit[field].as_f64().unwrap();
            let policy = fit["policy"].as_str().unwrap();
            let read = |field: &str| fit["reading"][field].as_f64().unwrap();
            let as_read = outcome(&trace, config.loops, policy, number("threshold"));
            assert_eq!((read("agreement"), read("mean_depth")), as_read, "{target} {fit}");

            let kind = ExitKind::ALL.into_iter().find(|kind| kind.name() == policy).unwrap();
            let exit = ExitDefault { kind, threshold: number("threshold") as f32 };
            let chosen = decode(&mut session, &mut loaded.store, &exit, &ids);
            let agreeing = chosen.iter().zip(&full).filter(|(chosen, full)| chosen.0 == full.0).count();
            let agreement = agreeing as f64 / full.len() as f64;
            let mean_depth = chosen.iter().map(|chosen| chosen.1).sum::<usize>() as f64 / full.len() as f64;
            assert_eq!(
                (number("agreement"), number("mean_depth")),
                (agreement, mean_depth),
                "{target} {fit}"
            );
            differing += usize::from(as_read != (agreement, mean_depth));
            let reached = if name == "depth" { mean_depth <= value } else { agreement >= value };
            assert_eq!(fit["reached"], reached, "{target} {fit}");
        }
        // What was chosen is as good as any that reaches the target.
        let better = |fit: &Value, than: &Value| match name {
            "depth" => fit["agreement"].as_f64() > than["agreement"].as_f64(),
            _ => fit["mean_depth"].as_f64() < than["mean_depth"].as_f64(),
        };
        let rivals = policies.iter().filter(|fit| fit["reached"] == true);
        assert!(!rivals.clone().any(|fit| better(fit, &found["chosen"])), "{found}");
        let step = policies.iter().find(|fit| fit["policy"] == "step").unwrap();
        assert_eq!(step["reached"], target != "depth=1", "{target}");
    }
    assert!(differing > 0, "a run is not told from a reading");
}

/// The built-in model's file: what `calibrate` says of decoding is what `run` does with the file that it
/// wrote, with a gate of its own as well.
#[test]
fn depths_are_those_of_run() {
    let dir = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let model = root.join("models/ouro-pico/ouro-pico-Q4_0.gguf");
    let model = model.to_str().unwrap();
    let all = std::fs::read_to_string(root.join("tests/data/pico-calib.jsonl")).unwrap();
    let questions: Vec<&str> = all.lines().step_by(55).collect();
    let data = dir.path().join("some.jsonl");
    std::fs::write(&data, questions.join("\n")).unwrap();
    let out = dir.path().join("out.gguf");
    let out = out.to_str().unwrap();
    for policy in ["q", "margin"] {
        let options = ["--out", out, "--policy", policy, "--target", "agreement=1", "--refit-gate"];
        let chosen = calibrate(model, data.to_str().unwrap(), &options)["chosen"].clone();
        assert_eq!((&chosen["agreement"], &chosen["reached"]), (&json!(1.0), &json!(true)), "{chosen}");
        let (mut tokens, mut loops) = (0, 0);
        for question in &questions {
            let question: Value = serde_json::from_str(question).unwrap();
            let prompt = question["prompt"].as_str().unwrap();
            let run =
                |options: &[&str]| ouro(&[&["run", "-m", out, "--json"], options, &[prompt]].concat()).json();
            let (early, full) = (run(&[]), run(&["--exit", "fixed"]));
            assert_eq!(early["tokens"], full["tokens"], "{policy} {prompt}");
            let depths = early["depths"].as_array().unwrap();
            tokens += depths.len();
            loops += depths.iter().map(|depth| depth.as_u64().unwrap()).sum::<u64>();
        }
        let mean_depth = chosen["mean_depth"].as_f64().unwrap();
        assert!((mean_depth - loops as f64 / tokens as f64).abs() < 1e-9 && mean_depth < 3.0, "{chosen}");
    }
}

#[test]
fn data_that_says_little_is_noted() {
    let dir = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let model = root.join("models/ouro-pico/ouro-pico-Q4_0.gguf");
    let mut lines = String::new();
    for reading in 10..20 {
        let prompt = format!("Limit 70, reading {reading}. Alarm?");
        writeln!(lines, "{}", json!({ "prompt": prompt, "answer": "no" })).unwrap();
    }
    let data = dir.path().join("narrow.jsonl");
    std::fs::write(&data, lines).unwrap();
    let (data, out) = (data.to_str().unwrap(), dir.path().join("out.gguf"));
    let ran =
        ouro(&["calibrate", "-m", model.to_str().unwrap(), "--data", data, "--out", out.to_str().unwrap()]);
    assert!(ran.stderr.contains("note: at only") && ran.stderr.contains("more of what"), "{}", ran.stderr);
    // Even so nothing stops that is less sure than all that was seen.
    let threshold = keys(out.to_str().unwrap())["ouro.exit.threshold"].as_f64().unwrap();
    assert!(threshold > 0.0, "{threshold}");
}

#[test]
fn other_commands_do_as_the_file_says() {
    let dir = tempfile::tempdir().unwrap();
    let (model, data) = model_and_data(dir.path());
    let before = std::fs::read(&model).unwrap();
    let out = dir.path().join("out.gguf");
    let out = out.to_str().unwrap();
    for policy in ["q", "confidence", "margin", "step"] {
        let found = calibrate(&model, &data, &["--out", out, "--policy", policy, "--target", "depth=2.5"]);
        assert_eq!(std::fs::read(&model).unwrap(), before, "--out leaves the model alone");
        let chosen = &found["chosen"];
        assert_eq!(chosen["policy"], policy);
        let keys = keys(out);
        assert_eq!(keys["ouro.exit.policy"], policy);
        assert_eq!(keys["ouro.exit.threshold"], chosen["threshold"]);
        assert_eq!(keys["ouro.exit.target"], "depth=2.5");
        let agreement = keys["ouro.exit.agreement"].as_f64().unwrap();
        assert!((agreement - chosen["agreement"].as_f64().unwrap()).abs() < 1e-6);
        let depth = keys["ouro.exit.mean_depth"].as_f64().unwrap();
        assert!((depth - chosen["mean_depth"].as_f64().unwrap()).abs() < 1e-6);
        let planned = ouro(&["plan", "-m", out, "--gmacs", "1", "--mem", "1GB/s", "--json"]).json();
        assert!((planned["mean_depth"].as_f64().unwrap() - depth).abs() < 1e-6, "{planned}");

        let run = |file: &str, options: &[&str]| {
            let args = ["run", "-m", file, "--json", "--max-new", "16", "--ignore-eos", "open the valve"];
            let found = ouro(&[&args, options].concat()).json();
            json!([found["tokens"], found["depths"], found["reasons"]])
        };
        let exit = format!("{policy}={}", chosen["threshold"]);
        assert_eq!(run(out, &[]), run(&model, &["--exit", &exit]), "{policy}");
        assert_eq!(run(out, &["--exit", "fixed"]), run(&model, &[]), "{policy}");
        assert_ne!(run(out, &[]), run(&model, &[]), "{policy}");

        let question = dir.path().join("question.jsonl");
        std::fs::write(&question, r#"{"prompt":"a","answer":"b","tag":"c"}"#).unwrap();
        let rows = ouro(&["eval", question.to_str().unwrap(), "-m", out, "--json", "-"]);
        let rows: Value = serde_json::from_str(rows.text()).unwrap();
        let exits: Vec<&str> =
            rows.as_array().unwrap().iter().map(|row| row["exit"].as_str().unwrap()).collect();
        assert_eq!(exits, ["fixed", "fixed", &exit, &exit]);
    }
}

#[test]
fn in_place_everything_else_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (model, data) = model_and_data(dir.path());
    let tensors =
        |model: &str| ouro(&["inspect", model, "--json", "--tensors", "--check"]).json()["tensors"].clone();
    let bytes = |model: &str| {
        let bytes = std::fs::read(model).unwrap();
        bytes[bytes.len() - 100_000..].to_vec()
    };
    let shapes = |tensors: Value| -> Vec<Value> {
        tensors.as_array().unwrap().iter().map(|t| json!([t["name"], t["type"], t["shape"]])).collect()
    };
    let (old_keys, old_tensors, old_bytes) = (keys(&model), shapes(tensors(&model)), bytes(&model));
    calibrate(&model, &data, &["--kv", "per-loop"]);
    calibrate(&model, &data, &[]);
    assert_eq!((shapes(tensors(&model)), bytes(&model)), (old_tensors, old_bytes));
    let mut new_keys = keys(&model);
    assert_eq!(new_keys["ouro.kv.sharing"], "per-loop", "a later calibration leaves it");
    let object = new_keys.as_object_mut().unwrap();
    let new = ["ouro.exit.", "ouro.kv.sharing", "ouro.checksum."];
    object.retain(|key, _| !new.iter().any(|prefix| key.starts_with(prefix)));
    assert_eq!(new_keys, old_keys);
    let files: Vec<PathBuf> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 2, "no temporary file is left: {files:?}");
}

#[test]
fn a_gate_where_there_was_none() {
    let dir = tempfile::tempdir().unwrap();
    let (_, data) = model_and_data(dir.path());
    let gateless = golden("mha/mha-f32.gguf");
    let gateless = gateless.to_str().unwrap();
    let out = dir.path().join("gate.gguf");
    let out = out.to_str().unwrap();
    let without = calibrate(gateless, &data, &["--out", out]);
    let names = |found: &Value| -> Vec<String> {
        let policies = found["policies"].as_array().unwrap();
        policies.iter().map(|fit| fit["policy"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&without), ["step", "margin", "confidence"]);
    let with = calibrate(gateless, &data, &["--out", out, "--refit-gate", "--policy", "q"]);
    assert_eq!(names(&with), ["q", "step", "margin", "confidence"]);
    let loaded = load(Path::new(out));
    assert_eq!(loaded.model.gate().unwrap().weight.len(), loaded.model.config().hidden);
    assert!(loaded.model.gate().unwrap().weight.iter().any(|weight| *weight != 0.0));
    // The same data give the same gate, to the bit.
    let again = dir.path().join("again.gguf");
    calibrate(gateless, &data, &["--out", again.to_str().unwrap(), "--refit-gate", "--policy", "q"]);
    assert_eq!(std::fs::read(again).unwrap(), std::fs::read(out).unwrap());
    let run =
        ouro(&["run", "-m", out, "--tokens", "1,2", "--max-new", "2", "--exit", "q=0.5", "--json"]).json();
    assert_eq!(run["tokens"].as_array().unwrap().len(), 2);
}

#[test]
fn wrong_usage_and_bad_data() {
    let dir = tempfile::tempdir().unwrap();
    let (model, data) = model_and_data(dir.path());
    let before = std::fs::read(&model).unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let gateless = golden("mha/mha-f32.gguf");
    let gateless = gateless.to_str().unwrap();
    let long = json!({ "prompt": "word and ".repeat(900), "answer": "b" }).to_string();
    let cases: [(&[&str], i32, &[&str]); 16] = [
        (&["-m", &model], 2, &["--data"]),
        (&["--data", &data], 2, &["--model"]),
        (&["-m", "pico", "--data", &data], 2, &["built-in"]),
        (&["-m", &model, "--data", &data, "--target", "speed=2"], 2, &["agreement=X"]),
        (&["-m", &model, "--data", &data, "--target", "agreement=1.5"], 2, &["agreement=X"]),
        (&["-m", &model, "--data", &data, "--policy", "fixed"], 2, &["fixed"]),
        (&["-m", gateless, "--data", &data, "--policy", "q", "--out", "x"], 2, &["--refit-gate"]),
        (&["-m", "no-such-file", "--data", &data], 3, &["no-such-file"]),
        (&["-m", &model, "--data", "no-such-file"], 3, &["no-such-file"]),
        (&["-m", &model, "--data", &file("empty.txt", " \n")], 3, &["empty.txt", "is empty"]),
        (&["-m", &model, "--data", &file("empty.jsonl", "")], 3, &["empty.jsonl", "is empty"]),
        (
            &["-m", &model, "--data", &file("a.jsonl", "{\"text\":\"a\"}\n{\"prompt\":\"a\"}")],
            3,
            &[":2:", "neither"],
        ),
        (&["-m", &model, "--data", &file("b.jsonl", "{\"text\":\"\"}")], 3, &[":1:", "`text` is empty"]),
        (&["-m", &model, "--data", &file("c.jsonl", &long)], 3, &[":1:", "context"]),
        (
            &["-m", &model, "--data", &file("d.jsonl", r#"{"prompt":" ","answer":"b"}"#)],
            3,
            &[":1:", "`prompt` is empty"],
        ),
        (
            &[
                "-m",
                &model,
                "--data",
                &file("e.jsonl", "{\"text\":\"a\"}\n\n{\"prompt\":\"a\",\"answer\":\"\"}"),
            ],
            3,
            &[":3:", "`answer` is empty"],
        ),
    ];
    for (args, code, words) in cases {
        ouro(&[&["calibrate"], args].concat()).expect_error(code, words);
    }
    assert_eq!(std::fs::read(&model).unwrap(), before);
}
