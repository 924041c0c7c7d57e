//! `ouro quantize` on the golden checkpoints, against what llama.cpp's converter and quantizer made of
//! them.

use ouro_quant::{Format, decode};
use ouro_tests::Content;
use ouro_tests::checkpoint_dir::CheckpointDir;
use ouro_tests::convert::{Written, quantize};
use ouro_tests::harness::{golden, load};
use std::collections::BTreeSet;
use tempfile::TempDir;

const GOLDEN: [(&str, &str); 3] =
    [("mha", "mha/mha-f32.gguf"), ("wide", "wide/wide-f32.gguf"), ("lively", "lively/lively-gate-f32.gguf")];

const TYPES: [&str; 11] =
    ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q4_k", "q5_k", "q6_k", "q4_k_m", "q5_k_m"];

fn convert(name: &str, options: &[&str]) -> Written {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.gguf");
    quantize(&golden(name), &out, options).unwrap();
    Written::read(&out)
}

#[test]
fn f32_is_what_llama_cpp_writes() {
    for (name, file) in GOLDEN {
        let (ours, theirs) = (convert(name, &["--type", "f32"]), Written::read(&golden(file)));
        assert_eq!(ours.tensors(), theirs.tensors(), "{name}");

        let (mut ours, mut theirs) = (ours.metadata(), theirs.metadata());
        for (key, why) in [
            ("general.name", "the folder's name"),
            ("general.size_label", "decoration"),
            ("ouro.exit_gate.threshold", "lively's GGUF was given another one than its config.json"),
        ] {
            let _ = why;
            ours.remove(key);
            theirs.remove(key);
        }
        for (key, value) in theirs {
            assert_eq!(ours.get(&key), Some(&value), "{name}: {key}");
        }
    }
}

#[test]
fn every_key_has_a_reason() {
    // Beyond what llama.cpp wrote for the same checkpoint.
    let expected: BTreeSet<String> = [
        "general.alignment",
        "general.name",
        "ouro.checksum.metadata",
        "ouro.checksum.xxh3_4096",
        "ouro.exit_gate.bias",
        "ouro.exit_gate.threshold",
        "ouro.exit_gate.weight",
    ]
    .map(str::to_owned)
    .into();
    let theirs = Written::read(&golden("mha/mha-f32.gguf")).metadata();
    let ours = convert("mha", &["--type", "f32"]).metadata();
    let extra: BTreeSet<String> = ours.into_keys().filter(|key| !theirs.contains_key(key)).collect();
    assert_eq!(extra, expected);
}

#[test]
fn the_gate_is_in_the_metadata() {
    for (name, _) in GOLDEN {
        let metadata = convert(name, &["--type", "q8_0"]).metadata();
        let tensors = CheckpointDir::golden(name).tensors();
        let bits = |values: Vec<f32>| -> Vec<Content> {
            values.into_iter().map(|value| Content::Number("f32", value.to_bits().into())).collect()
        };
        let weight = bits(tensors["model.early_exit_gate.weight"].values());
        assert_eq!(metadata["ouro.exit_gate.weight"], Content::Array("f32", weight), "{name}");
        let bias = bits(tensors["model.early_exit_gate.bias"].values());
        assert_eq!(metadata["ouro.exit_gate.bias"], bias[0], "{name}");
        assert_eq!(metadata["ouro.exit_gate.threshold"], bits(vec![1.0])[0], "{name}");
    }
}

#[test]
fn files_stream() {
    let order = Written::read(&golden("lively/lively-gate-f32.gguf")).names();
    for file_type in ["f32", "q4_0"] {
        let ours = convert("lively", &["--type", file_type]);
        assert_eq!(ours.names(), order);
        assert_eq!(ours.contents.alignment, 4096);
        let mut end = ours.contents.data_offset;
        for (name, tensor) in &ours.contents.tensors {
            assert_eq!(tensor.offset, end, "{name:?} does not follow the one before");
            end = (tensor.offset + tensor.len).next_multiple_of(4096);
        }
        assert_eq!(ours.bytes.len() as u64, end);
    }
}

/// llama.cpp's own bytes, where the format leaves no freedom; its choice of formats everywhere.
#[test]
fn quantized_is_what_llama_cpp_writes() {
    for (name, file, file_type) in [
        ("wide", "wide/wide-F16.gguf", "f16"),
        ("wide", "wide/wide-Q8_0.gguf", "q8_0"),
        ("wide", "wide/wide-Q4_0.gguf", "q4_0"),
        ("wide", "wide/wide-Q4_K_M.gguf", "q4_k_m"),
        ("mha", "mha/mha-Q8_0.gguf", "q8_0"),
    ] {
        let (ours, theirs) = (convert(name, &["--type", file_type]), Written::read(&golden(file)));
        assert_eq!(
            ours.metadata()["general.file_type"],
            theirs.metadata()["general.file_type"],
            "{file}: file_type"
        );
        let ours = ours.tensors();
        for (tensor, (id, dims, bytes)) in theirs.tensors() {
            if file_type == "q4_k_m" && tensor.ends_with("ffn_down.weight") {
                // llama.cpp counts num_loops * block_count layers here, so its "last eighth" is elsewhere.
                continue;
            }
            let (our_id, our_dims, our_bytes) = &ours[&tensor];
            assert_eq!((*our_id, our_dims), (id, &dims), "{file}: {tensor}");
            let format = Format::from_id(id).unwrap();
            if !matches!(format, Format::Q4_K | Format::Q6_K) {
                assert!(*our_bytes == bytes, "{file}: bytes of {tensor}");
            }
        }
    }
}

/// Every type on every checkpoint gives a model that opens, with weights near the original.
#[test]
fn every_type_converts() {
    for (name, file) in GOLDEN {
        let original = Written::read(&golden(file));
        let original = original.tensors();
        for file_type in TYPES {
            let folder = TempDir::new().unwrap();
            let out = folder.path().join("out.gguf");
            quantize(&golden(name), &out, &["--type", file_type]).unwrap();
            let _ = load(&out);
            for (tensor, (id, dims, bytes)) in Written::read(&out).tensors() {
                let format = Format::from_id(id).unwrap();
                let expected = values(Format::F32, original[&tensor].2);
                let error = relative_error(&expected, &values(format, bytes));
                let bound = if dims.len() == 1 { 0.0 } else { bound(format) };
                assert!(error <= bound, "{name} {file_type}: {tensor} as {format}: {error} > {bound}");
            }
        }
    }
}

/// Root-mean-square errors relative to the values', of normally distributed ones, with some room.
fn bound(format: Format) -> f64 {
    match format {
        Format::F32 => 0.0,
        Format::F16 => 4e-4,
        Format::BF16 => 3e-3,
        Format::Q8_0 => 8e-3,
        Format::Q6_K => 0.03,
        Format::Q5_K => 0.05,
        _ => 0.12,
    }
}

fn values(format: Format, bytes: &[u8]) -> Vec<f32> {
    let blocks = bytes.len() / format.block_bytes();
    let mut values = vec![0.0; blocks * format.block_len()];
    decode(format, bytes, &mut values).unwrap();
    values
}

fn relative_error(expected: &[f32], found: &[f32]) -> f64 {
    assert_eq!(expected.len(), found.len());
    let square = |value: f32| f64::from(value) * f64::from(value);
    let error: f64 = expected.iter().zip(found).map(|(a, b)| square(a - b)).sum();
    let norm: f64 = expected.iter().map(|a| square(*a)).sum();
    (error / norm).sqrt()
}

#[test]
fn tensor_types_can_be_chosen() {
    let options = ["--type", "q4_0", "--tensor-type", "ffn_down=q8_0", "--tensor-type", r"blk\.0\.ffn=Q6_K"];
    let written = convert("wide", &options);
    let tensors = written.tensors();
    for (tensor, format) in [
        ("blk.0.ffn_down.weight", Format::Q8_0),
        ("blk.0.ffn_up.weight", Format::Q6_K),
        ("blk.0.ffn_norm.weight", Format::F32),
        ("blk.0.attn_q.weight", Format::Q4_0),
        ("output.weight", Format::Q6_K),
    ] {
        assert_eq!(tensors[tensor].0, format.id(), "{tensor}");
    }
}
