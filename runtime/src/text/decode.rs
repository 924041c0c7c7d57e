//! From ids to bytes.

use super::alphabet;
use core::str::{Bytes, Chars};

/// The bytes that a token stands for, see [`super::Tokenizer::token_bytes`]. They need not be
/// UTF-8: [`super::Utf8Stream`] makes text of them.
#[derive(Clone, Debug)]
pub struct TokenBytes<'s>(Text<'s>);

#[derive(Clone, Debug)]
enum Text<'s> {
    Literal(Bytes<'s>),
    InAlphabet(Chars<'s>),
}

impl<'s> TokenBytes<'s> {
    pub(super) fn new(text: &'s str, literal: bool) -> Self {
        Self(if literal { Text::Literal(text.bytes()) } else { Text::InAlphabet(text.chars()) })
    }
}

impl Iterator for TokenBytes<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        match &mut self.0 {
            Text::Literal(bytes) => bytes.next(),
            Text::InAlphabet(chars) => chars.find_map(alphabet::byte),
        }
    }
}
