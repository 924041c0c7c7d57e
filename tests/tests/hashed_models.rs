//! The models of `tests/data/`, whose hashes stand in `hashes.txt` there with those of golden files: of
//! formats that no golden file has. `ouro quantize` wrote them, from golden checkpoints.
//!
//! `OURO_UPDATE=1 cargo test -p ouro-tests --test hashed_models` writes them anew; then what
//! `ouro hash` says of them is to be put into `hashes.txt`.

use ouro_quant::Format;
use ouro_tests::checkpoint_dir::{CheckpointDir, RawTensor};
use ouro_tests::convert::{Written, quantize};
use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs};
use tempfile::TempDir;

/// `mha` has rows too short for K-quants, and `wide` more of them than a hash needs.
#[test]
fn models_of_hashes_are_what_quantize_writes() {
    let mha = CheckpointDir::golden("mha");
    same("mha-Q4_1.gguf", &mha, "q4_1", &[Format::F32, Format::Q4_1, Format::Q8_0]);
    same("slim-Q5_K_M.gguf", &slim(), "q5_k_m", &[Format::F32, Format::Q5_K, Format::Q6_K]);
}

/// Of `wide` one head of K and V, half of the feed-forward part, and the embedding as output head.
fn slim() -> CheckpointDir {
    let slim = CheckpointDir::golden("wide");
    slim.edit_json("config.json", |config| {
        config["_name_or_path"] = "slim".into();
        config["num_key_value_heads"] = 1.into();
        config["intermediate_size"] = 256.into();
        config["tie_word_embeddings"] = true.into();
    });
    slim.edit_tensors(|tensors| {
        tensors.remove("lm_head.weight");
        for (name, tensor) in tensors {
            match name.strip_suffix("_proj.weight").and_then(|name| name.rsplit('.').next()) {
                Some("k" | "v") => cut(tensor, 64, 256),
                Some("gate" | "up" | "down") => cut(tensor, 256, 256),
                _ => {}
            }
        }
    });
    slim
}

/// The first rows and columns of an f32 matrix.
fn cut(tensor: &mut RawTensor, rows: usize, cols: usize) {
    let old = tensor.data.chunks_exact(tensor.shape[1] * size_of::<f32>());
    tensor.data = old.take(rows).flat_map(|row| &row[..cols * size_of::<f32>()]).copied().collect();
    tensor.shape = vec![rows, cols];
}

/// Compares with the file, or writes it.
fn same(name: &str, checkpoint: &CheckpointDir, file_type: &str, formats: &[Format]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name);
    let folder = TempDir::new().unwrap();
    let out = folder.path().join(name);
    quantize(checkpoint.path(), &out, &["--type", file_type]).unwrap();
    let written = Written::read(&out);
    if env::var_os("OURO_UPDATE").is_some() {
        fs::write(&path, &written.bytes).unwrap();
    }
    let found: BTreeSet<u32> = written.tensors().into_values().map(|(id, ..)| id).collect();
    assert_eq!(found, formats.iter().map(|format| format.id()).collect(), "{name}: formats");
    // Not assert_eq, which would print them.
    assert!(fs::read(&path).unwrap() == written.bytes, "{name}: is that meant? Then OURO_UPDATE=1");
}
