//! Files that `ouro quantize` writes, read by others: the crate `gguf-rs-lib` and Python's `gguf`.

use gguf_rs_lib::format::MetadataValue;
use gguf_rs_lib::reader::open_gguf_file;
use ouro_quant::Format;
use ouro_tests::convert::{Written, quantize};
use ouro_tests::harness::golden;
use ouro_tests::{Content, skip};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

fn for_each_file(check: impl Fn(&Path, &Written)) {
    let graft = golden("wide");
    let graft = graft.to_str().unwrap();
    for (src, options) in [
        ("mha", vec!["--type", "f32"]),
        ("mha", vec!["--type", "q4_k_m"]),
        ("lively", vec!["--type", "bf16"]),
        ("lively", vec!["--type", "q4_0"]),
        ("wide", vec!["--type", "q4_k_m"]),
        ("wide", vec!["--type", "q5_k"]),
        ("wide/wide-F16.gguf", vec!["--type", "q8_0"]),
        ("wide/wide-Q4_K_M.gguf", vec!["--gate-from", graft]),
    ] {
        let folder = TempDir::new().unwrap();
        let out = folder.path().join("out.gguf");
        quantize(&golden(src), &out, &options).unwrap();
        check(&out, &Written::read(&out));
    }
}

#[test]
fn by_gguf_rs_lib() {
    for_each_file(|path, written| {
        let theirs = open_gguf_file(path).unwrap();
        assert_eq!(theirs.header().version, 3);
        assert_eq!(theirs.tensor_data_offset(), written.contents.data_offset);
        assert_eq!(theirs.tensor_alignment() as u64, written.contents.alignment);
        let metadata = written.metadata();
        assert_eq!(theirs.metadata().len(), metadata.len());
        for (key, value) in &metadata {
            let other = theirs.metadata().get(key).unwrap_or_else(|| panic!("{key}"));
            assert_eq!(content(other), *value, "{key}");
        }
        for ((name, tensor), other) in written.contents.tensors.iter().zip(theirs.tensor_infos()) {
            assert_eq!(str::from_utf8(name).unwrap(), other.name());
            assert_eq!(tensor.dims[..tensor.n_dims as usize], other.shape().dimensions);
            assert_eq!(tensor.type_id, other.tensor_type() as u32);
            assert_eq!(tensor.offset, written.contents.data_offset + other.data_offset());
        }
    });
}

/// The kinds of values that we write.
fn content(value: &MetadataValue) -> Content {
    match value {
        MetadataValue::U32(value) => Content::Number("u32", (*value).into()),
        MetadataValue::U64(value) => Content::Number("u64", *value),
        MetadataValue::I32(value) => Content::Number("i32", *value as u64),
        MetadataValue::F32(value) => Content::Number("f32", value.to_bits().into()),
        MetadataValue::Bool(value) => Content::Number("bool", (*value).into()),
        MetadataValue::String(value) => Content::String(value.clone().into_bytes()),
        MetadataValue::Array(array) => {
            let values: Vec<Content> = array.values.iter().map(content).collect();
            let element = match values.first() {
                Some(Content::Number(name, _)) => name,
                _ => "string",
            };
            Content::Array(element, values)
        }
        other => panic!("{other:?} is written nowhere"),
    }
}

/// Prints what Python's reader finds: keys with types and values, tensors with their bytes' CRC and
/// the sum of their values.
const SCRIPT: &str = r#"
import sys, json, zlib, gguf
import numpy as np
reader = gguf.GGUFReader(sys.argv[1])
print(json.dumps({
    "alignment": reader.alignment,
    "metadata": {key: [[t.name.lower() for t in field.types], field.contents()]
                 for key, field in reader.fields.items() if not key.startswith("GGUF.")},
    "tensors": [{
        "name": tensor.name, "type": tensor.tensor_type.name, "shape": [int(n) for n in tensor.shape],
        "offset": int(tensor.data_offset), "crc": zlib.crc32(tensor.data.tobytes()),
        "values": [float(x) for x in gguf.dequantize(tensor.data, tensor.tensor_type).reshape(-1)[::97]],
    } for tensor in reader.tensors],
}, default=lambda number: number.item()))
"#;

#[test]
fn by_python() {
    let python = |args: &[&str]| Command::new("python3").args(args).output();
    let found = python(&["-c", "import gguf, numpy"]).is_ok_and(|output| output.status.success());
    if !found {
        return skip("python3 with the package gguf is absent; install it with pip");
    }
    for_each_file(|path, written| {
        let output = python(&["-c", SCRIPT, path.to_str().unwrap()]).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(theirs["alignment"], written.contents.alignment);

        let metadata = written.metadata();
        assert_eq!(theirs["metadata"].as_object().unwrap().len(), metadata.len());
        for (key, value) in &metadata {
            let theirs = &theirs["metadata"][key][1];
            assert!(same(value, theirs), "{key}: {value:?} and {theirs}");
        }
        let tensors = written.tensors();
        let names: Vec<&str> =
            theirs["tensors"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
        assert_eq!(names, written.names());
        for theirs in theirs["tensors"].as_array().unwrap() {
            let name = theirs["name"].as_str().unwrap();
            let (id, dims, bytes) = &tensors[name];
            let format = Format::from_id(*id).unwrap();
            assert_eq!(theirs["type"], format.name(), "{name}");
            assert_eq!(theirs["shape"], Value::from(dims.clone()), "{name}");
            assert_eq!(theirs["crc"], crc32(bytes), "{name}");
            let mut values = vec![0.0; dims.iter().product::<u64>() as usize];
            ouro_quant::decode(format, bytes, &mut values).unwrap();
            let values = values.iter().step_by(97).map(|value| Some(f64::from(*value)));
            let theirs = theirs["values"].as_array().unwrap().iter().map(Value::as_f64);
            assert!(values.eq(theirs), "values of {name}");
        }
    });
}

fn same(ours: &Content, theirs: &Value) -> bool {
    match ours {
        Content::String(text) => theirs.as_str().map(str::as_bytes) == Some(text),
        Content::Number("f32", bits) => theirs.as_f64() == Some(f32::from_bits(*bits as u32).into()),
        Content::Number("bool", bit) => theirs.as_bool() == Some(*bit == 1),
        Content::Number(_, number) => theirs.as_u64() == Some(*number),
        Content::Array(_, values) => theirs.as_array().is_some_and(|theirs| {
            theirs.len() == values.len() && values.iter().zip(theirs).all(|(ours, theirs)| same(ours, theirs))
        }),
        Content::Broken(error) => panic!("{error}"),
    }
}

/// As zlib computes it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
