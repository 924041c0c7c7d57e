//! `ouro eval` as users run it: its counts against those of `ouro run`, one prompt at a time.

use ouro_tests::harness::golden;
use ouro_tests::{Ran, run_command};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

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

/// What `ouro run` answers.
fn run(prompt: &str, options: &[&str]) -> Value {
    ouro(&[&["run", "-m", &lively(), "--json", "--max-new", "6"], options, &[prompt]].concat()).json()
}

const PROMPTS: [&str; 7] = ["hello", "a b c", "42?", "the cat", "x", "open the valve", "<|im_end|> is text"];
const WRONG: [usize; 3] = [1, 2, 5];

/// Questions whose answers are what `ouro run` says at full depth, but for some of them.
fn questions(dir: &Path) -> String {
    let mut lines = String::new();
    for (index, prompt) in PROMPTS.iter().enumerate() {
        let text = run(prompt, &["--exit", "fixed"])["text"].as_str().unwrap().to_owned();
        assert!(!text.trim().is_empty(), "a test that can't fail: {prompt}");
        let answer = if WRONG.contains(&index) { format!("{text}?") } else { format!(" {text}\n") };
        let tag = ["even", "odd"][index % 2];
        let line = json!({ "prompt": prompt, "answer": answer, "tag": tag, "more": [1] });
        // Blank lines, and lines as another system ends them, are no questions.
        write!(lines, "{line}\r\n\n").unwrap();
    }
    saved(dir, "questions.jsonl", lines)
}

fn eval(file: &str, options: &[&str]) -> Vec<Value> {
    let args = ["eval", file, "-m", &lively(), "--max-new", "6", "--json", "-"];
    let ran = ouro(&[&args, options].concat());
    serde_json::from_str(ran.text()).unwrap_or_else(|error| panic!("{error}: {}", ran.text()))
}

fn row<'r>(rows: &'r [Value], tag: &str, loops: u64, exit: &str) -> &'r Value {
    let wanted = |row: &&Value| row["tag"] == tag && row["loops"] == loops && row["exit"] == exit;
    let found: Vec<&Value> = rows.iter().filter(wanted).collect();
    assert_eq!(found.len(), 1, "{tag} {loops} {exit}: {rows:#?}");
    found[0]
}

/// The same rows, speed apart, wherever weights are; and what does not fit or makes no sense is refused.
#[test]
fn weights_in_a_file_give_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    let file = questions(dir.path());
    let rows = |options: &[&str]| {
        let mut rows = eval(&file, &[&["--loops", "1,4", "--exit", "fixed,q=0.2"], options].concat());
        rows.iter_mut().for_each(|row| row["tokens_per_second"] = json!(0));
        rows
    };
    let expected = rows(&[]);
    for options in [
        &["--ram", "40M"][..],
        &["--ram", "40M", "--pin", "blk.0,output", "--block-buffer", "300K", "--threads", "2"],
        &["--store", "file", "--pin", "none"],
    ] {
        assert_eq!(rows(options), expected, "{options:?}");
    }
    let cases: [(i32, &[&str], &[&str]); 3] = [
        (4, &["--ram", "3M"], &["--ram 3.00 MiB is too little", "at least"]),
        (2, &["--pin", "blk.0"], &["--pin needs --store file or --ram"]),
        (2, &["--ram", "100M", "-m", "pico"], &["--ram need a file"]),
    ];
    for (code, options, words) in cases {
        let model = lively();
        let model: &[&str] = if options.contains(&"-m") { &[] } else { &["-m", &model] };
        ouro(&[&["eval", &file], model, options].concat()).expect_error(code, words);
    }
}

#[test]
fn rows_are_those_of_single_runs() {
    let dir = tempfile::tempdir().unwrap();
    let file = questions(dir.path());
    let rows = eval(&file, &["--loops", "4,1,4", "--exit", "fixed,q=0.2,confidence=0.02"]);
    // fixed at either depth, the others at the largest; two tags and all of them.
    assert_eq!(rows.len(), 4 * 3);
    for (loops, exit) in [(1, "fixed"), (4, "fixed"), (4, "q=0.2"), (4, "confidence=0.02")] {
        let options = ["--loops", &loops.to_string(), "--exit", exit];
        let answers: Vec<Value> = PROMPTS.iter().map(|prompt| run(prompt, &options)).collect();
        let full: Vec<Value> = PROMPTS.iter().map(|prompt| run(prompt, &["--exit", "fixed"])).collect();
        for (tag, of_tag) in [("even", 0..1), ("odd", 1..2), ("all", 0..2)] {
            let indices = (0..PROMPTS.len()).filter(|index| of_tag.contains(&(index % 2)));
            let indices: Vec<usize> = indices.collect();
            let text =
                |answers: &[Value], index: usize| answers[index]["text"].as_str().unwrap().trim().to_owned();
            let is_right = |index: &&usize| {
                let right = text(&full, **index);
                let right = if WRONG.contains(index) { format!("{right}?") } else { right };
                text(&answers, **index) == right
            };
            let right = indices.iter().filter(is_right).count();
            let depths = indices.iter().flat_map(|index| answers[*index]["depths"].as_array().unwrap());
            let depths: Vec<u64> = depths.map(|depth| depth.as_u64().unwrap()).collect();
            let row = row(&rows, tag, loops, exit);
            let case = format!("{tag} {loops} {exit}: {row}");
            assert_eq!(row["n"], indices.len(), "{case}");
            assert_eq!(row["right"], right, "{case}");
            assert_eq!(row["tokens"], depths.len(), "{case}");
            let close = |field: &str, expected: f64| {
                assert!((row[field].as_f64().unwrap() - expected).abs() < 1e-9, "{field} {expected}: {case}");
            };
            let mean = depths.iter().sum::<u64>() as f64 / depths.len() as f64;
            close("exact", 100.0 * right as f64 / indices.len() as f64);
            close("mean_depth", mean);
            close("loops_saved", 100.0 * (1.0 - mean / loops as f64));
        }
    }
    assert_eq!(row(&rows, "all", 4, "fixed")["right"], PROMPTS.len() - WRONG.len());
    assert!(row(&rows, "all", 4, "q=0.2")["mean_depth"].as_f64().unwrap() < 4.0);
}

#[test]
fn stores_threads_and_defaults_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = questions(dir.path());
    let figures = |options: &[&str]| -> Vec<Value> {
        let rows = eval(&file, options);
        rows.into_iter()
            .map(|mut row| {
                row["tokens_per_second"] = Value::Null;
                row
            })
            .collect()
    };
    let plain = figures(&[]);
    assert_eq!(plain.len(), 3, "the file asks for no policy");
    assert_eq!(figures(&["--loops", "4", "--exit", "fixed", "--tags", "odd,even,other"]), plain);
    assert_eq!(figures(&["--store", "file", "--block-buffer", "256K"]), plain);
    assert_ne!(figures(&["--kv", "averaged", "--kv-window", "0", "--kv-type", "int8"]), Vec::<Value>::new());
}

#[test]
fn tables_files_and_drawings() {
    let dir = tempfile::tempdir().unwrap();
    let file = questions(dir.path());
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    let (rows, svg) = (path("rows.json"), path("depth.svg"));
    let args = ["eval", &file, "-m", &lively(), "--max-new", "3", "--exit", "fixed,q=0.2", "--loops", "1,4"];
    let files = ["--json", rows.to_str().unwrap(), "--plot", svg.to_str().unwrap()];
    let ran = ouro(&[&args[..], &files].concat());
    for word in ["D=1", "D=4", "fixed", "q=0.2", "even", "odd", "all", "depth", "saved %", "tokens/s"] {
        assert!(ran.text().contains(word), "{word}: {}", ran.text());
    }
    assert_eq!(ran.stderr, "", "nobody is looking");
    let rows: Value = serde_json::from_slice(&std::fs::read(rows).unwrap()).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 9);
    let svg = std::fs::read_to_string(svg).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
    for word in ["mean depth", "fixed depth", "exit gate", "<circle"] {
        assert!(svg.contains(word), "{word}");
    }
    assert!(!svg.contains("step difference"), "a family that was not measured");
}

#[test]
fn bad_input_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let good = r#"{"prompt":"a","answer":"b","tag":"c"}"#;
    let long = "word and ".repeat(600);
    let line = |prompt: &str, answer: &str, tag: &str| {
        format!("{good}\n\n{}\n", json!({ "prompt": prompt, "answer": answer, "tag": tag }))
    };
    let cases: [(&str, Vec<u8>, &[&str]); 18] = [
        ("empty", vec![], &["is empty", "one JSON object per line"]),
        ("blank", b"\n  \r\n\n".to_vec(), &["is empty"]),
        ("no JSON", format!("{good}\nprompt: a\n").into(), &[":2:", "not JSON"]),
        ("cut off", format!("{good}\n{}", &good[..20]).into(), &[":2:", "not JSON"]),
        ("two on a line", format!("{good} {good}\n").into(), &[":1:", "not JSON"]),
        ("an array", b"[]".to_vec(), &[":1:", "an array found, expected an object"]),
        ("a string", b"\"a\"".to_vec(), &[":1:", "a string found"]),
        ("not UTF-8", [good.as_bytes(), b"\n\"\xff\""].concat(), &[":2:", "UTF-8"]),
        ("no prompt", br#"{"answer":"b","tag":"c"}"#.to_vec(), &[":1:", "`prompt` is missing"]),
        ("no answer", br#"{"prompt":"b","tag":"c"}"#.to_vec(), &[":1:", "`answer` is missing"]),
        ("no tag", br#"{"prompt":"b","answer":"c"}"#.to_vec(), &[":1:", "`tag` is missing"]),
        ("a number", br#"{"prompt":1,"answer":"c","tag":"d"}"#.to_vec(), &[":1:", "`prompt` is a number"]),
        ("empty prompt", line(" ", "b", "c").into(), &[":3:", "`prompt` is empty"]),
        ("empty answer", line("a", "\n", "c").into(), &[":3:", "`answer` is empty"]),
        ("empty tag", line("a", "b", "").into(), &[":3:", "`tag` is empty"]),
        ("long tag", line("a", "b", &"t".repeat(33)).into(), &[":3:", "at most 32"]),
        ("tag of all", line("a", "b", "all").into(), &[":3:", "is taken"]),
        ("long answer", line("a", &long, "c").into(), &[":3:", "the context has"]),
    ];
    for (name, bytes, words) in cases {
        let file = saved(dir.path(), "bad.jsonl", bytes);
        let ran = ouro(&["eval", &file, "-m", &lively()]);
        assert_eq!(ran.code, Some(3), "{name}: {}", ran.stderr);
        ran.expect_error(3, &[&["bad.jsonl"], words].concat());
    }
    let file = saved(dir.path(), "good.jsonl", good);
    let gateless = golden("mha/mha-f32.gguf");
    let gateless = gateless.to_str().unwrap();
    let lively = lively();
    let cases: [(&[&str], i32, &[&str]); 10] = [
        (&["eval"], 2, &["FILE"]),
        (&["eval", "no-such-file"], 3, &["no-such-file"]),
        (&["eval", &file, "-m", "no-such-file"], 3, &["no-such-file"]),
        (&["eval", &file, "-m", &lively, "--exit", "sometimes"], 2, &["sometimes"]),
        (&["eval", &file, "-m", &lively, "--loops", "0"], 2, &["0"]),
        (&["eval", &file, "-m", gateless, "--exit", "q=0.5"], 2, &["--gate-from"]),
        (&["eval", &file, "-m", &lively, "--ctx", "4"], 3, &[":1:", "context has 4", "--ctx"]),
        (
            &["eval", &file, "-m", &lively, "--tags", "a,chain1"],
            3,
            &["good.jsonl:1:", "\"c\"", "one of a, chain1", "--tags"],
        ),
        (&["eval", "--perplexity", &file, "-m", &lively, "--tags", "a"], 2, &["--tags"]),
        (
            &["eval", &file, "-m", &lively, "--json", "no-such-folder/a", "--max-new", "1"],
            2,
            &["no-such-folder"],
        ),
    ];
    for (args, code, words) in cases {
        ouro(args).expect_error(code, words);
    }
}
