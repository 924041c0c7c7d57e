//! What single options of `ouro run` change in its answer; what every command says where a file or an
//! argument is missing.

use ouro::error::Error;
use ouro_tests::harness::golden;
use ouro_tests::{Ran, assert_helpful, run_command};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::path::Path;

const LIVELY: &str = "lively/lively-gate-f32.gguf";
const PROMPT: &str = "175,462,33,245,459,222,73,404,493,503,476,191";

fn ran(arguments: &[&str]) -> Ran {
    run_command(env!("CARGO_BIN_EXE_ouro-tested"), arguments, b"")
}

fn ouro(command: &str, model: &Path, arguments: &[&str]) -> Value {
    let common = [command, "-m", model.to_str().unwrap(), "--json"];
    ran(&[&common, arguments].concat()).json()
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

const UNREADABLE: &str = "expected a file that can be read";

#[test]
fn every_command_says_what_to_do_about_a_missing_file() {
    let cases: [&[&str]; 18] = [
        &["run", "-m", "absent", "hello"],
        &["run", "--load-kv", "absent", "hello"],
        &["run", "-m", "absent", "--ram", "400M", "hello"],
        &["chat", "-m", "absent"],
        &["chat", "--load-kv", "absent"],
        &["eval", "absent"],
        &["eval", "--perplexity", "absent"],
        &["eval", "--tokens-file", "absent"],
        &["calibrate", "-m", "absent", "--data", "absent"],
        &["layout", "absent", "out.gguf"],
        &["inspect", "absent"],
        &["trace", "-m", "absent", "hello"],
        &["plan", "-m", "absent"],
        &["bench", "-m", "absent"],
        &["hash", "-m", "absent", "--tokens", "1"],
        &["tokenize", "-m", "absent", "hello"],
        // A file where a folder should be.
        &["run", "-m", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml/absent"), "hello"],
        &["eval", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml/absent")],
    ];
    for arguments in cases {
        let ran = ran(arguments);
        ran.expect_error(3, &["absent does not exist"]);
        assert_helpful(&arguments.join(" "), &ran.stderr, &[UNREADABLE]);
    }
    let gateless = golden("mha/mha-f32.gguf");
    let gateless = gateless.to_str().unwrap();
    for folder in ["absent", gateless] {
        let ran = ran(&["quantize", gateless, "out.gguf", "--gate-from", folder]);
        ran.expect_error(3, &["config.json is missing, expected", "give a folder"]);
    }
}

#[test]
fn files_that_can_not_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let cases: [&[&str]; 5] = [
        &["run", "--load-kv", folder, "hello"],
        &["eval", folder],
        &["eval", "--perplexity", folder],
        &["eval", "--tokens-file", folder],
        &["tokenize", "--tokenizer", folder, "hello"],
    ];
    for arguments in cases {
        let ran = ran(arguments);
        ran.expect_error(3, &["is a folder"]);
        assert_helpful(&arguments.join(" "), &ran.stderr, &[UNREADABLE]);
    }
    // Tests may run as a user to whom nothing is forbidden.
    for kind in [ErrorKind::PermissionDenied, ErrorKind::Other] {
        let error = Error::reading(Path::new("secret"), &kind.into());
        assert_helpful(kind.to_string().as_str(), &error.to_string(), &["secret: ", UNREADABLE]);
    }
}

#[test]
fn a_file_that_can_not_be_written_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("absent/file");
    let [folder, nowhere] = [folder.path(), &nowhere].map(|path| path.to_str().unwrap());
    let model = golden(LIVELY);
    let model = model.to_str().unwrap();
    for (code, arguments) in [
        (1, &["trace", "--tokens", "1", "-m", model, "--out"][..]),
        (2, &["run", "-m", model, "--tokens", "1", "--save-kv"]),
        (2, &["layout", model]),
        (2, &["calibrate", "-m", model, "--data", "absent", "--out"]),
    ] {
        ran(&[arguments, &[nowhere]].concat()).expect_error(code, &["absent", "create it first"]);
        ran(&[arguments, &[folder]].concat()).expect_error(code, &["is a folder; name the file to write"]);
    }
    ran(&["manual", model]).expect_error(1, &["a file is where a folder should be; write elsewhere"]);
}

#[test]
fn a_missing_argument_is_told_with_all_that_would_do_and_an_example() {
    let cases: [(&[&str], &str, &str); 6] = [
        (&["run"], "<PROMPT|--tokens <IDS>|--save-kv <FILE>>", "ouro run \"if tank7"),
        (&["run", "-m", "pico", "--json"], "<PROMPT|--tokens <IDS>|--save-kv <FILE>>", "ouro run \"if tank7"),
        (&["trace"], "<TEXT|--tokens <IDS>>", "ouro trace -m model.gguf"),
        (&["eval"], "<FILE|--perplexity <TEXTFILE>|--tokens-file <IDS.json>>", "ouro eval tests"),
        (&["hash"], "--tokens <IDS>", "ouro hash -m"),
        (&["layout", "a.gguf"], "<OUT>", "ouro layout published.gguf"),
    ];
    for (arguments, missing, example) in cases {
        ran(arguments).expect_error(2, &[missing, &format!("for example, {example}")]);
    }
}
