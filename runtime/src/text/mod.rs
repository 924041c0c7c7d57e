//! Text to token ids and back: byte-level BPE as GPT-2, SmolLM2 and Ouro use it.
//!
//! [`Tokenizer::open`] builds an index of the file's tables in the arena: 8 bytes for each token,
//! 12 for each merge, the texts of special tokens; and while it works 12 more for each token.
//! The texts of other tokens stay in the file. [`Tokenizer::encode`] then needs neither the store nor
//! memory of its own, in n log n time for n bytes, and always gives the ids that the original
//! tokenizer gives: special tokens are found first, what lies between them is split into words
//! ([`PreTokenizer`]), a word is the tokens of its bytes, and the pair with the lowest rank merges
//! until no pair is in the table. A byte that has no token is left out.
//!
//! Nothing here panics, whatever the file or the text.

mod alphabet;
mod chatml;
mod decode;
mod encode;
mod error;
mod index;
mod merge;
mod pretokenize;
mod source;
mod special;
mod tables;
mod unicode;
mod unicode_table;
mod utf8;

pub use chatml::{Message, Role, chatml_needs};
pub use decode::TokenBytes;
pub use error::{MergePart, TableError, TextError};
pub use merge::Symbol;
pub use pretokenize::{PreTokenizer, Words};
pub use utf8::Utf8Stream;

use crate::arena::Arena;
use crate::gguf::Gguf;
use crate::store::Store;
use encode::Encoder;
use merge::Merges;
use source::Source;
use tables::{Filled, Places, Sizes, Tables};

/// What to make of text that looks like a special token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Specials {
    /// It is that token. For templates and other text of one's own.
    Recognize,
    /// It is plain text. For what a user or a document says.
    PlainText,
}

/// What encoding can need at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Needs {
    /// Symbols of scratch. A text whose words are all up to 64 bytes long needs none.
    pub scratch: usize,
    /// Ids that come out.
    pub ids: usize,
}

/// A tokenizer whose tables are in a GGUF file, and their index in an arena.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer<'a> {
    pre: PreTokenizer,
    places: Places<'a>,
    byte_ids: &'a [u32],
    merges: Merges<'a>,
    specials: special::Specials<'a>,
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
}

impl<'a> Tokenizer<'a> {
    /// Bytes that must be left in the arena for [`open`](Self::open), to the byte. Some of them
    /// are free again when it returns.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), as far as the tokens go.
    pub fn arena_bytes<S: Store>(store: &mut S, gguf: &Gguf<'_>) -> Result<usize, TextError> {
        let source = Source::find(store, gguf)?;
        let sizes = Sizes::count(store, &source)?;
        let mut arena = Arena::measure();
        Tables::carve(sizes, &mut arena)?;
        let mut scratch = arena.scratch();
        Tables::carve_names(sizes, &mut scratch)?;
        Ok(scratch.used())
    }

    /// Of [`arena_bytes`](Self::arena_bytes), those that stay taken.
    ///
    /// # Errors
    /// As [`arena_bytes`](Self::arena_bytes).
    pub fn kept_bytes<S: Store>(store: &mut S, gguf: &Gguf<'_>) -> Result<usize, TextError> {
        let source = Source::find(store, gguf)?;
        let sizes = Sizes::count(store, &source)?;
        let mut arena = Arena::measure();
        Tables::carve(sizes, &mut arena)?;
        Ok(arena.used())
    }

    /// Checks the tokenizer's tables in the file and builds their index.
    ///
    /// # Errors
    /// [`TextError::Table`] names the first thing that is wrong with them; else the store's, or
    /// the arena's if it is too small.
    pub fn open<S: Store>(store: &mut S, gguf: &Gguf<'_>, arena: &mut Arena<'a>) -> Result<Self, TextError> {
        let source = Source::find(store, gguf)?;
        let [bos, eos, pad] = [
            source.special_id(store, gguf, "tokenizer.ggml.bos_token_id")?,
            source.special_id(store, gguf, "tokenizer.ggml.eos_token_id")?,
            source.special_id(store, gguf, "tokenizer.ggml.padding_token_id")?,
        ];
        let sizes = Sizes::count(store, &source)?;
        let tables = Tables::carve(sizes, arena)?;
        let mut scratch = arena.scratch();
        let names = Tables::carve_names(sizes, &mut scratch)?;
        let peak = scratch.used();
        let Filled { places, byte_ids, merges, specials, special_bytes } =
            tables.fill(store, &source, names)?;
        arena.note_peak(peak);
        let specials = special::Specials::new(specials, special_bytes);
        Ok(Self { pre: source.pre, places, byte_ids, merges, specials, bos, eos, pad })
    }

    /// Writes the ids of `text` to `out` and gives their number. Nothing is added before or after.
    ///
    /// Words longer than 64 bytes are merged in `scratch`, one [`Symbol`] for each byte of the
    /// longest. [`Needs::of_text`] gives what any text of a length can need.
    ///
    /// # Errors
    /// [`TextError::ScratchTooSmall`] or [`TextError::OutputTooSmall`], with what is needed.
    pub fn encode(
        &self,
        text: &str,
        specials: Specials,
        scratch: &mut [Symbol],
        out: &mut [u32],
    ) -> Result<usize, TextError> {
        let mut encoder = Encoder::new(self, scratch, out);
        encoder.text(text, specials)?;
        encoder.finish()
    }

    /// The bytes that the token `id` stands for. A special token stands for its text.
    ///
    /// # Errors
    /// [`TextError::NoSuchToken`], or the store's.
    pub fn token_bytes<'s, S: Store>(&self, store: &'s mut S, id: u32) -> Result<TokenBytes<'s>, TextError> {
        let missing = TextError::NoSuchToken { id, tokens: self.vocab_len() };
        let (span, literal) = self.places.get(id).ok_or(missing)?;
        store.load(span, None)?;
        let text = core::str::from_utf8(store.tile()).map_err(|_| TableError::TokenNotUtf8 { id })?;
        Ok(TokenBytes::new(text, literal))
    }

    /// The id of the special token whose text is exactly `text`.
    #[must_use]
    pub fn special(&self, text: &str) -> Option<u32> {
        self.specials.find(text.as_bytes())
    }

    /// Number of tokens; ids count from 0.
    #[must_use]
    pub fn vocab_len(&self) -> u32 {
        self.places.token_count()
    }

    /// How text is split before merging.
    #[must_use]
    pub fn pre_tokenizer(&self) -> PreTokenizer {
        self.pre
    }

    /// The token that begins a text, if the file names one. [`encode`](Self::encode) does not add it.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text, if the file names one.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The token that fills up batches, if the file names one.
    #[must_use]
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }
}
