//! Every kind of input that `ouro quantize` takes: what must give the same result, and what must be
//! kept, changed or refused.

use ouro::error::Error;
use ouro_quant::Format;
use ouro_tests::Content;
use ouro_tests::checkpoint_dir::CheckpointDir;
use ouro_tests::convert::{Written, quantize};
use ouro_tests::harness::{golden, load};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn convert(src: &Path, options: &[&str]) -> Written {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.gguf");
    quantize(src, &out, options).unwrap();
    Written::read(&out)
}

fn refusal(src: &Path, options: &[&str]) -> Error {
    let folder = TempDir::new().unwrap();
    let error = quantize(src, &folder.path().join("out.gguf"), options).unwrap_err();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was left behind");
    error
}

#[test]
fn shards_make_no_difference() {
    let checkpoint = CheckpointDir::golden("lively");
    let whole = convert(checkpoint.path(), &["--type", "f32"]);
    for count in [1, 2, 5] {
        let checkpoint = CheckpointDir::golden("lively");
        checkpoint.shard(count);
        let sharded = convert(checkpoint.path(), &["--type", "f32"]);
        assert!(sharded.bytes == whole.bytes, "{count} shards");
    }
}

#[test]
fn newer_configurations_say_the_same() {
    let whole = convert(CheckpointDir::golden("lively").path(), &["--type", "f32"]);
    let checkpoint = CheckpointDir::golden("lively");
    checkpoint.edit_json("config.json", |config| {
        let theta = config["rope_theta"].take();
        config["rope_parameters"] = json!({"rope_theta": theta, "rope_type": "default"});
        config["eos_token_id"] = json!([2, 0]);
        config.as_object_mut().unwrap().remove("rope_scaling");
    });
    checkpoint.edit_json("tokenizer_config.json", |config| config["eos_token"] = Value::Null);
    assert!(convert(checkpoint.path(), &["--type", "f32"]).bytes == whole.bytes);
}

#[test]
fn half_floats_are_taken_as_they_are() {
    for (dtype, file_type, format) in [(Dtype::BF16, "bf16", Format::BF16), (Dtype::F16, "f16", Format::F16)]
    {
        let checkpoint = CheckpointDir::golden("mha");
        checkpoint.convert_tensors(dtype);
        let tensors = checkpoint.tensors();
        let (exact, f32s) = (convert(checkpoint.path(), &["--type", file_type]), {
            convert(checkpoint.path(), &["--type", "f32"])
        });
        // attn_v and the embedding are not permuted.
        for (hf, gguf) in [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("model.layers.1.self_attn.v_proj.weight", "blk.1.attn_v.weight"),
            ("model.layers.2.mlp.down_proj.weight", "blk.2.ffn_down.weight"),
        ] {
            assert_eq!(exact.tensors()[gguf].0, format.id());
            assert_eq!(exact.tensors()[gguf].2, tensors[hf].data, "{gguf}");
            assert_eq!(f32s.tensors()[gguf].2, tensors[hf].to(Dtype::F32).data, "{gguf}");
        }
        let norm = &tensors["model.norm.weight"];
        assert_eq!(exact.tensors()["output_norm.weight"].2, norm.to(Dtype::F32).data);
        // Quantizing from either is the same, whatever the way.
        let from_gguf = {
            let folder = TempDir::new().unwrap();
            let between = folder.path().join("between.gguf");
            quantize(checkpoint.path(), &between, &["--type", file_type]).unwrap();
            convert(&between, &["--type", "q8_0"])
        };
        assert_eq!(from_gguf.tensors(), convert(checkpoint.path(), &["--type", "q8_0"]).tensors());
    }
}

#[test]
fn tied_embeddings() {
    for keep_head in [false, true] {
        let checkpoint = CheckpointDir::golden("wide");
        checkpoint.edit_json("config.json", |config| config["tie_word_embeddings"] = true.into());
        if !keep_head {
            checkpoint.edit_tensors(|tensors| drop(tensors.remove("lm_head.weight")));
        }
        let written = convert(checkpoint.path(), &["--type", "q4_0"]);
        assert!(!written.names().contains(&"output.weight".to_owned()));
        assert_eq!(written.tensors()["token_embd.weight"].0, Format::Q6_K.id(), "it is the head as well");
    }
}

#[test]
fn llama_checkpoints() {
    let checkpoint = CheckpointDir::golden("lively");
    checkpoint.edit_json("config.json", |config| {
        config["model_type"] = "llama".into();
        config.as_object_mut().unwrap().remove("total_ut_steps");
    });
    checkpoint.edit_tensors(|tensors| {
        tensors.retain(|name, _| !name.contains("layernorm_2") && !name.contains("early_exit_gate"));
    });
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.gguf");
    quantize(checkpoint.path(), &out, &["--type", "f32"]).unwrap();
    let _ = load(&out);
    let written = Written::read(&out);

    let same = Written::read(&golden("lively/lively-gate-f32.gguf"));
    let (mut same, ours) = (same.tensors(), written.tensors());
    same.retain(|name, _| !name.contains(".post_"));
    assert_eq!(ours, same);

    // The keys of a real model of this kind, as llama.cpp's converter wrote them.
    let real: Value = serde_json::from_slice(&fs::read(golden("smollm2/metadata.json")).unwrap()).unwrap();
    let is_model = |key: &&String| key.starts_with("llama.") || *key == "general.architecture";
    let real: BTreeSet<&String> = real["gguf"].as_object().unwrap().keys().filter(is_model).collect();
    let metadata = written.metadata();
    let mut ours: BTreeSet<&String> = metadata.keys().filter(is_model).collect();
    // lively has them, SmolLM2 does not: its heads divide its width.
    for key in ["llama.attention.key_length", "llama.attention.value_length"] {
        assert!(ours.remove(&key.to_owned()));
    }
    assert_eq!(ours, real);
}

#[test]
fn a_gguf_gives_what_its_checkpoint_gives() {
    for (name, file) in [("wide", "wide/wide-f32.gguf"), ("mha", "mha/mha-f32.gguf")] {
        for file_type in ["f32", "f16", "q8_0", "q4_1", "q4_k_m"] {
            let direct = convert(&golden(name), &["--type", file_type]);
            let ours = convert(&golden(file), &["--type", file_type]);
            assert_eq!(ours.tensors(), direct.tensors(), "{file} {file_type}");
            assert_eq!(ours.names(), direct.names(), "{file} {file_type}: order");
            assert_eq!(ours.contents.alignment, 4096);
        }
    }
}

#[test]
fn metadata_of_a_gguf_is_kept() {
    let mut before = Written::read(&golden("wide/wide-f32.gguf")).metadata();
    let mut after = convert(&golden("wide/wide-f32.gguf"), &["--type", "q4_0"]).metadata();
    assert_eq!(after.remove("general.alignment"), Some(Content::Number("u32", 4096)));
    assert_eq!(after.remove("general.file_type"), Some(Content::Number("u32", 2)));
    for sums in ["metadata", "xxh3_4096"] {
        assert!(after.remove(&format!("ouro.checksum.{sums}")).is_some());
    }
    before.remove("general.file_type");
    assert_eq!(after, before);
}

#[test]
fn a_grafted_gate_changes_nothing_else() {
    for (name, file) in [
        ("wide", "wide/wide-Q4_K_M.gguf"),
        ("wide", "wide/wide-F16.gguf"),
        ("mha", "mha/mha-Q4_0.gguf"),
        ("mha", "mha/mha-f32.gguf"),
    ] {
        let (before, folder) = (Written::read(&golden(file)), golden(name));
        let after = convert(&golden(file), &["--gate-from", folder.to_str().unwrap()]);
        assert_eq!(after.tensors(), before.tensors(), "{file}");
        assert_eq!(after.names(), before.names(), "{file}: order");
        assert_eq!(after.contents.alignment, before.contents.alignment, "{file}");
        let (entries, added) = after.contents.entries.split_at(before.contents.entries.len());
        let (sum, gate) = added.split_last().unwrap();
        assert_eq!(sum.0, b"ouro.checksum.metadata", "{file}");
        assert_eq!(entries, before.contents.entries, "{file}: metadata in order");
        let fresh = convert(&folder, &["--type", "f32"]).metadata();
        assert_eq!(gate.len(), 3, "{file}");
        for (key, value) in gate {
            assert_eq!(fresh[str::from_utf8(key).unwrap()], *value, "{file}");
        }
    }
}

#[test]
fn a_gate_can_be_grafted_while_quantizing() {
    let folder = golden("wide");
    let options = ["--type", "q8_0", "--gate-from", folder.to_str().unwrap()];
    let (ours, direct) = (convert(&golden("wide/wide-f32.gguf"), &options), convert(&folder, &options[..2]));
    assert_eq!(ours.tensors(), direct.tensors());
    assert!(ours.metadata().contains_key("ouro.exit_gate.weight"));
}

#[test]
fn gates_that_do_not_fit() {
    let without_gate = CheckpointDir::golden("mha");
    without_gate.edit_tensors(|tensors| tensors.retain(|name, _| !name.contains("early_exit_gate")));
    let cases = [
        ("lively/lively-gate-f32.gguf", golden("lively"), 2, "has an exit gate already"),
        ("mha/mha-f32.gguf", golden("wide"), 3, "has 256 weights, but"),
        ("mha/mha-f32.gguf", without_gate.path().to_owned(), 3, "expected an exit gate"),
        ("mha/mha-f32.gguf", golden("nowhere"), 3, "config.json is missing"),
        ("mha", golden("mha"), 2, "brings its own exit gate"),
    ];
    for (src, folder, code, text) in cases {
        let error = refusal(&golden(src), &["--gate-from", folder.to_str().unwrap()]);
        assert_eq!(error.exit_code(), code, "{src}: {error}");
        assert!(error.to_string().contains(text), "{src}: {error}");
    }
}

#[test]
fn quantizing_twice_must_be_asked_for() {
    let q4_0 = golden("wide/wide-Q4_0.gguf");
    for file_type in ["q8_0", "q4_1", "q4_k_m", "f16", "bf16"] {
        let error = refusal(&q4_0, &["--type", file_type]);
        assert!(matches!(error, Error::BadInput(_)), "{error}");
        assert!(error.to_string().contains("--allow-requantize"), "{error}");
        convert(&q4_0, &["--type", file_type, "--allow-requantize"]);
    }
    // Nothing is lost by these.
    let same = convert(&q4_0, &["--type", "q4_0"]);
    assert_eq!(same.tensors(), Written::read(&q4_0).tensors());
    let f32s = convert(&q4_0, &["--type", "f32"]);
    assert!(f32s.tensors().values().all(|(id, ..)| *id == Format::F32.id()));
}

#[test]
fn a_checkpoint_without_a_gate_has_none_afterwards() {
    let checkpoint = CheckpointDir::golden("mha");
    checkpoint.edit_tensors(|tensors| tensors.retain(|name, _| !name.contains("early_exit_gate")));
    let metadata = convert(checkpoint.path(), &["--type", "q8_0"]).metadata();
    assert!(!metadata.keys().any(|key| key.contains("exit_gate")));
}

fn strings(metadata: &Content) -> Vec<String> {
    let Content::Array("string", values) = metadata else { panic!("{metadata:?}") };
    let text = |value: &Content| match value {
        Content::String(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("{other:?}"),
    };
    values.iter().map(text).collect()
}

fn numbers(metadata: &Content) -> Vec<u64> {
    let Content::Array(_, values) = metadata else { panic!("{metadata:?}") };
    let number = |value: &Content| match value {
        Content::Number(_, number) => *number,
        other => panic!("{other:?}"),
    };
    values.iter().map(number).collect()
}

#[test]
fn tokenizer_variants() {
    let checkpoint = CheckpointDir::golden("mha");
    checkpoint.edit_json("tokenizer.json", |tokenizer| {
        let byte_level = tokenizer["pre_tokenizer"]["pretokenizers"][1].clone();
        tokenizer["pre_tokenizer"] = byte_level;
        // The last two of 512: one becomes an added token, one is left out.
        let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        let last: Vec<String> = vocab
            .iter()
            .filter(|(_, id)| id.as_u64().unwrap() >= 510)
            .map(|(token, _)| token.clone())
            .collect();
        assert_eq!(last.len(), 2);
        last.iter().for_each(|token| drop(vocab.remove(token)));
        let merges = tokenizer["model"]["merges"].as_array_mut().unwrap();
        merges.retain(|merge| {
            let parts: Vec<&str> = merge.as_array().unwrap().iter().filter_map(Value::as_str).collect();
            !last.iter().any(|token| *token == parts.concat() || parts.contains(&token.as_str()))
        });
        // The older way to write them.
        for merge in merges {
            let parts: Vec<&str> = merge.as_array().unwrap().iter().filter_map(Value::as_str).collect();
            *merge = parts.join(" ").into();
        }
        let bos = json!({"SpecialToken": {"id": "<|im_start|>", "type_id": 0}});
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        tokenizer["post_processor"] = json!({"type": "TemplateProcessing", "single": [bos, text]});
        let added = json!({"id": 510, "content": "<tool call>", "special": false, "normalized": false});
        tokenizer["added_tokens"].as_array_mut().unwrap().push(added);
    });
    checkpoint.edit_json("tokenizer_config.json", |config| {
        config["add_eos_token"] = true.into();
        config["chat_template"] =
            json!([{"name": "tools", "template": "no"}, {"name": "default", "template": "yes"}]);
        config["eos_token"] = json!({"content": "<|endoftext|>", "special": true});
        config.as_object_mut().unwrap().remove("bos_token");
    });
    let metadata = convert(checkpoint.path(), &["--type", "f16"]).metadata();
    assert_eq!(metadata["tokenizer.ggml.pre"], Content::String(b"gpt-2".to_vec()));
    let tokens = strings(&metadata["tokenizer.ggml.tokens"]);
    assert_eq!(tokens[510..], ["<tool call>", "[PAD511]"]);
    let types = numbers(&metadata["tokenizer.ggml.token_type"]);
    assert_eq!((&types[..4], &types[510..]), (&[3, 3, 3, 1][..], &[4, 5][..]));
    assert_eq!(strings(&metadata["tokenizer.ggml.merges"])[0], "Ġ Ġ");
    let number = |value| Some(&Content::Number("u32", value)).cloned();
    assert_eq!(metadata.get("tokenizer.ggml.eos_token_id").cloned(), number(0), "by its text");
    assert_eq!(metadata.get("tokenizer.ggml.bos_token_id").cloned(), number(1), "from config.json");
    assert_eq!(metadata["tokenizer.ggml.add_bos_token"], Content::Number("bool", 1), "from the template");
    assert_eq!(
        metadata["tokenizer.ggml.add_eos_token"],
        Content::Number("bool", 1),
        "the configuration wins"
    );
    assert_eq!(metadata["tokenizer.chat_template"], Content::String(b"yes".to_vec()));
}

#[test]
fn a_chat_template_in_a_file_of_its_own() {
    let checkpoint = CheckpointDir::golden("mha");
    checkpoint.edit_json("tokenizer_config.json", |config| config["chat_template"] = Value::Null);
    fs::write(checkpoint.file("chat_template.jinja"), "{{ messages }}").unwrap();
    let metadata = convert(checkpoint.path(), &["--type", "f16"]).metadata();
    assert_eq!(metadata["tokenizer.chat_template"], Content::String(b"{{ messages }}".to_vec()));
}

#[test]
fn what_is_no_model_file() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let f32s = fs::read(golden("mha/mha-f32.gguf")).unwrap();
    let other = replace(&f32s, b"\x04\0\0\0\0\0\0\0ouro", b"\x04\0\0\0\0\0\0\0gpt9");
    let cases = [
        (file("empty.gguf", b""), ""),
        (file("text.gguf", b"hello, world, this is no model"), ""),
        (file("truncated.gguf", &f32s[..f32s.len() / 2]), ""),
        (file("half-header.gguf", &f32s[..1000]), ""),
        (file("other.gguf", &other), r#"the architecture is "gpt9", expected "ouro" or "llama""#),
        (folder.path().join("absent.gguf"), "does not exist"),
    ];
    for (path, text) in cases {
        let error = refusal(&path, &["--type", "f32"]);
        assert!(matches!(error, Error::BadInput(_)), "{}: {error}", path.display());
        assert!(error.to_string().contains(text), "{}: {error}", path.display());
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}
