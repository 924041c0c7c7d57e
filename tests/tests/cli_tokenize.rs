//! `ouro tokenize` against the cases of the original tokenizer.

use ouro_tests::harness::golden;
use ouro_tests::{Ran, run_command};
use serde_json::{Value, json};

fn tokenize(args: &[&str], input: &[u8]) -> Ran {
    run_command(env!("CARGO_BIN_EXE_ouro-tested"), &[&["tokenize"], args].concat(), input)
}

fn path(name: &str) -> String {
    golden(name).to_str().expect("UTF-8").to_owned()
}

#[test]
fn golden_cases_from_tokenizer_json() {
    let tokenizer = path("tokenizer/tokenizer.json");
    let cases = std::fs::read_to_string(golden("tokenizer/cases.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&cases).unwrap();
    assert!(cases.len() >= 20);
    for case in &cases {
        let text = case["text"].as_str().unwrap();
        let found = tokenize(&["--tokenizer", &tokenizer, "--json"], text.as_bytes()).json();
        assert_eq!(found["ids"], case["ids"], "{text:?}");
        assert_eq!(found["pieces"].as_array().unwrap().len(), case["ids"].as_array().unwrap().len());

        let ids = case["ids"].to_string();
        let ids = ids.trim_matches(['[', ']']);
        let back = tokenize(&["--tokenizer", &tokenizer, "--json", "--decode"], ids.as_bytes()).json();
        assert_eq!(back["text"], text);
        assert_eq!(back["ids"], case["ids"]);
    }
}

#[test]
fn a_model_file_and_its_tokenizer_json_agree() {
    let (model, tokenizer) = (path("lively/lively-gate-f32.gguf"), path("lively/tokenizer.json"));
    for text in ["", "Hello, world!", "a<|im_end|>\n1234 日本", "\u{301}🙂\r\n\t"] {
        let of_model = tokenize(&["-m", &model, "--json", text], b"").json();
        assert_eq!(of_model, tokenize(&["--tokenizer", &tokenizer, "--json", text], b"").json(), "{text:?}");
        assert_eq!(of_model, tokenize(&["-m", &model, "--json", "-"], text.as_bytes()).json(), "{text:?}");
    }
}

#[test]
fn special_tokens_as_plain_text() {
    let tokenizer = path("tokenizer/tokenizer.json");
    let text = "<|im_end|>";
    let ids =
        |args: &[&str]| tokenize(&[&["--tokenizer", &tokenizer, "--json", text], args].concat(), b"").json();
    assert_eq!(ids(&[])["ids"], json!([2]));
    let plain = ids(&["--plain"]);
    assert!(plain["ids"].as_array().unwrap().len() > 1, "{plain}");
    let pieces: String =
        plain["pieces"].as_array().unwrap().iter().map(|piece| piece.as_str().unwrap()).collect();
    assert_eq!(pieces, text);
}

#[test]
fn for_people() {
    let tokenizer = path("tokenizer/tokenizer.json");
    let shown = tokenize(&["--tokenizer", &tokenizer, "naïve\n"], b"");
    let lines: Vec<&str> = shown.text().lines().collect();
    assert_eq!(lines[0], "     80  \"n\"");
    assert_eq!(lines[2], "    130  \"\\xC3\"");
    assert_eq!(lines.last(), Some(&"    201  \"\\n\""));
    let text = tokenize(&["--tokenizer", &tokenizer, "--decode", "80 67,130, 110 454"], b"");
    assert_eq!(text.text(), "naïve\n");
}

/// Arguments, standard input, exit code, words of the error.
type Case<'c> = (&'c [&'c str], &'c [u8], i32, &'c [&'c str]);

#[test]
fn wrong_usage_and_bad_files() {
    let tokenizer = path("tokenizer/tokenizer.json");
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let whole: Value = serde_json::from_str(&std::fs::read_to_string(&tokenizer).unwrap()).unwrap();
    let lying = |id: u64| {
        let mut json = whole.clone();
        json["model"]["vocab"]["!"] = id.into();
        file(&format!("{id}.json"), &json.to_string())
    };
    let cases: [Case<'_>; 11] = [
        (&["-m", "a", "--tokenizer", "b"], b"", 2, &["--tokenizer"]),
        (&["--tokenizer", &tokenizer, "--decode", "1,x"], b"", 2, &["\"x\" found"]),
        (&["--tokenizer", &tokenizer, "--decode", "-1"], b"", 2, &["-1"]),
        (&["--tokenizer", &tokenizer, "--decode", "4096"], b"", 2, &["4096", "below"]),
        (&["--tokenizer", &tokenizer, "--decode", "--plain"], b"", 2, &["--plain"]),
        (&["--tokenizer", "no-such-file", "a"], b"", 3, &["no-such-file"]),
        (&["-m", "no-such-file", "a"], b"", 3, &["no-such-file"]),
        (&["-m", &tokenizer, "a"], b"", 3, &["tokenizer.json", "not a GGUF file"]),
        (&["--tokenizer", &file("bad.json", "{"), "a"], b"", 3, &["bad.json"]),
        (&["--tokenizer", &lying(1 << 40), "a"], b"", 3, &["1099511627776"]),
        (&["--tokenizer", &tokenizer], b"\xff", 3, &["UTF-8"]),
    ];
    for (args, input, code, words) in cases {
        tokenize(args, input).expect_error(code, words);
    }
}
