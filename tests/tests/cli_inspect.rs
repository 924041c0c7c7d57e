//! `ouro inspect`, on files of many kinds.

use ouro_runtime::gguf::Tensor;
use ouro_runtime::store::MemoryStore;
use ouro_tests::harness::golden;
use ouro_tests::{GgufBuilder, Ran, read_contents, run_command};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn inspect(file: &Path, args: &[&str]) -> Ran {
    let args = [&["inspect", file.to_str().unwrap()], args].concat();
    run_command(env!("CARGO_BIN_EXE_ouro-tested"), &args, b"")
}

fn golden_files() -> Vec<PathBuf> {
    let folders = ["mha", "wide", "lively"].map(golden);
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "gguf")).collect()
}

fn sum(values: &Value, key: &str) -> u64 {
    values.as_array().unwrap().iter().map(|value| value[key].as_u64().unwrap()).sum()
}

/// Values in the checkpoint beside a golden file, without the gate: all, and those of the
/// matrices in layers.
fn parameters_of_checkpoint(file: &Path) -> (u64, u64) {
    let bytes = std::fs::read(file.with_file_name("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let (mut all, mut in_layers) = (0, 0);
    for (name, tensor) in tensors.tensors().into_iter().filter(|(name, _)| !name.contains("gate.")) {
        let count = tensor.shape().iter().product::<usize>() as u64;
        all += count;
        in_layers += if name.contains(".layers.") && tensor.shape().len() == 2 { count } else { 0 };
    }
    (all, in_layers)
}

#[test]
fn golden_files_are_described() {
    let files = golden_files();
    assert!(files.len() >= 9, "{files:?}");
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let found = inspect(&file, &["--json", "--check", "--tensors"]).json();
        let is_lively = name.starts_with("lively");
        assert_eq!(found["architecture"], "ouro");
        assert_eq!((&found["runs"], &found["loops"]), (&json!(true), &json!(4)), "{found}");
        assert_eq!(found["gate"].is_object(), is_lively, "{name}");
        assert_eq!(found["stream_ready"], is_lively, "{name}");
        assert_eq!(found["stream_problems"] == json!([]), is_lively, "{name}");
        assert_eq!(found["check"]["ok"], true);
        assert_eq!(found["bytes"], std::fs::metadata(&file).unwrap().len());
        let (parameters, in_layers) = parameters_of_checkpoint(&file);
        assert_eq!(found["parameters"], parameters, "{name}");
        for groups in ["by_role", "by_type"] {
            assert_eq!(sum(&found[groups], "parameters"), parameters, "{name} {groups}");
            assert_eq!(sum(&found[groups], "bytes"), found["tensor_bytes"], "{name} {groups}");
        }
        assert_eq!(sum(&found["tensors"], "bytes"), found["tensor_bytes"]);
        for group in found["by_type"].as_array().unwrap() {
            let float = matches!(group["name"].as_str().unwrap(), "F32" | "F16");
            assert_eq!(group["integer_kernels"], !float, "{name}: {group}");
        }
        let reads = |key: &str| found["reads"][key].as_u64().unwrap();
        assert_eq!(reads("per_token"), 4 * reads("per_loop") + reads("head") + reads("embedding_row"));
        if name.ends_with("f32.gguf") {
            assert_eq!(reads("per_loop"), 4 * in_layers, "{name}");
        }
        assert_eq!(found["tokenizer"]["usable"], true);
        assert_eq!(found["tokenizer"]["vocabulary"], 512);
        assert!(found["chat_template"].as_str().unwrap().contains("<|im_start|>"));
        assert_eq!(found["metadata"]["tokenizer.ggml.tokens"]["count"], 512);
    }
}

#[test]
fn the_report_for_people() {
    let file = golden("lively/lively-gate-f32.gguf");
    let short = inspect(&file, &[]);
    // The first line begins with the path of the checkout, which may be long and hold any word.
    let (_, short) = short.text().split_once('\n').unwrap();
    for words in
        ["runs here", "T = 4", "threshold 0.5", "per token at T = 4", "ready", "pre smollm", "embedding"]
    {
        assert!(short.contains(words), "{words:?} expected in {short}");
    }
    assert!(short.lines().all(|line| line.chars().count() <= 120), "{short}");
    assert!(!short.contains("blk.1.ffn_down.weight") && !short.contains("check"), "{short}");
    let long = inspect(&file, &["--tensors", "--check"]);
    assert!(
        long.text().contains("blk.1.ffn_down.weight") && long.text().contains("passed"),
        "{}",
        long.text()
    );
    let other = inspect(&golden("mha/mha-f32.gguf"), &[]);
    assert!(other.text().contains("output.weight lies before"), "{}", other.text());
    assert!(other.text().contains("--gate-from"), "{}", other.text());
}

fn saved(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn an_unknown_architecture_with_an_unknown_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    let scores: Vec<f32> = (0..20).map(|i| -(i as f32)).collect();
    let file = GgufBuilder::new()
        .string("general.architecture", "mamba\u{1b}[31m")
        .string("tokenizer.ggml.model", "llama")
        .strings("tokenizer.ggml.tokens", &["<s>", "a", "b"])
        .f32s("tokenizer.ggml.scores", &scores)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 4_000_000_000)
        .f32("not.a.number", f32::NAN)
        .tensor("blk.0.ssm_in.weight", 16, &[256, 2], &[7; 132])
        .tensor_f32("scalar", &[], &[1.0])
        .tensor_f32("output_norm.weight", &[3], &[1.0, 2.0, 3.0])
        .build();
    let file = saved(dir.path(), "mamba.gguf", &file);
    let found = inspect(&file, &["--json", "--check", "--tensors"]).json();
    assert_eq!(
        (&found["runs"], &found["shape"], &found["reads"]),
        (&json!(false), &json!(null), &json!(null))
    );
    assert!(found["why_not"].as_str().unwrap().contains(r#"expected "ouro" or "llama""#), "{found}");
    assert_eq!(found["tokenizer"]["model"], "llama");
    assert_eq!(found["tokenizer"]["usable"], false);
    assert_eq!(found["tokenizer"]["special"][0], json!({ "name": "bos", "id": 1, "text": "a" }));
    assert_eq!(found["tokenizer"]["special"][1]["text"], json!(null));
    assert_eq!(found["metadata"]["not.a.number"], json!(null));
    assert_eq!(found["tensors"][0]["type"], "IQ2_XXS");
    assert_eq!(found["parameters"], 512 + 1 + 3);
    assert_eq!(found["check"]["not_decoded"], json!(["blk.0.ssm_in.weight"]));

    let report = inspect(&file, &["--tensors", "--check"]);
    assert!(report.text().contains("does not run here"), "{}", report.text());
    assert!(!report.text().contains('\u{1b}'), "the file must not control the terminal");

    let nothing = saved(dir.path(), "nothing.gguf", &GgufBuilder::new().build());
    let found = inspect(&nothing, &["--json", "--check", "--tensors"]).json();
    assert_eq!((&found["architecture"], &found["tokenizer"]), (&json!(null), &json!(null)));
    assert!(inspect(&nothing, &["--check"]).text().contains("passed"));
}

fn tensor(file: &[u8], name: &str) -> Tensor {
    let contents = read_contents(&mut MemoryStore::new(file)).unwrap();
    contents.tensors.into_iter().find(|(known, _)| known == name.as_bytes()).unwrap().1
}

/// File, tensor, bytes from its start, what is put there, words of the error.
type Bad<'c> = (&'c str, &'c str, u64, &'c [u8], &'c [&'c str]);

#[test]
fn a_check_names_the_first_bad_value() {
    let dir = tempfile::tempdir().unwrap();
    const NAN_F16: [u8; 2] = [0x01, 0x7e];
    const INFINITY_F32: [u8; 4] = [0, 0, 0x80, 0x7f];
    let cases: [Bad<'_>; 4] = [
        // Rows of 64 values: two blocks of 18 bytes.
        ("mha/mha-Q4_0.gguf", "blk.1.ffn_up.weight", 5 * 36 + 18, &NAN_F16, &["row 5, block 1 (Q4_0"]),
        // The scale of the minimums, the second f16 of a block of 144 bytes.
        ("wide/wide-Q4_K_M.gguf", "blk.0.attn_q.weight", 7 * 144 + 2, &NAN_F16, &["row 7, block 0 (Q4_K"]),
        (
            "lively/lively-gate-f32.gguf",
            "output.weight",
            4 * (3 * 64 + 9),
            &INFINITY_F32,
            &["row 3, column 9 (F32", "inf"],
        ),
        ("lively/lively-gate-f32.gguf", "output_norm.weight", 4 * 63, &INFINITY_F32, &["row 0, column 63"]),
    ];
    for (number, (file, name, at, bytes, words)) in cases.into_iter().enumerate() {
        let mut file = std::fs::read(golden(file)).unwrap();
        let offset = tensor(&file, name).offset + at;
        file[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        let path = saved(dir.path(), &format!("{number}.gguf"), &file);

        let ran = inspect(&path, &["--check"]);
        assert_eq!(ran.code, Some(3), "{}", ran.stderr);
        for word in [&[name, path.to_str().unwrap()], words].concat() {
            assert!(ran.stderr.contains(word), "{word:?} expected in {}", ran.stderr);
        }
        let ran = inspect(&path, &["--check", "--json"]);
        let found: Value = serde_json::from_slice(&ran.stdout).unwrap();
        assert_eq!((ran.code, &found["check"]["ok"]), (Some(3), &json!(false)));
        assert!(found["check"]["error"].as_str().unwrap().contains(words[0]), "{found}");
    }
}

#[test]
fn of_two_bad_values_the_first_in_the_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    // More than one piece of a check.
    let mut values = vec![0.0f32; 700_000];
    values[699_999] = f32::NAN;
    let build = |values: &[f32]| {
        let file = GgufBuilder::new().string("general.architecture", "unknown");
        file.tensor_f32("first", &[1000, 700], values).tensor_f32("second", &[1], &[f32::NAN]).build()
    };
    for bad in [699_999, 512_345, 262_144, 262_143, 0] {
        values[bad] = f32::NAN;
        let path = saved(dir.path(), "two.gguf", &build(&values));
        let ran = inspect(&path, &["--check"]);
        let place = format!("tensor first: row {}, column {} ", bad / 1000, bad % 1000);
        assert!(ran.code == Some(3) && ran.stderr.contains(&place), "{place:?} expected in {}", ran.stderr);
    }
}

#[test]
fn a_check_reads_the_tables_of_the_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    let file = GgufBuilder::new()
        .string("general.architecture", "unknown")
        .string("tokenizer.ggml.model", "gpt2")
        .strings("tokenizer.ggml.tokens", &["a", "b", "a"])
        .strings::<&str>("tokenizer.ggml.merges", &[])
        .build();
    let path = saved(dir.path(), "twice.gguf", &file);
    assert!(inspect(&path, &[]).text().contains("can't be used here"));
    let ran = inspect(&path, &["--check"]);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(ran.stderr.contains("tokens 0 and 2 have the same text"), "{}", ran.stderr);
}

#[test]
fn wrong_usage_and_bad_files() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(golden("mha/mha-Q4_0.gguf")).unwrap();
    for len in [0, 3, 24, 1000, whole.len() / 2, whole.len() - 64] {
        let path = saved(dir.path(), "cut.gguf", &whole[..len]);
        inspect(&path, &["--json"]).expect_error(3, &["cut.gguf"]);
    }
    inspect(&golden("mha/config.json"), &[]).expect_error(3, &["not a GGUF file"]);
    inspect(Path::new("no-such-file"), &["--check"]).expect_error(3, &["no-such-file"]);
    inspect(dir.path(), &[]).expect_error(3, &["is a folder, expected a GGUF file", "ouro quantize"]);
    inspect(Path::new("a"), &["--unknown"]).expect_error(2, &["--unknown"]);
}
