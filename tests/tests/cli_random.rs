//! `ouro random` as users run it: files in the shape of the built-in model, which is known.

use ouro_tests::{Ran, run_command};
use serde_json::Value;
use std::path::Path;

fn ouro(args: &[&str]) -> Ran {
    run_command(env!("CARGO_BIN_EXE_ouro-tested"), args, b"")
}

fn random(dir: &Path, name: &str, options: &[&str]) -> String {
    let out = dir.join(name).to_str().unwrap().to_owned();
    let ran = ouro(&[&["random", &out], options].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    out
}

#[test]
fn the_shape_is_the_real_models() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, real) in [("q4_0", "ouro-pico-Q4_0.gguf"), ("q8_0", "ouro-pico-Q8_0.gguf")] {
        let file = random(dir.path(), kind, &["--like", "pico", "--type", kind]);
        let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/ouro-pico").join(real);
        let inspect = |model: &str| ouro(&["inspect", model, "--tensors", "--json"]).json();
        let (made, real) = (inspect(&file), inspect(real.to_str().unwrap()));
        for part in ["architecture", "loops", "shape", "parameters", "by_role", "by_type", "reads"] {
            assert!(!real[part].is_null());
            assert_eq!(made[part], real[part], "{kind} {part}");
        }
        for part in ["stream_ready", "tokenizer", "chat_template"] {
            assert_eq!(made[part], real[part], "{kind} {part}");
        }
        let tensors = |json: &Value| -> Vec<Vec<Value>> {
            let parts = ["name", "shape", "type"];
            let tensors = json["tensors"].as_array().unwrap().iter();
            tensors.map(|tensor| parts.map(|part| tensor[part].clone()).to_vec()).collect()
        };
        assert_eq!(tensors(&made), tensors(&real), "{kind}");
    }
}

#[test]
fn every_type_computes_and_passes_every_check() {
    let dir = tempfile::tempdir().unwrap();
    for kind in
        ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q4_k", "q5_k", "q6_k", "q4_k_m", "q5_k_m", "Q4_K_M"]
    {
        let file = random(dir.path(), "any.gguf", &["--like", "pico", "--type", kind]);
        let text = ouro(&["inspect", &file, "--check"]).text().to_owned();
        assert!(!text.contains("NaN"), "{kind}: {text}");
        // Logits that are no numbers would be an error; random weights have no favourite token.
        let json = ouro(&["run", "-m", &file, "--json", "--max-new", "8", "stop belt7"]).json();
        assert_eq!(
            json["depths"].as_array().unwrap().len(),
            json["tokens"].as_array().unwrap().len(),
            "{kind}"
        );
        let trace = ouro(&["trace", "-m", &file, "--json", "stop belt7"]);
        assert_eq!(trace.code, Some(0), "{kind}: {}", trace.stderr);
    }
}

#[test]
fn a_seed_decides_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = |name: &str, seed: &str| {
        let like = ["--like", "pico", "--type", "q4_k_m", "--seed", seed];
        std::fs::read(random(dir.path(), name, &like)).unwrap()
    };
    let (one, again, other) = (bytes("a", "1"), bytes("b", "1"), bytes("c", "2"));
    assert!(one == again);
    assert_eq!(one.len(), other.len());
    let equal = one.iter().zip(&other).filter(|(a, b)| a == b).count();
    // Equal are the header, the padding, the norms and some bytes by chance.
    assert!(equal < one.len() / 2, "{equal} of {}", one.len());
}

#[test]
fn the_report_and_the_errors() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a.gguf");
    let out = out.to_str().unwrap();
    let json = ouro(&["random", out, "--like", "pico", "--type", "q4_0", "--json"]).json();
    assert_eq!(json["bytes"], std::fs::metadata(out).unwrap().len());
    assert_eq!((&json["like"], &json["seed"]), (&"pico".into(), &0.into()));
    let cases: [(&[&str], i32, &[&str]); 5] = [
        (&["random", out, "--type", "q4_0"], 2, &["--like"]),
        (&["random", out, "--like", "pico"], 2, &["--type"]),
        (&["random", out, "--like", "gpt-5", "--type", "q4_0"], 2, &["gpt-5", "ouro-1.4b", "smollm2-135m"]),
        (&["random", "no/such/a.gguf", "--like", "pico", "--type", "q4_0"], 2, &["no/such", "create it"]),
        (&["random", dir.path().to_str().unwrap(), "--like", "pico", "--type", "q4_0"], 2, &["is a folder"]),
    ];
    for (args, code, words) in cases {
        ouro(args).expect_error(code, words);
    }
}
