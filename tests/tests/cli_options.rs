//! What single options of `ouro run` change in its answer.

use ouro_tests::harness::golden;
use ouro_tests::run_command;
use serde_json::{Value, json};
use std::path::Path;

const LIVELY: &str = "lively/lively-gate-f32.gguf";
const PROMPT: &str = "175,462,33,245,459,222,73,404,493,503,476,191";

fn ouro(command: &str, model: &Path, arguments: &[&str]) -> Value {
    let common = [command, "-m", model.to_str().unwrap(), "--json"];
    run_command(env!("CARGO_BIN_EXE_ouro-tested"), &[&common, arguments].concat(), b"").json()
}

/// Twelve tokens after [`PROMPT`].
fn answer(options: &[&str]) -> Value {
    let common = ["--tokens", PROMPT, "--max-new", "12", "--ignore-eos", "--kv-type", "f32"];
    ouro("run", &golden(LIVELY), &[&common, options].concat())
}

/// A threshold of 0 stops every token as early as it may.
#[test]
fn no_token_stops_before_the_minimum() {
    for (minimum, depth) in [("1", 1), ("2", 2), ("3", 3), ("4", 4)] {
        let found = answer(&["--exit", "q=0", "--min-loops", minimum]);
        assert_eq!(found["depths"], json!(vec![depth; 12]), "--min-loops {minimum}");
    }
}

/// The first token comes out of the prompt's last position, for which `ouro trace` says where each
/// policy stops.
#[test]
fn exit_policies_stop_where_trace_says() {
    let policies = ["q=0.1", "q=0.9", "confidence=0.05", "confidence=0.2", "margin=0.01", "margin=0.3"];
    let policies = [&policies[..], &["step=0", "step=0.4", "step=0.7", "step=1"]].concat();
    let exits = policies.iter().flat_map(|policy| ["--exit", policy]);
    let arguments: Vec<&str> = ["--tokens", PROMPT].into_iter().chain(exits).collect();
    let trace = ouro("trace", &golden(LIVELY), &arguments);
    let last = trace["positions"].as_array().unwrap().last().unwrap();
    for policy in policies {
        let found = answer(&["--exit", policy]);
        assert_eq!(found["depths"][0], last["exits"][policy], "{policy}: {last}");
        let early = found["depths"][0] != 4;
        let (name, _) = policy.split_once('=').unwrap();
        let reason = if name == "q" { "gate" } else { name };
        assert_eq!(found["reasons"][0], if early { reason } else { "fixed" }, "{policy}");
    }
}

/// The change of the state decides, at the second loop for the earliest.
#[test]
fn a_step_difference_stops_tokens() {
    let depths = |policy| answer(&["--exit", policy])["depths"].clone();
    assert_eq!(depths("step=0"), json!(vec![4; 12]));
    assert_eq!(depths("step=1"), json!(vec![2; 12]));
}

/// Where only the likeliest token is left, a draw is greedy whatever the seed.
#[test]
fn narrow_sampling_is_greedy() {
    let greedy = answer(&[])["tokens"].clone();
    assert_eq!(answer(&["--greedy"])["tokens"], greedy);
    for seed in ["1", "2"] {
        let drawn = |more: &[&str]| {
            answer(&[&["--temperature", "1.5", "--seed", seed], more].concat())["tokens"].clone()
        };
        assert_ne!(drawn(&[]), greedy);
        for (option, narrow, wide) in
            [("--top-k", "1", "400"), ("--top-p", "0.000001", "0.99"), ("--min-p", "1", "0.001")]
        {
            assert_eq!(drawn(&[option, narrow]), greedy, "{option} {narrow}");
            assert_ne!(drawn(&[option, wide]), greedy, "{option} {wide}");
        }
    }
}

/// The template gets to know, and writes the prompt accordingly, whatever it does when not told.
#[test]
fn thinking_changes_the_prompt() {
    let asks = "enable_thinking is defined and enable_thinking";
    let thinks_unless_told = format!("{:1$}", "enable_thinking | default(true)", asks.len());
    let folder = tempfile::tempdir().unwrap();
    for (condition, untold) in [(asks, false), (&thinks_unless_told, true)] {
        let mut bytes = std::fs::read(golden(LIVELY)).unwrap();
        let at = bytes.windows(asks.len()).position(|window| window == asks.as_bytes()).unwrap();
        bytes[at..at + asks.len()].copy_from_slice(condition.as_bytes());
        let model = folder.path().join("model.gguf");
        std::fs::write(&model, bytes).unwrap();

        let options = ["--max-new", "8", "--ignore-eos", "--kv-type", "f32"];
        let tokens =
            |arguments: &[&str]| ouro("run", &model, &[arguments, &options].concat())["tokens"].clone();
        let plain = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n";
        let thinking = format!("{plain}<think>\n");
        let [plain, thinking] = [plain, &thinking].map(|rendered| tokens(&["--raw", rendered]));
        assert_ne!(plain, thinking);
        assert_eq!(tokens(&["hello", "--think"]), thinking);
        assert_eq!(tokens(&["hello", "--no-think"]), plain);
        assert_eq!(tokens(&["hello"]), if untold { thinking } else { plain });
    }
}
