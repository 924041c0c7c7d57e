//! `tokenizer.json` and its companions: the tables of a byte-level BPE tokenizer.
//!
//! Everything that would make another tokenizer of it (normalizers, other pre-tokenizers, affixes) is
//! refused: a model whose text is cut otherwise than in training still answers, but worse.

use super::{CheckpointError, json::JsonFile, special::SpecialTokens};
use serde_json::Value;
use std::{collections::HashMap, path::Path};

/// `tokenizer.ggml.token_type`.
mod token_type {
    pub(super) const NORMAL: i32 = 1;
    pub(super) const CONTROL: i32 = 3;
    pub(super) const USER_DEFINED: i32 = 4;
    pub(super) const UNUSED: i32 = 5;
}

/// The tables that a GGUF holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokenizer {
    /// `tokenizer.ggml.pre`: how text is cut before merging.
    pub pre: &'static str,
    /// The tokens by id, in the byte alphabet of GPT-2; added tokens as plain text.
    pub tokens: Vec<String>,
    /// ggml's type of each token.
    pub types: Vec<i32>,
    /// `left right`, the most important merge first.
    pub merges: Vec<String>,
    /// Ids of special tokens, and the chat template.
    pub special: SpecialTokens,
}

/// As many tokens as a model may have.
const MAX_TOKENS: u64 = 1 << 24;
/// As many ids may belong to no token, beside as many again as there are tokens: every one of them
/// takes memory.
const MAX_UNUSED: u64 = 4096;

impl Tokenizer {
    /// The tables of a `tokenizer.json` by itself, with as many tokens as its largest id asks for.
    ///
    /// # Errors
    /// [`CheckpointError`]: the first thing found wrong.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let json = JsonFile::read(path.to_owned())?.ok_or_else(|| CheckpointError::MissingFile {
            path: path.to_owned(),
            expected: "a tokenizer.json as the tokenizers library saves it",
            advice: "check the path",
        })?;
        let vocabulary = vocabulary(&json, bpe_model(&json)?)?.into_iter().map(|(_, id)| id);
        let added = added_tokens(&json)?.into_iter().map(|(id, ..)| id);
        let ids: Vec<u64> = vocabulary.chain(added).collect();
        let limit = MAX_TOKENS.min(2 * ids.len() as u64 + MAX_UNUSED);
        match ids.iter().copied().max() {
            None => Err(json.tokenizer_error("it has no tokens", "a trained tokenizer")),
            Some(id) if id >= limit => {
                let tokens = ids.len();
                Err(json.tokenizer_error(
                    format!("one of the {tokens} tokens has the id {id}"),
                    format!("ids below {limit}, with few left out"),
                ))
            }
            Some(id) => Self::read(&json, id as u32 + 1),
        }
    }

    /// The tables of `tokenizer.json` for a model with `vocab_size` rows of embedding; ids that the
    /// tokenizer leaves out become unused tokens.
    pub(crate) fn read(json: &JsonFile, vocab_size: u32) -> Result<Self, CheckpointError> {
        let pre = pre_tokenizer(json)?;
        let model = bpe_model(json)?;
        let mut table = Table::new(json, vocab_size);
        for (token, id) in vocabulary(json, model)? {
            table.put(id, token, token_type::NORMAL)?;
        }
        let ids = table.ids();
        refuse_unknown_token(json, model, &ids)?;
        let merges = merges(json, model, &ids)?;
        for (id, token, special) in added_tokens(json)? {
            let kind = if special { token_type::CONTROL } else { token_type::USER_DEFINED };
            table.put(id, token, kind)?;
        }
        let (tokens, types) = table.finish();
        let [add_bos, add_eos] = added_by_post_processor(json)?;
        let special = SpecialTokens { add_bos, add_eos, ..SpecialTokens::default() };
        Ok(Self { pre, tokens, types, merges, special })
    }

    /// The id of a token by its text.
    #[must_use]
    pub fn id_of(&self, text: &str) -> Option<u32> {
        self.tokens.iter().position(|token| token == text).map(|id| id as u32)
    }
}

/// Tokens by id, as they come in.
struct Table<'a> {
    json: &'a JsonFile,
    slots: Vec<Option<(&'a str, i32)>>,
}

impl<'a> Table<'a> {
    fn new(json: &'a JsonFile, vocab_size: u32) -> Self {
        Self { json, slots: vec![None; vocab_size as usize] }
    }

    fn put(&mut self, id: u64, token: &'a str, kind: i32) -> Result<(), CheckpointError> {
        let size = self.slots.len();
        let slot = usize::try_from(id).ok().and_then(|id| self.slots.get_mut(id)).ok_or_else(|| {
            self.json.tokenizer_error(
                format!("token {token:?} has id {id}"),
                format!("ids below vocab_size = {size} in config.json"),
            )
        })?;
        match slot {
            Some((other, _)) if *other != token => {
                let found = format!("id {id} belongs to both {other:?} and {token:?}");
                Err(self.json.tokenizer_error(found, "one token per id"))
            }
            _ => {
                *slot = Some((token, kind));
                Ok(())
            }
        }
    }

    fn ids(&self) -> HashMap<&'a str, usize> {
        let known = self.slots.iter().enumerate();
        known.filter_map(|(id, slot)| slot.map(|(token, _)| (token, id))).collect()
    }

    fn finish(self) -> (Vec<String>, Vec<i32>) {
        let slots = self.slots.iter().enumerate();
        slots
            .map(|(id, slot)| match slot {
                Some((token, kind)) => ((*token).to_owned(), *kind),
                None => (format!("[PAD{id}]"), token_type::UNUSED),
            })
            .unzip()
    }
}

/// Maps the pre-tokenizer to its name in llama.cpp.
fn pre_tokenizer(json: &JsonFile) -> Result<&'static str, CheckpointError> {
    if let Some(normalizer) = json.get("normalizer") {
        let found = format!("the normalizer {}", kind_of(normalizer));
        return Err(json.unsupported(found, "none, as byte-level tokenizers have"));
    }
    let none = Value::Null;
    let pre = json.get("pre_tokenizer").unwrap_or(&none);
    let parts: Vec<&Value> = match pre.get("pretokenizers").and_then(Value::as_array) {
        Some(parts) if kind_of(pre) == "Sequence" => parts.iter().collect(),
        _ => vec![pre],
    };
    let is = |value: &Value, key: &str, wanted: bool, default: bool| {
        value.get(key).map_or(Some(default), Value::as_bool) == Some(wanted)
    };
    let byte_level = |part: &Value| {
        kind_of(part) == "ByteLevel"
            && is(part, "add_prefix_space", false, true)
            && is(part, "use_regex", true, true)
    };
    let digits = |part: &Value| kind_of(part) == "Digits" && is(part, "individual_digits", true, false);
    match parts.as_slice() {
        [first, second] if digits(first) && byte_level(second) => Ok("smollm"),
        [only] if byte_level(only) => Ok("gpt-2"),
        _ => {
            let kinds: Vec<&str> = parts.iter().map(|part| kind_of(part)).collect();
            Err(json.unsupported(
                format!("the pre-tokenizer [{}] as it is set", kinds.join(", ")),
                "[Digits, ByteLevel] with individual_digits (smollm) or [ByteLevel] (gpt-2), \
                 both without add_prefix_space and with use_regex",
            ))
        }
    }
}

/// Whether a special token goes before, and one after every text; `None` where nothing is said.
fn added_by_post_processor(json: &JsonFile) -> Result<[Option<bool>; 2], CheckpointError> {
    let Some(processor) = json.get("post_processor") else { return Ok([None; 2]) };
    let parts = match processor.get("processors").and_then(Value::as_array) {
        Some(parts) => parts.iter().collect(),
        None => vec![processor],
    };
    let mut added = [None; 2];
    for part in parts {
        match (kind_of(part), part.get("single").and_then(Value::as_array)) {
            ("ByteLevel", _) => {}
            ("TemplateProcessing", Some(pieces)) => {
                added = [pieces.first(), pieces.last()]
                    .map(|piece| Some(piece.is_some_and(|piece| piece.get("SpecialToken").is_some())));
            }
            (kind, _) => {
                let found = format!("the post-processor {kind}");
                return Err(json.unsupported(found, "ByteLevel or TemplateProcessing"));
            }
        }
    }
    Ok(added)
}

fn kind_of(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or("none")
}

/// The `model` part, if it is plain BPE.
fn bpe_model(json: &JsonFile) -> Result<&Value, CheckpointError> {
    let model = json.get("model").ok_or_else(|| json.missing("model", "a BPE model"))?;
    if kind_of(model) != "BPE" {
        return Err(json.unsupported(format!("a model of type {}", kind_of(model)), "BPE"));
    }
    if !model.get("dropout").is_none_or(|dropout| dropout.is_null() || dropout.as_f64() == Some(0.0)) {
        return Err(json.unsupported("model.dropout", "null, as ids would be random"));
    }
    for key in ["byte_fallback", "ignore_merges"] {
        if model.get(key).and_then(Value::as_bool) == Some(true) {
            return Err(json.unsupported(format!("model.{key} = true"), "false"));
        }
    }
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model.get(key).and_then(Value::as_str).is_some_and(|affix| !affix.is_empty()) {
            return Err(json.unsupported(format!("model.{key} = {}", model[key]), "an empty one"));
        }
    }
    Ok(model)
}

/// Bytes without a token are dropped here, as a tokenizer does that names no token for them.
fn refuse_unknown_token(
    json: &JsonFile,
    model: &Value,
    ids: &HashMap<&str, usize>,
) -> Result<(), CheckpointError> {
    let Some(unknown) = model.get("unk_token").and_then(Value::as_str) else { return Ok(()) };
    // GPT-2's alphabet: printable Latin-1 characters for themselves, others for the rest.
    let mut alphabet = ('!'..='~').chain('¡'..='¬').chain('®'..='\u{143}');
    match alphabet.find(|char| !ids.contains_key(char.to_string().as_str())) {
        Some(char) if ids.contains_key(unknown) => Err(json.unsupported(
            format!("model.unk_token = {unknown:?}, for bytes without a token such as {char:?},"),
            "null, or a token for every byte",
        )),
        _ => Ok(()),
    }
}

fn vocabulary<'a>(json: &JsonFile, model: &'a Value) -> Result<Vec<(&'a str, u64)>, CheckpointError> {
    let expected = "an object: tokens and their ids";
    let value = model.get("vocab").ok_or_else(|| json.missing("model.vocab", expected))?;
    let vocab = value.as_object().ok_or_else(|| json.bad("model.vocab", value, expected))?;
    let entries = vocab.iter().map(|(token, id)| {
        let id = id.as_u64().ok_or_else(|| json.bad(&format!("model.vocab[{token:?}]"), id, "an id"))?;
        Ok((token.as_str(), id))
    });
    entries.collect()
}

/// Merges as `left right`; both parts and the result must be tokens.
fn merges(
    json: &JsonFile,
    model: &Value,
    ids: &HashMap<&str, usize>,
) -> Result<Vec<String>, CheckpointError> {
    let expected = "a list of pairs";
    let value = model.get("merges").ok_or_else(|| json.missing("model.merges", expected))?;
    let list = value.as_array().ok_or_else(|| json.bad("model.merges", value, expected))?;
    let entries = list.iter().enumerate().map(|(rank, merge)| {
        let (left, right) = pair(merge)
            .ok_or_else(|| json.bad(&format!("model.merges[{rank}]"), merge, "two tokens without spaces"))?;
        for token in [left, right, &format!("{left}{right}")] {
            if !ids.contains_key(token) {
                let found = format!("merge {rank} ({left} {right}) needs the token {token:?}");
                return Err(json.tokenizer_error(found, "it in model.vocab"));
            }
        }
        Ok(format!("{left} {right}"))
    });
    entries.collect()
}

/// A merge is `"left right"` in older files, `["left", "right"]` in newer ones.
fn pair(merge: &Value) -> Option<(&str, &str)> {
    let (left, right) = match merge {
        Value::String(text) => text.split_once(' ')?,
        Value::Array(parts) => match parts.as_slice() {
            [left, right] => (left.as_str()?, right.as_str()?),
            _ => return None,
        },
        _ => return None,
    };
    let plain = |part: &str| !part.is_empty() && !part.contains(' ');
    (plain(left) && plain(right)).then_some((left, right))
}

fn added_tokens(json: &JsonFile) -> Result<Vec<(u64, &str, bool)>, CheckpointError> {
    let expected = "a list of objects with id, content and special";
    let Some(value) = json.get("added_tokens") else { return Ok(Vec::new()) };
    let list = value.as_array().ok_or_else(|| json.bad("added_tokens", value, expected))?;
    let entries = list.iter().enumerate().map(|(i, token)| {
        let id = token.get("id").and_then(Value::as_u64);
        let content = token.get("content").and_then(Value::as_str).filter(|content| !content.is_empty());
        let special = token.get("special").map_or(Some(false), Value::as_bool);
        for key in ["lstrip", "rstrip", "single_word"] {
            if token.get(key).and_then(Value::as_bool) == Some(true) {
                return Err(json.unsupported(
                    format!("added_tokens[{i}].{key} = true"),
                    "false, as GGUF can't tell that a token takes the spaces around it or stands only \
                     between words",
                ));
            }
        }
        match (id, content, special) {
            (Some(id), Some(content), Some(special)) => Ok((id, content, special)),
            _ => {
                Err(json.bad(&format!("added_tokens[{i}]"), token, "an object with id, content and special"))
            }
        }
    });
    entries.collect()
}
