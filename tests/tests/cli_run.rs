//! `ouro run` as a user types it.

use ouro_tests::harness::golden;
use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
#[cfg(target_os = "linux")]
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

fn ouro(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ouro-tested"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    ouro(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = output(&[arguments, &["--json"]].concat());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    // One object, and nothing else.
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

fn lively() -> String {
    path("lively/lively-gate-f32.gguf")
}

fn path(name: &str) -> String {
    golden(name).to_str().unwrap().to_owned()
}

fn ids(ids: &Value) -> String {
    let ids: Vec<String> = ids.as_array().unwrap().iter().map(ToString::to_string).collect();
    ids.join(",")
}

/// The options of one of golden's runs.
fn options(run: &Value) -> Vec<String> {
    let kv = if run["kv"] == "full" { "per-loop" } else { run["kv"].as_str().unwrap() };
    let exit = run["q"].as_f64().map_or("fixed".to_owned(), |q| format!("q={q}"));
    ["--kv-type", "f32", "--ignore-eos", "--kv", kv, "--exit", &exit, "--loops"]
        .into_iter()
        .map(str::to_owned)
        .chain([run["loops"].to_string(), "--kv-window".to_owned(), run["window"].to_string()])
        .chain(["--min-loops".to_owned(), run["min_loops"].to_string()])
        .collect()
}

#[test]
fn golden_runs_and_turns_from_both_stores() {
    let text = std::fs::read_to_string(golden("lively/greedy.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    let (model, prompt, second) = (lively(), ids(&cases["prompt"]), ids(&cases["second_prompt"]));
    for store in [&["--store", "memory"][..], &["--store", "file", "--block-buffer", "256K"]] {
        let common = [&["run", "-m", &model, "--tokens", &prompt][..], store, &["--max-new"]].concat();
        // Every fourth run here, one with a minimum of loops among them; the library runs them all.
        for run in cases["runs"].as_array().unwrap().iter().step_by(4) {
            let count = run["tokens"].as_array().unwrap().len().to_string();
            let options = options(run);
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let found = json(&[&common[..], &[&count], &options].concat());
            assert_eq!(found["tokens"], run["tokens"], "{run}");
            assert_eq!(found["depths"], run["depths"], "{run}");
            assert_eq!(found["stop"], "max-new");
        }
        for run in cases["turns"].as_array().unwrap() {
            let count = run["tokens"][0].as_array().unwrap().len().to_string();
            let options = options(run);
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let found = json(&[&common[..], &[&count, "--then", &second], &options].concat());
            for turn in 0..2 {
                assert_eq!(found["turns"][turn]["tokens"], run["tokens"][turn], "{run}");
                assert_eq!(found["turns"][turn]["depths"], run["depths"][turn], "{run}");
            }
        }
    }
}

#[test]
fn counters_show_what_exits_save() {
    let model = lively();
    let run = |exit| {
        let prompt = "175,462,33,245,459,222,73,404,493,503,476,191";
        json(&["run", "-m", &model, "--tokens", prompt, "--max-new", "20", "--ignore-eos", "--exit", exit])
    };
    let (all, early) = (run("fixed"), run("q=0.2"));
    let counter = |run: &Value, name: &str| run["counters"][name].as_u64().unwrap();
    assert_eq!(counter(&all, "generated_loops"), 19 * 4);
    let depths: u64 = early["depths"].as_array().unwrap()[1..].iter().map(|d| d.as_u64().unwrap()).sum();
    assert_eq!(counter(&early, "generated_loops"), depths);
    assert!(depths < 40, "{depths}");
    for name in ["passes", "bytes_fetched", "tiles_fetched"] {
        assert!(counter(&early, name) < counter(&all, name), "{name}");
    }
    assert_eq!(counter(&early, "arena_bytes"), counter(&all, "arena_bytes"));
    assert!(early["reasons"].as_array().unwrap().iter().any(|reason| reason == "gate"));
    assert!(all["reasons"].as_array().unwrap().iter().all(|reason| reason == "fixed"));
}

#[test]
fn text_goes_to_stdout_and_figures_to_stderr() {
    let model = lively();
    let output = output(&["run", "-m", &model, "hello", "--max-new", "5", "--ignore-eos"]);
    assert!(output.status.success());
    let (text, figures) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let object = json(&["run", "-m", &model, "hello", "--max-new", "5", "--ignore-eos"]);
    assert_eq!(text.trim_end_matches('\n'), object["text"].as_str().unwrap().trim_end_matches('\n'));
    for word in ["prompt", "answer 5 tokens", "depth", "mean 4.00", "arena"] {
        assert!(figures.contains(word), "{word}: {figures}");
    }
    assert!(!figures.contains('\x1b'), "no colors where nobody is looking");
}

#[test]
fn what_the_model_was_not_made_for_is_told() {
    let said = |options: &[&str]| {
        let run = output(&[&["run", "--max-new", "1", "60 plus 70?"], options].concat());
        assert!(run.status.success());
        String::from_utf8(run.stderr).unwrap()
    };
    assert!(!said(&["--ctx", "512"]).contains("note:"));
    assert!(said(&["--ctx", "513"]).contains("note: a context of 513 is longer than the 512"));
    assert!(said(&["--loops", "5"]).contains("note: 5 loops are more than the 4"));
}

#[test]
fn the_prompt_may_come_from_stdin() {
    let model = lively();
    let arguments = ["run", "-m", &model, "--raw", "--max-new", "6", "--json"];
    let mut child = ouro(&[&arguments[..], &["-"]].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all("héllo".as_bytes()).unwrap();
    let piped: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    let given = json(&["run", "-m", &model, "--raw", "--max-new", "6", "héllo"]);
    assert_eq!(piped["tokens"], given["tokens"]);
}

#[test]
fn sampling_is_reproducible() {
    let model = lively();
    let run = |seed| {
        let arguments = ["run", "-m", &model, "--tokens", "9,8", "--max-new", "16", "--ignore-eos"];
        json(&[&arguments[..], &["--temperature", "1.5", "--top-k", "50", "--seed", seed]].concat())["tokens"]
            .clone()
    };
    assert_eq!(run("1"), run("1"));
    assert_ne!(run("1"), run("2"));
}

#[test]
fn stop_texts_end_the_answer() {
    let model = lively();
    let common = ["run", "-m", &model, "--raw", "hello", "--max-new", "24", "--ignore-eos"];
    let whole = json(&common)["text"].as_str().unwrap().to_owned();
    let stop = whole.chars().nth(whole.chars().count() / 2).unwrap().to_string();
    let cut = json(&[&common[..], &["--stop", &stop]].concat());
    assert_eq!(cut["stop"], "stop-text");
    assert_eq!(cut["text"].as_str(), whole.split(&stop).next());
}

/// A system message goes before the prompt, as the template writes it.
#[test]
fn system_messages() {
    let model = lively();
    let rendered = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n\
                    <|im_start|>assistant\n";
    let prompt = ids(&json(&["tokenize", "-m", &model, rendered])["ids"]);
    let options = ["--max-new", "8", "--ignore-eos", "--kv-type", "f32"];
    let expected = json(&[&["run", "-m", &model, "--tokens", &prompt], &options[..]].concat());
    let found = json(&[&["run", "-m", &model, "--system", "Be brief.", "hello"], &options[..]].concat());
    assert_eq!(found["tokens"], expected["tokens"]);
    let without = json(&[&["run", "-m", &model, "hello"], &options[..]].concat());
    assert_ne!(without["tokens"], expected["tokens"]);
}

/// Whether a process has a handler of its own for Ctrl-C.
#[cfg(target_os = "linux")]
fn catches_interrupts(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (2 - 1)) != 0
}

#[test]
#[cfg(target_os = "linux")]
fn ctrl_c_ends_a_run_with_what_there_is() {
    let model = lively();
    let arguments = ["run", "-m", &model, "--tokens", "1,2", "--ignore-eos", "--json"];
    let more = ["--max-new", "1000000", "--ctx", "60000"];
    let child = ouro(&[&arguments[..], &more].concat()).stdout(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while !catches_interrupts(child.id()) {
        assert!(started.elapsed() < Duration::from_secs(60), "no handler");
        sleep(Duration::from_millis(5));
    }
    sleep(Duration::from_millis(200));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["stop"], "interrupted");
    let lengths = ["tokens", "depths", "reasons"].map(|list| report[list].as_array().unwrap().len());
    assert_eq!(lengths, [lengths[0]; 3]);
}

/// A copy of a golden file, changed, in a folder of its own.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(golden("lively/lively-gate-f32.gguf")).unwrap();
    change(&mut bytes);
    let file = folder.path().join("changed.gguf");
    std::fs::write(&file, bytes).unwrap();
    (folder, file)
}

#[test]
fn exit_codes_and_errors() {
    let (model, mha) = (lively(), path("mha/mha-f32.gguf"));
    let (_folder, cut) = changed(|bytes| bytes.truncate(300_000));
    let cut = cut.to_str().unwrap();
    let folder = golden("mha");
    let folder = folder.to_str().unwrap();
    let cases: [(i32, &[&str], &str); 17] = [
        (2, &["run"], "required"),
        (2, &["run", "-m", &model], "required"),
        (2, &["run", "-m", &model, "x", "--exit", "q=7"], "expected fixed, q=X"),
        (2, &["run", "-m", &model, "x", "--loops", "0"], "0"),
        (2, &["run", "-m", &model, "x", "--min-loops", "5"], "minimum loops"),
        (2, &["run", "-m", &model, "x", "--top-p", "0"], "top-p"),
        (2, &["run", "-m", &model, "--tokens", "1,x"], "\"x\" found"),
        (2, &["run", "-m", &model, "--tokens", "512"], "512"),
        (2, &["run", "-m", &mha, "--tokens", "1", "--exit", "q=0.5"], "--gate-from"),
        (2, &["run", "-m", &model, "x", "--stop", ""], "--stop"),
        (3, &["run", "-m", folder, "x"], "is a folder, expected a GGUF"),
        (4, &["run", "-m", &model, "x", "--store", "file", "--block-buffer", "300"], "--block-buffer"),
        (3, &["run", "-m", "no-such-file.gguf", "x"], "no-such-file.gguf"),
        (3, &["run", "-m", cut, "x"], "cut off"),
        (3, &["run", "-m", cut, "x", "--store", "file"], "cut off"),
        (4, &["run", "-m", &model, "--tokens", "1,2,3", "--ctx", "2"], "context"),
        (4, &["run", "-m", &model, "--tokens", "1", "--ctx", "99999999999999"], "arena"),
    ];
    for (code, arguments, says) in cases {
        let output = output(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(says), "{arguments:?}: \"{says}\" is not in {errors}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn weights_that_are_not_numbers_give_no_text() {
    // The last bytes are the output head's.
    let (_folder, file) = changed(|bytes| {
        let end = bytes.len() - 4096;
        bytes[end..end + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let output = output(&["run", "-m", file.to_str().unwrap(), "hello"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not numbers"));
    assert_eq!(output.stdout, b"");
}
