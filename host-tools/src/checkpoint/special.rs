//! Special tokens and the chat template, which Hugging Face spreads over several files.

use super::{CheckpointError, Tokenizer, json::JsonFile, json::read_limited};
use serde_json::Value;
use std::path::Path;

/// No chat template is longer.
const MAX_TEMPLATE: u64 = 1 << 20;

/// What `tokenizer_config.json`, `config.json` and the template files say beside the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Beginning of a sequence.
    pub bos: Option<u32>,
    /// End of a sequence.
    pub eos: Option<u32>,
    /// For what has no token.
    pub unk: Option<u32>,
    /// Fills up batches.
    pub pad: Option<u32>,
    /// Whether `bos` goes before every text.
    pub add_bos: Option<bool>,
    /// Whether `eos` goes after every text.
    pub add_eos: Option<bool>,
    /// A Jinja template.
    pub chat_template: Option<String>,
}

impl SpecialTokens {
    /// Reads them in the order of precedence that llama.cpp's converter has: the text in
    /// `tokenizer_config.json` first, the id in `config.json` where that says nothing.
    pub(crate) fn read(
        dir: &Path,
        config: &JsonFile,
        tokenizer: &Tokenizer,
    ) -> Result<Self, CheckpointError> {
        let json = JsonFile::read(dir.join("tokenizer_config.json"))?;
        let id = |name: &str| -> Result<Option<u32>, CheckpointError> {
            let by_text = match &json {
                Some(json) => id_by_text(json, &format!("{name}_token"), tokenizer)?,
                None => None,
            };
            match by_text {
                None => id_by_number(config, &format!("{name}_token_id"), tokenizer),
                found => Ok(found),
            }
        };
        let flag = |key: &str| json.as_ref().map_or(Ok(None), |json| json.bool(key));
        Ok(Self {
            bos: id("bos")?,
            eos: id("eos")?,
            unk: id("unk")?,
            pad: id("pad")?,
            add_bos: flag("add_bos_token")?.or(tokenizer.special.add_bos),
            add_eos: flag("add_eos_token")?.or(tokenizer.special.add_eos),
            chat_template: chat_template(dir, json.as_ref())?,
        })
    }
}

fn id_by_text(json: &JsonFile, key: &str, tokenizer: &Tokenizer) -> Result<Option<u32>, CheckpointError> {
    let Some(value) = json.get(key) else { return Ok(None) };
    let text = value.as_str().or_else(|| value.get("content").and_then(Value::as_str));
    let id = text.and_then(|text| tokenizer.id_of(text));
    id.map(Some).ok_or_else(|| json.bad(key, value, "the text of a token in tokenizer.json"))
}

/// Newer configurations list several ends; the first one counts.
fn id_by_number(json: &JsonFile, key: &str, tokenizer: &Tokenizer) -> Result<Option<u32>, CheckpointError> {
    let Some(value) = json.get(key) else { return Ok(None) };
    let number = match value {
        Value::Array(ids) => ids.first().and_then(Value::as_u64),
        // -1 is an old way to say "none".
        number if number.as_i64() == Some(-1) => return Ok(None),
        number => number.as_u64(),
    };
    let size = tokenizer.tokens.len();
    let id = number.and_then(|id| u32::try_from(id).ok()).filter(|id| (*id as usize) < size);
    id.map(Some).ok_or_else(|| json.bad(key, value, format!("a token id below vocab_size, {size}")))
}

/// The template of `tokenizer_config.json`, else of `chat_template.jinja`.
fn chat_template(dir: &Path, json: Option<&JsonFile>) -> Result<Option<String>, CheckpointError> {
    if let Some((json, value)) = json.and_then(|json| Some((json, json.get("chat_template")?))) {
        let template = match value {
            // Several templates by name.
            Value::Array(list) => list
                .iter()
                .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
                .and_then(|entry| entry.get("template")),
            other => Some(other),
        };
        let text = template.and_then(Value::as_str).map(str::to_owned);
        let expected = "a template, or a list of templates with one named \"default\"";
        return text.map(Some).ok_or_else(|| json.bad("chat_template", value, expected));
    }
    let path = dir.join("chat_template.jinja");
    let Some(bytes) = read_limited(&path, MAX_TEMPLATE)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|error| CheckpointError::Tokenizer {
        path,
        found: error.to_string(),
        expected: "UTF-8".to_owned(),
    })?;
    Ok(Some(text))
}
