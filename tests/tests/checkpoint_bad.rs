//! Malformed checkpoints: each is refused with a typed error that says what is wrong, at once, and no
//! file is left behind.

use ouro::error::Error;
use ouro_tests::checkpoint_dir::{CheckpointDir, RawTensor, Tensors, shard_name};
use ouro_tests::convert::quantize;
use ouro_tests::{assert_helpful, soon};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use tempfile::TempDir;

/// A name, what to do to a good checkpoint, and what the message says: what was found and what was expected.
type Case = (&'static str, fn(&CheckpointDir), &'static [&'static str]);

/// What is expected in many rows.
const COUNT: &str = "expected a positive integer";
const WHOLE: &str = "expected a whole safetensors file";
const TOGETHER: &str = "expected an index and shards that belong together";

fn check(cases: &[Case]) {
    for (name, damage, says) in cases {
        let checkpoint = CheckpointDir::golden("lively");
        damage(&checkpoint);
        let folder = TempDir::new().unwrap();
        let out = folder.path().join("out.gguf");
        let error = soon(name, || quantize(checkpoint.path(), &out, &["--type", "f16"])).expect_err(name);
        assert!(matches!(error, Error::BadInput(_)), "{name}: {error:?}");
        assert_helpful(name, &error.to_string(), says);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{name}: something was left behind");
    }
}

fn config(checkpoint: &CheckpointDir, key: &str, value: Value) {
    checkpoint.edit_json("config.json", |config| config[key] = value);
}

fn tokenizer(checkpoint: &CheckpointDir, edit: impl FnOnce(&mut Value)) {
    checkpoint.edit_json("tokenizer.json", edit);
}

fn remove_key(checkpoint: &CheckpointDir, key: &str) {
    checkpoint.edit_json("config.json", |config| drop(config.as_object_mut().unwrap().remove(key)));
}

#[test]
fn the_undamaged_one_converts() {
    let folder = TempDir::new().unwrap();
    let checkpoint = CheckpointDir::golden("lively");
    quantize(checkpoint.path(), &folder.path().join("out.gguf"), &["--type", "f16"]).unwrap();
}

#[test]
fn configurations() {
    check(&[
        (
            "no config.json",
            |c| fs::remove_file(c.file("config.json")).unwrap(),
            &["config.json is missing", "expected it beside the weights"],
        ),
        (
            "empty config.json",
            |c| fs::write(c.file("config.json"), "").unwrap(),
            &["not valid JSON", "expected a JSON object"],
        ),
        (
            "cut config.json",
            |c| fs::write(c.file("config.json"), "{\"hidden_size\": 6").unwrap(),
            &["not valid JSON", "expected a JSON object"],
        ),
        (
            "list as config.json",
            |c| fs::write(c.file("config.json"), "[1]").unwrap(),
            &["a list of 1", "expected a JSON object"],
        ),
        (
            "deeply nested config.json",
            |c| fs::write(c.file("config.json"), "[".repeat(1 << 20)).unwrap(),
            &["not valid JSON", "recursion", "expected a JSON object"],
        ),
        (
            "no model_type",
            |c| remove_key(c, "model_type"),
            &["`model_type` is missing", "expected the name of an architecture, \"ouro\" or \"llama\""],
        ),
        (
            "unknown model_type",
            |c| config(c, "model_type", "mamba".into()),
            &["unknown architecture \"mamba\"", "expected ouro or llama"],
        ),
        ("no hidden_size", |c| remove_key(c, "hidden_size"), &["`hidden_size` is missing", COUNT]),
        ("null hidden_size", |c| config(c, "hidden_size", Value::Null), &["`hidden_size` is missing", COUNT]),
        ("no vocab_size", |c| remove_key(c, "vocab_size"), &["`vocab_size` is missing", COUNT]),
        (
            "no num_hidden_layers",
            |c| remove_key(c, "num_hidden_layers"),
            &["`num_hidden_layers` is missing", COUNT],
        ),
        (
            "no num_attention_heads",
            |c| remove_key(c, "num_attention_heads"),
            &["`num_attention_heads` is missing", COUNT],
        ),
        (
            "no intermediate_size",
            |c| remove_key(c, "intermediate_size"),
            &["`intermediate_size` is missing", COUNT],
        ),
        (
            "no max_position_embeddings",
            |c| remove_key(c, "max_position_embeddings"),
            &["`max_position_embeddings` is missing", COUNT],
        ),
        (
            "no rms_norm_eps",
            |c| remove_key(c, "rms_norm_eps"),
            &["`rms_norm_eps` is missing", "expected a small positive number"],
        ),
        (
            "no rope_theta",
            |c| remove_key(c, "rope_theta"),
            &["`rope_theta` is missing", "expected a positive number"],
        ),
        ("no total_ut_steps", |c| remove_key(c, "total_ut_steps"), &["`total_ut_steps` is missing", COUNT]),
        ("no loops", |c| config(c, "total_ut_steps", 0.into()), &["`total_ut_steps` is 0", COUNT]),
        (
            "hidden_size is text",
            |c| config(c, "hidden_size", "64".into()),
            &["`hidden_size` is \"64\"", COUNT],
        ),
        ("hidden_size is negative", |c| config(c, "hidden_size", (-64).into()), &["is -64", COUNT]),
        ("hidden_size is broken", |c| config(c, "hidden_size", json!(64.5)), &["is 64.5", COUNT]),
        (
            "hidden_size is huge",
            |c| config(c, "hidden_size", json!(1u64 << 40)),
            &["is 1099511627776", COUNT],
        ),
        (
            "heads are no multiple",
            |c| config(c, "num_key_value_heads", 3.into()),
            &["is 3", "expected a divisor of num_attention_heads, 4"],
        ),
        (
            "odd head_dim",
            |c| config(c, "head_dim", 31.into()),
            &["`head_dim` is 31", "expected an even number, as RoPE turns pairs"],
        ),
        (
            "heads do not divide the width",
            |c| {
                remove_key(c, "head_dim");
                config(c, "num_attention_heads", 6.into());
            },
            &[
                "`num_attention_heads` is 6",
                "expected a divisor of hidden_size, 64, where head_dim is not given",
            ],
        ),
        (
            "eps is 0",
            |c| config(c, "rms_norm_eps", 0.into()),
            &["`rms_norm_eps` is 0", "expected a positive number"],
        ),
        (
            "exit threshold above 1",
            |c| config(c, "early_exit_threshold", json!(1.5)),
            &["`early_exit_threshold` is 1.5", "expected a number from 0 to 1"],
        ),
        (
            "eps overflows",
            |c| config(c, "rms_norm_eps", json!(1e300)),
            &["`rms_norm_eps`", "expected a number that f32 holds"],
        ),
        (
            "scaled RoPE",
            |c| config(c, "rope_scaling", json!({"type": "yarn"})),
            &["`rope_scaling` = an object of 1 keys", "expected RoPE without scaling"],
        ),
        (
            "gelu",
            |c| config(c, "hidden_act", "gelu".into()),
            &["`hidden_act` = \"gelu\"", "expected \"silu\""],
        ),
        (
            "attention bias",
            |c| config(c, "attention_bias", true.into()),
            &["`attention_bias` = true", "expected false"],
        ),
        (
            "sliding window",
            |c| config(c, "use_sliding_window", true.into()),
            &["`use_sliding_window` = true", "expected false"],
        ),
        (
            "sliding layers",
            |c| config(c, "layer_types", json!(["full_attention", "sliding_attention"])),
            &["`layer_types` = a list of 2", "expected \"full_attention\" in all layers"],
        ),
        (
            "tied is a number",
            |c| config(c, "tie_word_embeddings", 1.into()),
            &["`tie_word_embeddings` is 1", "expected true or false"],
        ),
        (
            "four billion layers",
            |c| config(c, "num_hidden_layers", json!(u32::MAX)),
            &[
                "tensors are missing",
                "model.layers.2.",
                "num_hidden_layers",
                "expected all that config.json asks for",
            ],
        ),
        (
            "four billion tokens",
            |c| config(c, "vocab_size", json!(u32::MAX)),
            &["embed_tokens", "[512, 64]", "expected [4294967295, 64] from config.json"],
        ),
        (
            "four billion heads",
            |c| {
                config(c, "num_attention_heads", json!(u32::MAX));
                config(c, "num_key_value_heads", json!(u32::MAX));
                config(c, "head_dim", json!(u32::MAX - 1));
            },
            &["q_proj", "[128, 64]", "expected [18446744060824649730, 64] from config.json"],
        ),
    ]);
}

#[test]
fn tensors() {
    const V: &str = "model.layers.1.self_attn.v_proj.weight";
    check(&[
        (
            "missing",
            |c| c.edit_tensors(|t| drop(t.remove(V))),
            &["tensors are missing", V, "expected all that config.json asks for"],
        ),
        (
            "missing head",
            |c| c.edit_tensors(|t| drop(t.remove("lm_head.weight"))),
            &["lm_head.weight", "tie_word_embeddings", "expected all that config.json asks for"],
        ),
        (
            "extra",
            |c| {
                c.edit_tensors(|t| {
                    let tensor = t[V].clone();
                    t.insert("model.layers.0.self_attn.q_proj.bias".into(), tensor);
                });
            },
            &["ouro does not have", "q_proj.bias", "expected none"],
        ),
        (
            "a layer too many",
            |c| config(c, "num_hidden_layers", 1.into()),
            &["does not have", "model.layers.1.", "expected none"],
        ),
        (
            "post norms in a llama",
            |c| config(c, "model_type", "llama".into()),
            &["llama does not have", "early_exit_gate", "expected none"],
        ),
        (
            "wrong shape",
            |c| c.edit_tensors(|t| t.get_mut(V).unwrap().shape = vec![32, 128]),
            &[V, "[32, 128]", "expected [64, 64] from config.json"],
        ),
        (
            "flat matrix",
            |c| c.edit_tensors(|t| t.get_mut(V).unwrap().shape = vec![4096]),
            &[V, "[4096]", "expected [64, 64] from config.json"],
        ),
        (
            "doubles",
            |c| c.edit_tensors(|t| *t.get_mut(V).unwrap() = t[V].to(Dtype::F64)),
            &[V, "F64", "expected F32, F16 or BF16"],
        ),
        (
            "integers",
            |c| c.edit_tensors(|t| t.get_mut(V).unwrap().dtype = Dtype::I32),
            &[V, "I32", "expected F32, F16 or BF16"],
        ),
        (
            "not a number",
            |c| c.edit_tensors(|t| set(t, V, f32::NAN)),
            &["blk.1.attn_v.weight", "NaN", "expected finite numbers"],
        ),
        (
            "infinite norm",
            |c| c.edit_tensors(|t| set(t, "model.norm.weight", f32::INFINITY)),
            &["output_norm.weight", "inf", "expected finite numbers"],
        ),
        (
            "too large for f16",
            |c| c.edit_tensors(|t| set(t, V, 1e5)),
            &["blk.1.attn_v.weight", "too large for F16", "--tensor-type", "expected smaller ones"],
        ),
        (
            "gate without bias",
            |c| c.edit_tensors(|t| drop(t.remove("model.early_exit_gate.bias"))),
            &["model.early_exit_gate.bias", "expected both weight and bias of the exit gate"],
        ),
        (
            "gate without weight",
            |c| c.edit_tensors(|t| drop(t.remove("model.early_exit_gate.weight"))),
            &["model.early_exit_gate.weight", "expected both weight and bias of the exit gate"],
        ),
        (
            "gate of another width",
            |c| {
                c.edit_tensors(|t| {
                    let gate = t.get_mut("model.early_exit_gate.weight").unwrap();
                    *gate = RawTensor { dtype: Dtype::F32, shape: vec![1, 32], data: vec![0; 128] };
                });
            },
            &["model.early_exit_gate.weight", "[1, 32]", "expected [1, 64] from config.json"],
        ),
        (
            "gate is not a number",
            |c| c.edit_tensors(|t| set(t, "model.early_exit_gate.bias", f32::NAN)),
            &["model.early_exit_gate.bias", "NaN", "expected finite numbers"],
        ),
    ]);
}

/// Changes a value in the middle of a tensor of f32.
fn set(tensors: &mut Tensors, name: &str, value: f32) {
    let data = &mut tensors.get_mut(name).unwrap().data;
    let middle = data.len() / 8 * 4;
    data[middle..middle + 4].copy_from_slice(&value.to_le_bytes());
}

fn overwrite(checkpoint: &CheckpointDir, offset: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(checkpoint.file("model.safetensors")).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

fn cut(checkpoint: &CheckpointDir, change: impl FnOnce(u64) -> u64) {
    let file = OpenOptions::new().write(true).open(checkpoint.file("model.safetensors")).unwrap();
    file.set_len(change(file.metadata().unwrap().len())).unwrap();
}

/// A safetensors file with this header and `data` bytes after it.
fn header(checkpoint: &CheckpointDir, json: &str, data: usize) {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    fs::write(checkpoint.file("model.safetensors"), bytes).unwrap();
}

#[test]
fn safetensors_headers() {
    check(&[
        (
            "no weights",
            |c| fs::remove_file(c.file("model.safetensors")).unwrap(),
            &[
                "model.safetensors is missing",
                "expected this file, or model.safetensors.index.json and its shards",
            ],
        ),
        ("empty file", |c| cut(c, |_| 0), &["ends inside its header", WHOLE]),
        ("7 bytes", |c| cut(c, |_| 7), &["ends inside its header", WHOLE]),
        ("cut in the header", |c| cut(c, |_| 100), &["the header claims", "at most 92 are there", WHOLE]),
        ("cut in the data", |c| cut(c, |len| len - 1), &["the header describes", "but the file has", WHOLE]),
        ("bytes at the end", |c| cut(c, |len| len + 1), &["the header describes", "but the file has", WHOLE]),
        (
            "length of 2^64 - 1",
            |c| overwrite(c, 0, &[0xff; 8]),
            &["the header claims 18446744073709551615", WHOLE],
        ),
        ("length of 2^63", |c| overwrite(c, 0, &(1u64 << 63).to_le_bytes()), &["the header claims", WHOLE]),
        ("length 0", |c| overwrite(c, 0, &[0; 8]), &["malformed", WHOLE]),
        ("no JSON", |c| overwrite(c, 8, b"x"), &["malformed", WHOLE]),
        ("not UTF-8", |c| overwrite(c, 12, &[0xff]), &["malformed", WHOLE]),
        ("a list", |c| header(c, "[]", 0), &["malformed", WHOLE]),
        (
            "no tensors",
            |c| header(c, "{}", 0),
            &["tensors are missing", "expected all that config.json asks for"],
        ),
        ("nested", |c| header(c, &"{\"a\":".repeat(100_000), 0), &["malformed", WHOLE]),
        (
            "unknown type",
            |c| header(c, r#"{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}"#, 4),
            &["malformed", "F99", WHOLE],
        ),
        (
            "offsets backwards",
            |c| header(c, r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}"#, 4),
            &["malformed", WHOLE],
        ),
        (
            "offsets past the end",
            |c| header(c, r#"{"a": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}"#, 4),
            &["the header describes", "but the file has", WHOLE],
        ),
        (
            "a hole",
            |c| header(c, r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}"#, 8),
            &["malformed", WHOLE],
        ),
        (
            "overlap",
            |c| {
                let json = r#"{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                               "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}"#;
                header(c, json, 12);
            },
            &["malformed", WHOLE],
        ),
        (
            "shape is more than the data",
            |c| header(c, r#"{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}"#, 4),
            &["malformed", WHOLE],
        ),
        (
            "shape overflows",
            |c| {
                let json = r#"{"a": {"dtype": "F32", "shape": [4294967296, 4294967296, 2], "data_offsets": [0, 4]}}"#;
                header(c, json, 4);
            },
            &["malformed", WHOLE],
        ),
        (
            "negative shape",
            |c| header(c, r#"{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}"#, 4),
            &["malformed", WHOLE],
        ),
        (
            "a folder instead of a file",
            |c| {
                fs::remove_file(c.file("model.safetensors")).unwrap();
                fs::create_dir(c.file("model.safetensors")).unwrap();
            },
            &["model.safetensors", "expected a file that can be read"],
        ),
    ]);
}

fn index(checkpoint: &CheckpointDir, edit: impl FnOnce(&mut Value)) {
    checkpoint.shard(2);
    checkpoint.edit_json("model.safetensors.index.json", edit);
}

#[test]
fn shard_indices() {
    check(&[
        (
            "absent shard",
            |c| {
                c.shard(2);
                fs::remove_file(c.file(&shard_name(1, 2))).unwrap();
            },
            &["model-00002-of-00002.safetensors is missing", "expected every shard that the index names"],
        ),
        (
            "truncated shard",
            |c| {
                c.shard(2);
                let path = c.file(&shard_name(0, 2));
                fs::write(&path, &fs::read(&path).unwrap()[..1000]).unwrap();
            },
            &["model-00001-of-00002.safetensors", "header", WHOLE],
        ),
        (
            "no weight_map",
            |c| index(c, |index| *index = json!({})),
            &["index.json", "`weight_map` is missing", "expected an object"],
        ),
        (
            "weight_map is a list",
            |c| index(c, |index| index["weight_map"] = json!([1])),
            &["a list of 1", "expected an object"],
        ),
        (
            "empty weight_map",
            |c| index(c, |index| index["weight_map"] = json!({})),
            &["tensors are missing", "expected all that config.json asks for"],
        ),
        (
            "a number as file",
            |c| index(c, |index| index["weight_map"]["lm_head.weight"] = 1.into()),
            &["lm_head.weight is said to be in 1", TOGETHER],
        ),
        (
            "a file elsewhere",
            |c| index(c, |index| index["weight_map"]["lm_head.weight"] = "../secret.safetensors".into()),
            &["../secret.safetensors", "not a file of this folder", TOGETHER],
        ),
        (
            "an absolute path",
            |c| index(c, |index| index["weight_map"]["lm_head.weight"] = "/etc/passwd".into()),
            &["/etc/passwd", "not a file of this folder", TOGETHER],
        ),
        (
            "the wrong shard",
            |c| {
                index(c, |index| {
                    index["weight_map"]["lm_head.weight"] = shard_name(1, 2).into();
                });
            },
            &["lm_head.weight is said to be in model-00002-of-00002", "is not there", TOGETHER],
        ),
        (
            "a tensor in no shard",
            |c| index(c, |index| index["weight_map"]["ghost"] = shard_name(1, 2).into()),
            &["ghost is said to be in", "is not there", TOGETHER],
        ),
        (
            "a tensor in both shards",
            |c| {
                let all = c.tensors();
                c.shard(2);
                ouro_tests::checkpoint_dir::write_safetensors(&c.file(&shard_name(1, 2)), &all);
            },
            &["is in", "model-00001-of-00002.safetensors too", TOGETHER],
        ),
        (
            "index is no JSON",
            |c| {
                c.shard(2);
                fs::write(c.file("model.safetensors.index.json"), "{").unwrap();
            },
            &["index.json: not valid JSON", "expected a JSON object"],
        ),
    ]);
}

#[test]
fn tokenizers() {
    check(&[
        (
            "no tokenizer.json",
            |c| fs::remove_file(c.file("tokenizer.json")).unwrap(),
            &["tokenizer.json is missing", "save_pretrained", "expected a fast tokenizer"],
        ),
        (
            "no JSON",
            |c| fs::write(c.file("tokenizer.json"), "{]").unwrap(),
            &["not valid JSON", "expected a JSON object"],
        ),
        (
            "no model",
            |c| tokenizer(c, |t| t["model"] = Value::Null),
            &["`model` is missing", "expected a BPE model"],
        ),
        (
            "unigram",
            |c| tokenizer(c, |t| t["model"]["type"] = "Unigram".into()),
            &["Unigram", "expected BPE"],
        ),
        (
            "no vocab",
            |c| tokenizer(c, |t| t["model"]["vocab"] = Value::Null),
            &["`model.vocab` is", "expected an object"],
        ),
        (
            "vocab is a list",
            |c| tokenizer(c, |t| t["model"]["vocab"] = json!(["a"])),
            &["a list of 1", "expected an object"],
        ),
        (
            "negative id",
            |c| tokenizer(c, |t| t["model"]["vocab"]["!"] = (-1).into()),
            &["\"!\"", "-1", "expected an id"],
        ),
        (
            "id beyond the embedding",
            |c| tokenizer(c, |t| t["model"]["vocab"]["!"] = 512.into()),
            &["\"!\" has id 512", "expected ids below vocab_size = 512 in config.json"],
        ),
        (
            "id of 2^63",
            |c| tokenizer(c, |t| t["model"]["vocab"]["!"] = json!(1u64 << 63)),
            &["id 9223372036854775808", "expected ids below vocab_size = 512 in config.json"],
        ),
        (
            "two tokens with one id",
            |c| tokenizer(c, |t| t["model"]["vocab"]["!"] = 100.into()),
            &["id 100 belongs to both", "expected one token per id"],
        ),
        (
            "no merges",
            |c| tokenizer(c, |t| t["model"]["merges"] = Value::Null),
            &["`model.merges` is", "expected a list of pairs"],
        ),
        (
            "merge of three",
            |c| tokenizer(c, |t| t["model"]["merges"][7] = json!(["a", "b", "c"])),
            &["model.merges[7]", "expected two tokens without spaces"],
        ),
        (
            "merge without a space",
            |c| tokenizer(c, |t| t["model"]["merges"][7] = "ab".into()),
            &["model.merges[7]", "expected two tokens without spaces"],
        ),
        (
            "merge of a token that is not there",
            |c| tokenizer(c, |t| t["model"]["merges"][7] = json!(["☃", "a"])),
            &["merge 7", "☃", "expected it in model.vocab"],
        ),
        (
            "merge to a token that is not there",
            |c| tokenizer(c, |t| t["model"]["merges"][7] = json!(["z", "q"])),
            &["merge 7", "\"zq\"", "expected it in model.vocab"],
        ),
        (
            "a normalizer",
            |c| tokenizer(c, |t| t["normalizer"] = json!({"type": "NFKC"})),
            &["normalizer NFKC is not supported", "expected none, as byte-level tokenizers have"],
        ),
        (
            "another pre-tokenizer",
            |c| tokenizer(c, |t| t["pre_tokenizer"] = json!({"type": "Metaspace"})),
            &[
                "[Metaspace]",
                "expected [Digits, ByteLevel] with individual_digits (smollm) or [ByteLevel] (gpt-2)",
            ],
        ),
        (
            "no pre-tokenizer",
            |c| tokenizer(c, |t| t["pre_tokenizer"] = Value::Null),
            &[
                "[none]",
                "expected [Digits, ByteLevel] with individual_digits (smollm) or [ByteLevel] (gpt-2)",
            ],
        ),
        (
            "digits in groups",
            |c| {
                tokenizer(c, |t| t["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = false.into());
            },
            &[
                "[Digits, ByteLevel]",
                "expected [Digits, ByteLevel] with individual_digits (smollm) or [ByteLevel] (gpt-2)",
            ],
        ),
        (
            "prefix space",
            |c| tokenizer(c, |t| t["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true.into()),
            &[
                "[Digits, ByteLevel]",
                "expected [Digits, ByteLevel] with individual_digits (smollm) or [ByteLevel] (gpt-2)",
            ],
        ),
        (
            "another post-processor",
            |c| tokenizer(c, |t| t["post_processor"] = json!({"type": "BertProcessing"})),
            &["post-processor BertProcessing", "expected ByteLevel or TemplateProcessing"],
        ),
        (
            "a token that takes the space before it",
            |c| tokenizer(c, |t| t["added_tokens"][1]["lstrip"] = true.into()),
            &["added_tokens[1].lstrip = true", "expected false"],
        ),
        (
            "a token that stands between words",
            |c| tokenizer(c, |t| t["added_tokens"][0]["single_word"] = true.into()),
            &["added_tokens[0].single_word = true", "expected false"],
        ),
        (
            "dropout",
            |c| tokenizer(c, |t| t["model"]["dropout"] = 0.1.into()),
            &["model.dropout", "expected null, as ids would be random"],
        ),
        (
            "a token for unknown bytes",
            |c| {
                tokenizer(c, |t| {
                    t["model"]["unk_token"] = "!".into();
                    // Byte 0.
                    t["model"]["vocab"].as_object_mut().unwrap().remove("Ā").unwrap();
                });
            },
            &["model.unk_token = \"!\"", "'Ā'", "expected null, or a token for every byte"],
        ),
        (
            "byte fallback",
            |c| tokenizer(c, |t| t["model"]["byte_fallback"] = true.into()),
            &["byte_fallback", "expected false"],
        ),
        (
            "ignored merges",
            |c| tokenizer(c, |t| t["model"]["ignore_merges"] = true.into()),
            &["ignore_merges", "expected false"],
        ),
        (
            "suffixes",
            |c| tokenizer(c, |t| t["model"]["end_of_word_suffix"] = "</w>".into()),
            &["end_of_word_suffix", "expected an empty one"],
        ),
        (
            "added tokens are no list",
            |c| tokenizer(c, |t| t["added_tokens"] = 3.into()),
            &["`added_tokens` is 3", "expected a list of objects with id, content and special"],
        ),
        (
            "added token without id",
            |c| tokenizer(c, |t| t["added_tokens"][1] = json!({"content": "x"})),
            &["added_tokens[1]", "expected an object with id, content and special"],
        ),
        (
            "added token on another's id",
            |c| tokenizer(c, |t| t["added_tokens"][1]["id"] = 100.into()),
            &["id 100 belongs to both", "expected one token per id"],
        ),
        (
            "unknown bos token",
            |c| c.edit_json("tokenizer_config.json", |t| t["bos_token"] = "<s>".into()),
            &["`bos_token` is \"<s>\"", "expected the text of a token in tokenizer.json"],
        ),
        (
            "eos id beyond the vocabulary",
            |c| {
                c.edit_json("tokenizer_config.json", |t| t["eos_token"] = Value::Null);
                config(c, "eos_token_id", 512.into());
            },
            &["`eos_token_id` is 512", "expected a token id below vocab_size, 512"],
        ),
        (
            "chat template is a number",
            |c| c.edit_json("tokenizer_config.json", |t| t["chat_template"] = 7.into()),
            &[
                "`chat_template` is 7",
                "expected a template, or a list of templates with one named \"default\"",
            ],
        ),
        (
            "chat template is not UTF-8",
            |c| {
                c.edit_json("tokenizer_config.json", |t| t["chat_template"] = Value::Null);
                fs::write(c.file("chat_template.jinja"), [0xff]).unwrap();
            },
            &["chat_template.jinja", "expected UTF-8"],
        ),
    ]);
}
