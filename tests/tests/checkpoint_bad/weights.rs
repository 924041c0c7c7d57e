//! Weights that are not what config.json says, and files of weights that are damaged.

use super::{check, config};
use ouro_tests::checkpoint_dir::{CheckpointDir, RawTensor, Tensors, shard_name};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

/// What is expected in many rows.
const WHOLE: &str = "expected a whole safetensors file";
const TOGETHER: &str = "expected an index and shards that belong together";

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
