//! Every truncation and every single-byte change of a tiny checkpoint's files is read or refused, at
//! once and without a panic; and the fuzzer's seeds are what they should be.

use ouro::checkpoint::Checkpoint;
use ouro_tests::{Checkpoints, soon};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::{collections::BTreeMap, env};
use tempfile::TempDir;

const WHOLE: [&str; 4] = ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"];
const INDEX: &str = "model.safetensors.index.json";

fn tensors() -> BTreeMap<String, Vec<usize>> {
    let layer = [
        ("input_layernorm", vec![4]),
        ("self_attn.q_proj", vec![4, 4]),
        ("self_attn.k_proj", vec![2, 4]),
        ("self_attn.v_proj", vec![2, 4]),
        ("self_attn.o_proj", vec![4, 4]),
        ("input_layernorm_2", vec![4]),
        ("post_attention_layernorm", vec![4]),
        ("mlp.gate_proj", vec![6, 4]),
        ("mlp.up_proj", vec![6, 4]),
        ("mlp.down_proj", vec![4, 6]),
        ("post_attention_layernorm_2", vec![4]),
    ]
    .map(|(name, shape)| (format!("model.layers.0.{name}.weight"), shape));
    let rest = [
        ("model.embed_tokens.weight", vec![6, 4]),
        ("model.norm.weight", vec![4]),
        ("model.early_exit_gate.weight", vec![1, 4]),
        ("model.early_exit_gate.bias", vec![1]),
    ]
    .map(|(name, shape)| (name.to_owned(), shape));
    layer.into_iter().chain(rest).collect()
}

/// A checkpoint as small as one can be, by file name.
fn tiny() -> BTreeMap<&'static str, Vec<u8>> {
    let data = vec![0; 256];
    let views = tensors().into_iter().map(|(name, shape)| {
        let len = shape.iter().product::<usize>() * 2;
        (name, TensorView::new(Dtype::BF16, shape, &data[..len]).unwrap())
    });
    let weights = safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap();
    let config = json!({
        "model_type": "ouro", "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 6, "max_position_embeddings": 16,
        "rms_norm_eps": 1e-6, "rope_theta": 1e4, "total_ut_steps": 2, "tie_word_embeddings": true,
        "early_exit_threshold": 0.5, "eos_token_id": [0],
    });
    let tokenizer = json!({
        "added_tokens": [{"id": 0, "content": "<|end|>", "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
        ]},
        "model": {"type": "BPE", "vocab": {"a": 1, "b": 2, "ab": 3, "Ġ": 4, "Ġab": 5},
                  "merges": [["a", "b"], "Ġ ab"]},
    });
    let special = json!({"bos_token": "<|end|>", "pad_token": {"content": "a"}, "add_bos_token": false,
                         "chat_template": "{{ messages }}"});
    let index = json!({"weight_map": tensors().into_keys().map(|name| (name, "a.safetensors".into()))
        .collect::<serde_json::Map<_, _>>()});
    BTreeMap::from([
        ("model.safetensors", weights),
        ("config.json", config.to_string().into_bytes()),
        ("tokenizer.json", tokenizer.to_string().into_bytes()),
        ("tokenizer_config.json", special.to_string().into_bytes()),
        (INDEX, index.to_string().into_bytes()),
    ])
}

/// The folder for changes of `file`: with an index only where that is what changes.
fn folder_for(file: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, bytes) in tiny() {
        let name = match name {
            "model.safetensors" if file == INDEX => "a.safetensors",
            INDEX if file != INDEX => continue,
            name => name,
        };
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// Writes a file anew: some file systems wait for the disk when a file is cut and written again.
fn replace(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Opens the folder; the result says whether it was accepted.
fn open(folder: &Path) -> bool {
    let result = soon("a change", || Checkpoint::open(folder));
    result.inspect_err(|error| assert!(error.to_string().contains("expected"), "{error}")).is_ok()
}

#[test]
fn the_tiny_checkpoint_is_whole() {
    for file in [WHOLE[0], INDEX] {
        Checkpoint::open(folder_for(file).path()).unwrap();
    }
}

#[test]
fn truncations() {
    for file in WHOLE.into_iter().chain([INDEX]) {
        let folder = folder_for(file);
        let bytes = &tiny()[file];
        for len in 0..bytes.len() {
            replace(&folder.path().join(file), &bytes[..len]);
            assert!(!open(folder.path()), "{file} cut to {len} bytes");
        }
    }
}

#[test]
fn single_bytes() {
    for file in WHOLE.into_iter().chain([INDEX]) {
        let folder = folder_for(file);
        let mut bytes = tiny()[file].clone();
        let mut accepted = 0;
        for i in 0..bytes.len() {
            let byte = bytes[i];
            for other in [byte ^ 1, byte ^ 0x80, b'9'] {
                bytes[i] = other;
                replace(&folder.path().join(file), &bytes);
                accepted += u32::from(open(folder.path()));
            }
            bytes[i] = byte;
        }
        println!("{file}: {accepted} of {} changes accepted", 3 * bytes.len());
    }
}

/// What the fuzzer starts from: a letter for the file, and its bytes.
fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let tiny = tiny();
    let seed = |letter: &str, bytes: &[u8]| [letter.as_bytes(), bytes].concat();
    let liar = b"\xff\xff\xff\xff\xff\xff\xff\x7f{}";
    vec![
        ("weights", seed("w", &tiny[WHOLE[0]])),
        ("config", seed("c", &tiny[WHOLE[1]])),
        ("tokenizer", seed("t", &tiny[WHOLE[2]])),
        ("special", seed("s", &tiny[WHOLE[3]])),
        ("index", seed("i", &tiny[INDEX])),
        ("lying-header", seed("w", liar)),
        ("llama", seed("c", &String::from_utf8_lossy(&tiny[WHOLE[1]]).replace("ouro", "llama").into_bytes())),
    ]
}

/// Writes the seeds anew where `OURO_BLESS` is set. All but those that are bad on purpose can be opened.
#[test]
fn seeds_are_as_committed() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/checkpoint");
    let folder = TempDir::new().unwrap();
    let checkpoints = Checkpoints::new(folder.path());
    let mut refused = Vec::new();
    for (name, seed) in seeds() {
        let path = corpus.join(name);
        if env::var_os("OURO_BLESS").is_some() {
            fs::create_dir_all(&corpus).unwrap();
            fs::write(&path, &seed).unwrap();
        }
        assert!(fs::read(&path).unwrap() == seed, "{name} differs; set OURO_BLESS=1 to write it");
        if !soon(name, || checkpoints.check(&seed)) {
            refused.push(name);
        }
    }
    // A plain model has no place for a gate.
    assert_eq!(refused, ["lying-header", "llama"]);
}
