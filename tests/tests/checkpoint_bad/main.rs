//! Malformed checkpoints: each is refused with a typed error that says what is wrong, at once, and no
//! file is left behind.

mod tokenizer;
mod weights;

use ouro::error::Error;
use ouro_tests::checkpoint_dir::CheckpointDir;
use ouro_tests::convert::quantize;
use ouro_tests::{assert_helpful, soon};
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;

/// A name, what to do to a good checkpoint, and what the message says: what was found and what was expected.
type Case = (&'static str, fn(&CheckpointDir), &'static [&'static str]);

/// What is expected in many rows.
const COUNT: &str = "expected a positive integer";

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
            &["`rope_scaling` = an object of 1 key is not", "expected RoPE without scaling"],
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
