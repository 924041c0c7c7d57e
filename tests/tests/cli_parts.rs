//! `--prompt-part`: prompts that are read a part at a time.

use ouro_tests::harness::golden;
use ouro_tests::{Ran, run_command};
use serde_json::Value;
use std::path::Path;

const PROMPT: &str = "175,46,33,245,59,222,73,304,293,303,276,191";
const TOKENS: u64 = 12;

fn ouro(args: &[&str]) -> Ran {
    run_command(env!("CARGO_BIN_EXE_ouro-tested"), args, b"")
}

fn json(args: &[&str]) -> Value {
    ouro(&[args, &["--json"]].concat()).json()
}

fn lively() -> String {
    golden("lively/lively-gate-f32.gguf").to_str().unwrap().to_owned()
}

/// What a run answers, how deep each token went, and why not deeper.
fn answer(run: &Value) -> [Value; 4] {
    ["tokens", "depths", "reasons", "stop"].map(|what| run[what].clone())
}

/// What a run answers, and the cache that it leaves behind in `file`.
fn run_and_keep(file: &Path, model: &str, prompt: &str, options: &[&str]) -> ([Value; 4], Vec<u8>) {
    let path = file.to_str().unwrap();
    let common = ["run", "-m", model, "--tokens", prompt, "--save-kv", path, "--ctx", "40", "--ignore-eos"];
    let answer = answer(&json(&[&common[..], options].concat()));
    (answer, std::fs::read(file).unwrap())
}

#[test]
fn with_kv_per_loop_parts_change_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kept");
    let lively = lively();
    for (model, kv_type, exit) in [
        (lively.as_str(), "f32", "fixed"),
        (&lively, "f16", "q=0.4"),
        (&lively, "int8", "q=0.4"),
        (&lively, "int4", "margin=0.02"),
        ("pico", "f16", "fixed"),
        ("pico", "int8", "confidence=0.5"),
    ] {
        let options = ["--kv", "per-loop", "--kv-type", kv_type, "--exit", exit, "--max-new", "16"];
        let whole = run_and_keep(&file, model, PROMPT, &options);
        for part in ["1", "3", "7", "12", "100"] {
            let in_parts = [&options[..], &["--prompt-part", part]].concat();
            let parts = run_and_keep(&file, model, PROMPT, &in_parts);
            assert_eq!(parts.0, whole.0, "{model} {kv_type} {exit}, {part} at a time");
            assert!(parts.1 == whole.1, "{model} {kv_type} {exit}, {part} at a time: another cache");
        }
    }
}

#[test]
fn with_shared_kv_parts_read_each_other_as_turns_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kept");
    let (path, lively) = (file.to_str().unwrap(), lively());
    for kv in ["last", "averaged"] {
        for window in ["0", "3"] {
            let options = ["--kv", kv, "--kv-window", window, "--exit", "q=0.4"];
            let options = |more: &[&'static str]| [&options[..], more].concat();
            let whole = run_and_keep(&file, &lively, PROMPT, &options(&["--max-new", "16"]));
            let parts =
                run_and_keep(&file, &lively, PROMPT, &options(&["--max-new", "16", "--prompt-part", "5"]));

            run_and_keep(&file, &lively, "175,46,33,245,59", &options(&["--max-new", "0"]));
            let on = |more: &[&'static str]| [&options(more)[..], &["--load-kv", path]].concat();
            run_and_keep(&file, &lively, "222,73,304,293,303", &on(&["--max-new", "0"]));
            let turns = run_and_keep(&file, &lively, "276,191", &on(&["--max-new", "16"]));
            assert_eq!(parts.0, turns.0, "{kv}, window {window}");
            assert!(parts.1 == turns.1, "{kv}, window {window}: another cache");
            assert!(parts.1 != whole.1, "{kv}, window {window}: nothing is shared");
        }
    }
}

/// Turns given as text, whose number of tokens is not known beforehand, and from a file.
#[test]
fn every_turn_is_read_in_parts() {
    let model = lively();
    let run = |options: &[&str]| {
        let turns = ["run", "-m", &model, "hello there", "--then", "and again", "--max-new", "6"];
        json(
            &[&turns[..], &["--ignore-eos", "--kv", "per-loop", "--exit", "fixed", "--ctx", "300"], options]
                .concat(),
        )
    };
    let whole = run(&[]);
    let parts = run(&["--prompt-part", "4", "--store", "file", "--block-buffer", "256K"]);
    let mut passes = 0;
    for (found, expected) in parts["turns"].as_array().unwrap().iter().zip(whole["turns"].as_array().unwrap())
    {
        assert_eq!(answer(found), answer(expected));
        assert_eq!(found["prompt_tokens"], expected["prompt_tokens"]);
        passes += found["prompt_tokens"].as_u64().unwrap().div_ceil(4) * 4 + 5 * 4;
    }
    assert_eq!(parts["counters"]["passes"], passes);
}

#[test]
fn parts_take_less_memory_and_more_passes() {
    let model = lively();
    let run = |options: &[&str]| {
        let common = ["run", "-m", &model, "--tokens", PROMPT, "--max-new", "3", "--ignore-eos", "--exit"];
        json(&[&common[..], &["fixed"], options].concat())
    };
    let counter = |run: &Value, name: &str| run["counters"][name].as_u64().unwrap();
    let whole = run(&[]);
    let mut last = counter(&whole, "arena_bytes");
    for part in [7, 3, 1] {
        let parts = run(&["--prompt-part", &part.to_string()]);
        assert!(counter(&parts, "arena_bytes") < last, "{part} at a time");
        last = counter(&parts, "arena_bytes");
        let feeds = TOKENS.div_ceil(part);
        assert_eq!(counter(&parts, "passes"), 4 * feeds + 2 * 4);
        assert_eq!(counter(&parts, "heads"), 1 + 2, "only the last part is asked for a token");
        assert_eq!(counter(&parts, "prompt_loops"), counter(&whole, "prompt_loops"));
        assert!(counter(&parts, "bytes_fetched") > counter(&whole, "bytes_fetched"));
    }
}

/// `ouro plan` says beforehand, to the byte, what `ouro run` takes.
#[test]
fn the_plan_counts_parts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("random.gguf");
    let file = path.to_str().unwrap();
    assert_eq!(ouro(&["random", file, "--like", "pico", "--type", "q4_0"]).code, Some(0));
    for place in [&[][..], &["-m", file, "--ram", "100M"]] {
        let mut activations = Vec::new();
        for part in ["1", "5", "12", "50"] {
            for kv in ["per-loop", "last", "averaged"] {
                let options = ["--kv", kv, "--ctx", "100", "--prompt-part", part, "--threads", "1"];
                let options = [place, &options].concat();
                let run = json(&[&["run", "--tokens", PROMPT, "--max-new", "2"], &options[..]].concat());
                let program = run["memory"]["program"].to_string();
                let program = if place.is_empty() { &[][..] } else { &["--program", &program] };
                let plan = json(&[&["plan", "--prompt", "12"], &options[..], program].concat());
                assert_eq!(plan["memory"], run["memory"], "{options:?}");
                assert_eq!(plan["settings"]["prompt"], TOKENS);
                assert_eq!(plan["settings"]["prompt_part"], part.parse::<u64>().unwrap().min(TOKENS));
                activations.push(plan["memory"]["activations"].as_u64().unwrap());
            }
        }
        let more =
            |smaller: usize| (0..3).all(|kv| activations[smaller + kv] < activations[smaller + 3 + kv]);
        assert!(more(0) && more(3) && activations[6..9] == activations[9..], "{activations:?}");
    }
    let told = ouro(&["plan", "--prompt", "12", "--prompt-part", "5"]);
    assert!(told.text().contains("prompts up to 12 in parts of 5, "), "{}", told.text());
}

/// A program has room for the stacks of forty threads, and each more takes 24 KiB.
#[test]
fn the_plan_counts_threads() {
    let program = |threads| json(&["plan", "--threads", threads])["memory"]["program"].as_u64().unwrap();
    assert_eq!(program("40"), program("1"));
    assert_eq!(program("100"), program("1") + 60 * (24 << 10));
}

/// Each part fetches the weights of all layers anew, the last one the head; what positions read of K and V
/// stays the same.
#[test]
fn the_time_of_a_prompt_in_parts() {
    let plan = |rates: [&str; 2], options: &[&str]| {
        let model = ["plan", "--like", "ouro-1.4b", "--type", "q4_0", "--ctx", "100", "--prompt", "12"];
        let rates = ["--flash", rates[0], "--mem", rates[1], "--gmacs", "1000000"];
        json(&[&model[..], &rates, options].concat())
    };
    let seconds = |json: &Value| json["speed"]["prefill"]["seconds"].as_f64().unwrap();
    let close =
        |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-3, "{found} {expected}");
    let endless = "100000GB/s";
    for part in [1, 5, 12] {
        let part_text = part.to_string();
        let feeds = TOKENS.div_ceil(part) as f64;
        let json = plan(["100MB/s", endless], &["--mapped", "--prompt-part", &part_text]);
        let bytes = |name: &str| json["bytes_per_token"][name].as_f64().unwrap();
        let fetched = feeds * 4.0 * bytes("loop") + bytes("head") + 12.0 * bytes("embedding_at_most");
        close(seconds(&json), fetched / 1e8);

        let json = plan([endless, "1GB/s"], &["--prompt-part", &part_text]);
        let (layers, hidden, ffn, vocab) = (24.0, 2048.0, 5632.0, 49152.0);
        let stack = layers * hidden * (4.0 * hidden + 3.0 * ffn) * 4.5 / 8.0;
        let weights = feeds * 4.0 * stack + hidden * vocab * 6.5625 / 8.0;
        let kv = 4.0 * layers * (12.0 * 13.0 / 2.0) * 2.0 * hidden * 2.0;
        close(seconds(&json), (weights + kv) / 1e9);
    }
}

/// Some hundred tokens, one at a time, and how long reading them takes.
fn long_prompt() -> (String, f64) {
    let words = "valve ".repeat(400);
    let run = json(&["run", &words, "--prompt-part", "1", "--max-new", "1"]);
    assert!(run["counters"]["prompt_loops"].as_u64().unwrap() > 4 * 400);
    (words, run["seconds"]["prefill"].as_f64().unwrap())
}

/// All parts and the answer share the time of an answer.
#[test]
fn time_is_counted_from_the_first_part() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let (words, _) = long_prompt();
    let run = |time: &str| {
        let kept = kept.to_str().unwrap();
        let options = ["--prompt-part", "1", "--max-new", "4", "--save-kv", kept, "--answer-time", time];
        ouro(&[&["run", &words, "--json"], &options[..]].concat())
    };
    let late = run("0s");
    assert_eq!(late.json()["stop"], "out-of-time");
    assert_eq!(late.json()["tokens"], serde_json::json!([]));
    assert!(late.stderr.contains("nothing is saved") && !kept.exists(), "{}", late.stderr);

    let timely = run("1000s").json();
    let left = timely["budget"]["left"]["answer_seconds"][0].as_f64().unwrap();
    let prefill = timely["seconds"]["prefill"].as_f64().unwrap();
    assert!(left + prefill < 1000.0 + prefill / 2.0, "{timely}");
    assert!(kept.exists());
}

#[test]
fn a_chat_reads_in_parts() {
    let model = lively();
    let chat = |options: &[&str]| {
        let common = ["chat", "-m", &model, "--max-new", "6", "--kv", "per-loop"];
        let args = [&common[..], options].concat();
        run_command(env!("CARGO_BIN_EXE_ouro-tested"), &args, b"hello there\nand again\n/stats\n")
    };
    let (whole, parts) = (chat(&[]), chat(&["--prompt-part", "4"]));
    assert_eq!(parts.text(), whole.text());
    let line = |ran: &Ran, name: &str| {
        let line = ran.stderr.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{name}: {}", ran.stderr))
    };
    assert_eq!(line(&parts, "positions"), line(&whole, "positions"));
    assert_ne!(line(&parts, "arena"), line(&whole, "arena"));
}

/// A question that was read in part is not in the cache of the conversation that follows. How long a part
/// takes changes from one moment to the next, so it is tried more than once.
#[test]
fn a_chat_begins_anew_after_a_part() {
    for _ in 0..10 {
        let (words, seconds) = long_prompt();
        let time = format!("{}s", seconds / 4.0);
        let args = ["chat", "--prompt-part", "1", "--answer-time", &time];
        let input = format!("{words}\n/stats\n");
        let ran = run_command(env!("CARGO_BIN_EXE_ouro-tested"), &args, input.as_bytes());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        if ran.stderr.contains("out of time before the question was read") {
            for says in ["begins anew", "positions  0 of"] {
                assert!(ran.stderr.contains(says), "{says:?} expected in {}", ran.stderr);
            }
            return;
        }
    }
    panic!("there was always time enough");
}

#[test]
fn what_makes_no_sense_is_refused() {
    ouro(&["run", "--tokens", "1", "--prompt-part", "0"]).expect_error(2, &["--prompt-part"]);
    let run = ["run", "--tokens", "5,6,7,8,9", "--prompt-part", "2"];
    ouro(&[&run[..], &["--ctx", "4"]].concat()).expect_error(4, &["5", "4"]);
    ouro(&["run", "--tokens", "5,6,7,8,99999999", "--prompt-part", "2"]).expect_error(2, &["99999999"]);
}
