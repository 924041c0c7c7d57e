//! The tokenizer's tables as they stand in the file.

use super::alphabet;
use super::error::{TableError, TextError};
use super::pretokenize::PreTokenizer;
use super::special::MAX_SPECIAL_LEN;
use crate::gguf::{Array, ElementType, Elements, Gguf, Name, Value, span_eq};
use crate::store::{MIN_TILE, Span, Store};

pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
const MERGES: &str = "tokenizer.ggml.merges";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";

/// Most tokens, and most merges: what ids and ranks of 32 bits leave room for.
const MAX_COUNT: u64 = 1 << 31;

/// Where the tables are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) pre: PreTokenizer,
    pub(super) tokens: Array,
    pub(super) merges: Array,
    types: Option<Array>,
}

/// How a token's text is written, and what it takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// In the byte alphabet; subject to merging.
    Normal,
    /// Literally; found in a text as it stands.
    Special,
    /// Literally; stands for nothing that is ever found in a text.
    Unused,
}

/// One token of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'s> {
    pub(super) id: u32,
    pub(super) kind: Kind,
    /// Where its text is in the file.
    pub(super) span: Span,
    pub(super) text: &'s str,
}

impl Source {
    /// Finds the tables and checks what can be checked without reading them.
    pub(super) fn find<S: Store>(store: &mut S, gguf: &Gguf<'_>) -> Result<Self, TextError> {
        let pre = Self::pre_tokenizer(store, gguf)?;
        let tokens = required(gguf.array(store, TOKENS, ElementType::String)?, TOKENS)?;
        let merges = required(gguf.array(store, MERGES, ElementType::String)?, MERGES)?;
        if tokens.count == 0 || tokens.count > MAX_COUNT {
            return Err(TableError::TokenCount { found: tokens.count }.into());
        }
        if merges.count > MAX_COUNT {
            return Err(TableError::MergeCount { found: merges.count }.into());
        }
        // Some writers take one, some the other.
        let types_are_u32 =
            matches!(gguf.get(store, TYPES)?, Some(Value::Array(types)) if types.element == ElementType::U32);
        let element = if types_are_u32 { ElementType::U32 } else { ElementType::I32 };
        let types = array_per_token(store, gguf, TYPES, element, tokens.count)?;
        array_per_token(store, gguf, SCORES, ElementType::F32, tokens.count)?;
        if let Some(vocab_size) = vocab_size(store, gguf)?.filter(|size| *size < tokens.count) {
            return Err(TableError::Vocabulary { tokens: tokens.count, vocab_size }.into());
        }
        Ok(Self { pre, tokens, merges, types })
    }

    fn pre_tokenizer<S: Store>(store: &mut S, gguf: &Gguf<'_>) -> Result<PreTokenizer, TextError> {
        const MODEL: &str = "tokenizer.ggml.model";
        let model = required(gguf.string(store, MODEL)?, MODEL)?;
        if !span_eq(store, model, b"gpt2")? {
            return Err(TableError::Model { found: name(store, model)? }.into());
        }
        let Some(pre) = gguf.string(store, "tokenizer.ggml.pre")? else { return Ok(PreTokenizer::Gpt2) };
        let known = [
            (&b"smollm"[..], PreTokenizer::SmolLm),
            (b"gpt-2", PreTokenizer::Gpt2),
            (b"default", PreTokenizer::Gpt2),
        ];
        for (name, pre_tokenizer) in known {
            if span_eq(store, pre, name)? {
                return Ok(pre_tokenizer);
            }
        }
        Err(TableError::PreTokenizer { found: name(store, pre)? }.into())
    }

    /// The number of tokens; [`find`](Self::find) saw to it that it fits.
    pub(super) fn token_count(&self) -> u32 {
        u32::try_from(self.tokens.count).unwrap_or(u32::MAX)
    }

    /// The value of `key`, an id of a token, if the file has it.
    pub(super) fn special_id<S: Store>(
        &self,
        store: &mut S,
        gguf: &Gguf<'_>,
        key: &'static str,
    ) -> Result<Option<u32>, TextError> {
        let tokens = self.token_count();
        let Some(found) = gguf.u64(store, key)? else { return Ok(None) };
        match u32::try_from(found) {
            Ok(id) if id < tokens => Ok(Some(id)),
            _ => Err(TableError::SpecialId { key, found, tokens }.into()),
        }
    }

    /// Calls `each` for every token in order, checked as far as a token can be by itself.
    pub(super) fn for_each_token<S: Store>(
        &self,
        store: &mut S,
        mut each: impl FnMut(Token<'_>) -> Result<(), TextError>,
    ) -> Result<(), TextError> {
        // Types and texts are apart in the file, and the store shows one place at a time.
        let mut types = self.types.map(|types| types.elements());
        let mut kinds = [Kind::Normal; 256];
        let (mut first_id, mut at) = (0u32, self.tokens.data.offset);
        while first_id < self.token_count() {
            let left = self.token_count().saturating_sub(first_id);
            let batch = kinds.len().min(left as usize);
            for (id, kind) in (first_id..).zip(kinds.iter_mut().take(batch)) {
                *kind = next_kind(store, types.as_mut(), id)?;
            }
            let data = Span { offset: at, ..self.tokens.data };
            let mut strings = Array { count: batch as u64, data, ..self.tokens }.strings(store)?;
            for (id, kind) in (first_id..).zip(kinds.iter().take(batch)) {
                let Some((span, bytes)) = strings.next()? else { break };
                at = span.end();
                each(check(id, *kind, span, bytes)?)?;
            }
            first_id = first_id.saturating_add(batch as u32);
        }
        Ok(())
    }
}

fn required<T>(value: Option<T>, key: &'static str) -> Result<T, TextError> {
    value.ok_or(TextError::Table(TableError::MissingKey { key }))
}

fn name<S: Store>(store: &mut S, span: Span) -> Result<Name, TextError> {
    store.load(Span { len: span.len.min(MIN_TILE), ..span }, None)?;
    Ok(Name::new(store.tile()))
}

/// An array of numbers, of which there must be as many as tokens.
fn array_per_token<S: Store>(
    store: &mut S,
    gguf: &Gguf<'_>,
    key: &'static str,
    element: ElementType,
    tokens: u64,
) -> Result<Option<Array>, TextError> {
    let Some(array) = gguf.array(store, key, element)? else { return Ok(None) };
    if array.count != tokens {
        return Err(TableError::Length { key, found: array.count, tokens }.into());
    }
    Ok(Some(array))
}

/// `ARCHITECTURE.vocab_size`, where the file has it.
fn vocab_size<S: Store>(store: &mut S, gguf: &Gguf<'_>) -> Result<Option<u64>, TextError> {
    let Some(span) = gguf.string(store, "general.architecture")? else { return Ok(None) };
    let mut key = heapless::String::<64>::new();
    if span.len > MIN_TILE {
        return Ok(None);
    }
    store.load(span, None)?;
    let architecture = core::str::from_utf8(store.tile()).unwrap_or_default();
    if key.push_str(architecture).and_then(|()| key.push_str(".vocab_size")).is_err() {
        return Ok(None);
    }
    Ok(gguf.u64(store, &key)?)
}

fn next_kind<S: Store>(store: &mut S, types: Option<&mut Elements>, id: u32) -> Result<Kind, TextError> {
    let Some(types) = types else { return Ok(Kind::Normal) };
    let found = match types.next(store)? {
        Some(Value::I32(found)) => found.into(),
        Some(Value::U32(found)) => i64::from(found),
        _ => return Err(TableError::Changed.into()),
    };
    match found {
        1 => Ok(Kind::Normal),
        // Control tokens, and user-defined ones.
        3 | 4 => Ok(Kind::Special),
        // The unknown token, and padding of the table.
        2 | 5 => Ok(Kind::Unused),
        _ => Err(TableError::TokenType { id, found }.into()),
    }
}

fn check(id: u32, kind: Kind, span: Span, bytes: &[u8]) -> Result<Token<'_>, TableError> {
    let text = core::str::from_utf8(bytes).map_err(|_| TableError::TokenNotUtf8 { id })?;
    if text.is_empty() {
        return Err(TableError::EmptyToken { id });
    }
    if kind == Kind::Normal
        && let Some(found) = text.chars().find(|c| alphabet::byte(*c).is_none())
    {
        return Err(TableError::Alphabet { id, found });
    }
    if kind == Kind::Special && text.len() > MAX_SPECIAL_LEN {
        return Err(TableError::SpecialLength { id, found: text.len() });
    }
    Ok(Token { id, kind, span, text })
}
