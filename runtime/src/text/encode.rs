//! From text to ids.

use super::error::TextError;
use super::merge::{NONE, Symbol, Word};
use super::pretokenize::Words;
use super::{Needs, Specials, Tokenizer};

/// Words up to this many bytes, nearly all of real text, are merged on the stack.
const SHORT: usize = 64;

impl Needs {
    /// Of a text of `len` bytes, whatever it says: one word, one token for each byte.
    #[must_use]
    pub fn of_text(len: usize) -> Self {
        Self { scratch: if len > SHORT { len } else { 0 }, ids: len }
    }

    /// Of two texts one after the other, which share the scratch.
    #[must_use]
    pub(super) fn and(self, other: Self) -> Self {
        Self { scratch: self.scratch.max(other.scratch), ids: self.ids.saturating_add(other.ids) }
    }
}

/// A run of encoding: where ids go, and what words are merged in.
pub(super) struct Encoder<'e> {
    tokenizer: &'e Tokenizer<'e>,
    short: [Symbol; SHORT],
    long: &'e mut [Symbol],
    ids: Ids<'e>,
}

struct Ids<'e> {
    out: &'e mut [u32],
    /// Ids so far; those beyond the output are only counted.
    len: usize,
}

impl Ids<'_> {
    fn push(&mut self, id: u32) {
        if let Some(place) = self.out.get_mut(self.len) {
            *place = id;
        }
        self.len = self.len.saturating_add(1);
    }
}

impl<'e> Encoder<'e> {
    pub(super) fn new(tokenizer: &'e Tokenizer<'e>, scratch: &'e mut [Symbol], out: &'e mut [u32]) -> Self {
        Self { tokenizer, short: [Symbol::default(); SHORT], long: scratch, ids: Ids { out, len: 0 } }
    }

    pub(super) fn push(&mut self, id: u32) {
        self.ids.push(id);
    }

    pub(super) fn text(&mut self, text: &str, specials: Specials) -> Result<(), TextError> {
        let mut rest = text;
        if specials == Specials::Recognize {
            while let Some((start, len, id)) = self.tokenizer.specials.search(rest.as_bytes()) {
                let (before, after) = (rest.get(..start), rest.get(start.saturating_add(len)..));
                self.plain(before.unwrap_or_default())?;
                self.push(id);
                rest = after.unwrap_or_default();
            }
        }
        self.plain(rest)
    }

    /// Text without special tokens, or whose special tokens are to be taken as plain text.
    pub(super) fn plain(&mut self, text: &str) -> Result<(), TextError> {
        self.words(self.split(text))
    }

    pub(super) fn split<'t>(&self, text: &'t str) -> Words<'t> {
        self.tokenizer.pre.words(text)
    }

    pub(super) fn words(&mut self, mut words: Words<'_>) -> Result<(), TextError> {
        words.try_for_each(|word| self.word(word, ""))
    }

    /// One word, given in two parts. Bytes without a token are dropped before anything merges, as
    /// the original does.
    pub(super) fn word(&mut self, first: &str, second: &str) -> Result<(), TextError> {
        let needed = first.len().saturating_add(second.len());
        let found = self.long.len();
        let symbols = match self.short.get_mut(..needed) {
            Some(symbols) => symbols,
            None => self.long.get_mut(..needed).ok_or(TextError::ScratchTooSmall { needed, found })?,
        };
        let byte_ids = self.tokenizer.byte_ids;
        let id = |byte: u8| byte_ids.get(usize::from(byte)).copied().filter(|id| *id != NONE);
        let ids = first.bytes().chain(second.bytes()).filter_map(id);
        let mut word = Word::new(ids, symbols, self.tokenizer.merges);
        word.merge();
        word.ids().for_each(|id| self.ids.push(id));
        Ok(())
    }

    /// The number of ids written.
    pub(super) fn finish(self) -> Result<usize, TextError> {
        let Ids { out, len } = self.ids;
        if len > out.len() {
            return Err(TextError::OutputTooSmall { needed: len, found: out.len() });
        }
        Ok(len)
    }
}
