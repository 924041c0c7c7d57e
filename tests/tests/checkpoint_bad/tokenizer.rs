//! Tokenizers that can't be written into a GGUF file.

use super::{check, config};
use ouro_tests::checkpoint_dir::CheckpointDir;
use serde_json::{Value, json};
use std::fs;

fn tokenizer(checkpoint: &CheckpointDir, edit: impl FnOnce(&mut Value)) {
    checkpoint.edit_json("tokenizer.json", edit);
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
