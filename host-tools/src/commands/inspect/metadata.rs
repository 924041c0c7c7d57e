//! Metadata as JSON, long values shortened; and what the file says of its tokenizer.

use crate::commands::output::json_f32;
use crate::store::HostStore;
use crate::text::{is_unknown_kind, metadata_string, read_string};
use ouro_runtime::gguf::{Array, ElementType, Gguf, GgufError, Value};
use ouro_runtime::store::Span;
use ouro_runtime::text::{TextError, Tokenizer};
use serde::Serialize;
use serde_json::{Value as Json, json};

/// Arrays up to this length are shown whole.
const SHORT_ARRAY: u64 = 16;
/// Of longer ones, so many elements.
const SHOWN: u64 = 8;
/// Bytes of a string that are kept.
const MAX_STRING: usize = 64 << 10;

/// All metadata in file order.
pub(super) fn metadata(store: &mut HostStore, gguf: &Gguf<'_>) -> Result<Vec<(String, Json)>, GgufError> {
    gguf.entries()
        .map(|entry| Ok((read_string(store, entry.key)?, json_value(store, entry.value)?)))
        .collect()
}

fn json_value(store: &mut HostStore, value: Value) -> Result<Json, GgufError> {
    Ok(match value {
        Value::U8(value) => value.into(),
        Value::I8(value) => value.into(),
        Value::U16(value) => value.into(),
        Value::I16(value) => value.into(),
        Value::U32(value) => value.into(),
        Value::I32(value) => value.into(),
        Value::F32(value) => json_f32(value),
        Value::Bool(value) => value.into(),
        Value::U64(value) => value.into(),
        Value::I64(value) => value.into(),
        Value::F64(value) => value.into(),
        Value::String(span) => text(store, span)?.into(),
        Value::Array(array) => json_array(store, array)?,
    })
}

fn text(store: &mut HostStore, span: Span) -> Result<String, GgufError> {
    let mut text = read_string(store, Span { len: span.len.min(MAX_STRING), ..span })?;
    if span.len > MAX_STRING {
        text.push_str(&format!("… ({} bytes)", span.len));
    }
    Ok(text)
}

/// A short array whole; of a longer one what is in it, how many, and the first.
fn json_array(store: &mut HostStore, array: Array) -> Result<Json, GgufError> {
    let is_short = array.count <= SHORT_ARRAY;
    let mut elements = array.elements();
    let mut shown = Vec::new();
    for _ in 0..if is_short { array.count } else { SHOWN } {
        let Some(element) = elements.next(store)? else { break };
        shown.push(json_value(store, element)?);
    }
    if is_short {
        return Ok(Json::Array(shown));
    }
    Ok(json!({ "elements": array.element.name(), "count": array.count, "first": shown }))
}

/// What the file says of its tokenizer.
#[derive(Debug, Serialize)]
pub(super) struct TokenizerInfo {
    pub(super) model: Option<String>,
    pub(super) pre: Option<String>,
    pub(super) vocabulary: Option<u64>,
    pub(super) merges: Option<u64>,
    pub(super) special: Vec<SpecialId>,
    /// Whether text can be encoded here.
    pub(super) usable: bool,
    /// Why not.
    pub(super) why_not: Option<String>,
    /// Whether that is a fault of the file, rather than a kind of tokenizer that we don't know.
    #[serde(skip)]
    pub(super) broken: bool,
}

/// A key such as `tokenizer.ggml.eos_token_id`.
#[derive(Debug, Serialize)]
pub(super) struct SpecialId {
    /// `eos`.
    pub(super) name: String,
    pub(super) id: u64,
    /// The token's text.
    pub(super) text: Option<String>,
}

const PREFIX: &str = "tokenizer.ggml.";
const SUFFIX: &str = "_token_id";

impl TokenizerInfo {
    /// `None` if there is not a word about a tokenizer.
    pub(super) fn read(
        store: &mut HostStore,
        gguf: &Gguf<'_>,
        metadata: &[(String, Json)],
        opened: &Result<Tokenizer<'_>, TextError>,
    ) -> Option<Self> {
        if !metadata.iter().any(|(key, _)| key.starts_with(PREFIX)) {
            return None;
        }
        // Values of a wrong type are as good as absent here; opening the tokenizer names them.
        let mut string = |key: &str| metadata_string(store, gguf, &format!("{PREFIX}{key}")).ok().flatten();
        let (model, pre) = (string("model"), string("pre"));
        let mut strings =
            |key: &str| gguf.array(store, &format!("{PREFIX}{key}"), ElementType::String).ok().flatten();
        let (tokens, merges) = (strings("tokens"), strings("merges"));
        let special = metadata.iter().filter_map(|(key, value)| {
            let name = key.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.to_owned();
            Some(SpecialId { name, id: value.as_u64()?, text: None })
        });
        let mut special: Vec<SpecialId> = special.collect();
        if let Some(tokens) = tokens {
            let _ = name_tokens(store, tokens, &mut special);
        }
        let error = opened.as_ref().err();
        Some(Self {
            model,
            pre,
            vocabulary: tokens.map(|tokens| tokens.count),
            merges: merges.map(|merges| merges.count),
            special,
            usable: error.is_none(),
            why_not: error.map(ToString::to_string),
            broken: error.is_some_and(|error| !is_unknown_kind(error)),
        })
    }
}

/// Fills in the texts of special tokens, in one pass over all tokens.
fn name_tokens(store: &mut HostStore, tokens: Array, special: &mut [SpecialId]) -> Result<(), GgufError> {
    let last = special.iter().map(|special| special.id).max();
    let mut strings = tokens.strings(store)?;
    for id in 0..tokens.count.min(last.map_or(0, |last| last.saturating_add(1))) {
        let Some((_, text)) = strings.next()? else { break };
        for special in special.iter_mut().filter(|special| special.id == id) {
            special.text = Some(String::from_utf8_lossy(text).into_owned());
        }
    }
    Ok(())
}
