//! An answer as it grows.

use crate::Failure;
use heapless::{String, Vec};
use ouro_runtime::store::Store;
use ouro_runtime::text::{Tokenizer, Utf8Stream};

/// The most tokens of an answer.
const TOKENS: usize = 16;

/// The tokens of an answer and their text.
pub struct Answer<'a> {
    tokenizer: &'a Tokenizer<'a>,
    characters: Utf8Stream,
    /// The text so far.
    pub text: String<128>,
    /// Its tokens, the one that ends it included.
    pub ids: Vec<u32, TOKENS>,
}

impl<'a> Answer<'a> {
    /// The most tokens.
    pub const TOKENS: usize = TOKENS;

    /// Nothing yet.
    #[must_use]
    pub fn new(tokenizer: &'a Tokenizer<'a>) -> Self {
        Self { tokenizer, characters: Utf8Stream::new(), text: String::new(), ids: Vec::new() }
    }

    /// Takes the next token in; whether another one may follow.
    ///
    /// # Errors
    /// If the store fails, where the tokens' texts are.
    pub fn push<S: Store>(&mut self, store: &mut S, id: u32) -> Result<bool, Failure> {
        let full = self.ids.push(id).is_err() || self.ids.is_full();
        let end = ["<|im_end|>", "<|endoftext|>"].map(|text| self.tokenizer.special(text));
        if end.contains(&Some(id)) || self.tokenizer.eos() == Some(id) {
            return Ok(false);
        }
        if id < self.tokenizer.vocab_len() {
            // Text beyond the room is left out; the tokens are all there.
            let _ = self.characters.push(self.tokenizer.token_bytes(store, id)?, &mut self.text);
        }
        Ok(!full)
    }
}
