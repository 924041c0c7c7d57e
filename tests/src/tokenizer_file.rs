//! A tokenizer in either of its two forms: as Hugging Face's `tokenizer.json`, and as the keys of
//! a GGUF.

use crate::GgufBuilder;
use ouro_runtime::gguf::{ElementType, Gguf, Value};
use ouro_runtime::store::Store;
use serde_json::{Value as Json, json};

/// Token types of a GGUF.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// The parts that both forms have.
#[derive(Clone, Debug)]
pub struct TokenizerFile {
    /// `smollm` or `gpt-2`.
    pub pre: &'static str,
    /// Texts by id.
    pub tokens: Vec<String>,
    /// 1 normal, 3 control, 4 user-defined.
    pub types: Vec<i32>,
    /// `left right`, by rank.
    pub merges: Vec<String>,
}

impl TokenizerFile {
    /// Reads a `tokenizer.json` of the SmolLM2 kind.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn from_json(text: &str) -> Self {
        let json: Json = serde_json::from_str(text).unwrap();
        let vocab = json["model"]["vocab"].as_object().unwrap();
        let added = json["added_tokens"].as_array().unwrap();
        let id = |value: &Json| value.as_u64().unwrap() as usize;
        let last = vocab.values().chain(added.iter().map(|token| &token["id"])).map(id).max().unwrap();
        let (mut tokens, mut types) = (vec![String::new(); last + 1], vec![NORMAL; last + 1]);
        for (text, value) in vocab {
            tokens[id(value)].clone_from(text);
        }
        for token in added {
            let id = id(&token["id"]);
            token["content"].as_str().unwrap().clone_into(&mut tokens[id]);
            types[id] = if token["special"] == true { CONTROL } else { USER_DEFINED };
        }
        let merges = json["model"]["merges"].as_array().unwrap().iter();
        let merges = merges.map(|pair| match pair {
            Json::String(line) => line.clone(),
            pair => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
        });
        Self { pre: "smollm", tokens, types, merges: merges.collect() }
    }

    /// Reads the keys of a GGUF.
    ///
    /// # Panics
    /// If they are not there.
    #[must_use]
    pub fn from_gguf<S: Store>(store: &mut S, gguf: &Gguf<'_>) -> Self {
        let mut strings = |key| {
            let array = gguf.array(store, key, ElementType::String).unwrap().unwrap();
            let (mut strings, mut texts) = (array.strings(store).unwrap(), Vec::new());
            while let Some((_, bytes)) = strings.next().unwrap() {
                texts.push(String::from_utf8(bytes.to_vec()).unwrap());
            }
            texts
        };
        let (tokens, merges) = (strings("tokenizer.ggml.tokens"), strings("tokenizer.ggml.merges"));
        let array = gguf.array(store, "tokenizer.ggml.token_type", ElementType::I32).unwrap().unwrap();
        let (mut elements, mut types) = (array.elements(), Vec::new());
        while let Some(value) = elements.next(store).unwrap() {
            let Value::I32(kind) = value else { panic!("{value:?}") };
            types.push(kind);
        }
        Self { pre: "smollm", tokens, types, merges }
    }

    /// The same tables with another way of splitting text.
    #[must_use]
    pub fn with_pre(self, pre: &'static str) -> Self {
        Self { pre, ..self }
    }

    /// A GGUF with nothing but the tokenizer in it.
    #[must_use]
    pub fn to_gguf(&self) -> Vec<u8> {
        self.to_builder().build()
    }

    /// [`to_gguf`](Self::to_gguf) before it is built.
    #[must_use]
    pub fn to_builder(&self) -> GgufBuilder {
        GgufBuilder::new()
            .string("general.architecture", "ouro")
            .string("tokenizer.ggml.model", "gpt2")
            .string("tokenizer.ggml.pre", self.pre)
            .strings("tokenizer.ggml.tokens", &self.tokens)
            .i32s("tokenizer.ggml.token_type", &self.types)
            .strings("tokenizer.ggml.merges", &self.merges)
            .u32("tokenizer.ggml.bos_token_id", 0)
            .u32("tokenizer.ggml.eos_token_id", 1)
            .u32("tokenizer.ggml.padding_token_id", 2)
    }

    /// A `tokenizer.json`. Without `specials` it reads special tokens in a text as plain text.
    #[must_use]
    pub fn to_json(&self, specials: bool) -> String {
        let ids = || self.tokens.iter().zip(&self.types).zip(0..);
        let vocab: serde_json::Map<_, _> =
            ids().map(|((text, _), id)| (text.clone(), Json::from(id))).collect();
        let added: Vec<Json> = ids()
            .filter(|((_, kind), _)| specials && **kind != NORMAL)
            .map(|((text, kind), id): (_, i32)| {
                json!({"id": id, "content": text, "special": *kind == CONTROL, "single_word": false,
                       "lstrip": false, "rstrip": false, "normalized": false})
            })
            .collect();
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let digits = json!({"type": "Digits", "individual_digits": true});
        let pre = match self.pre {
            "smollm" => json!({"type": "Sequence", "pretokenizers": [digits, byte_level]}),
            _ => byte_level.clone(),
        };
        let model = json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                           "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                           "ignore_merges": false, "vocab": vocab, "merges": self.merges});
        json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
               "pre_tokenizer": pre, "post_processor": null, "decoder": byte_level, "model": model})
        .to_string()
    }
}
