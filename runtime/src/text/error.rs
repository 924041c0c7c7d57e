//! What can be wrong with a tokenizer, or with what is asked of one.

use super::special::MAX_SPECIAL_LEN;
use crate::arena::ArenaFull;
use crate::gguf::{CONVERT_AGAIN, GgufError, Name};
use crate::store::StoreError;
use core::fmt;

/// Why a tokenizer can't be opened or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum TextError {
    /// The tokenizer's tables in the file are incomplete, unknown, or contradict each other.
    Table(TableError),
    /// A word of the text is longer than the scratch that was lent.
    ScratchTooSmall {
        /// Symbols that this word needs.
        needed: usize,
        /// Symbols lent.
        found: usize,
    },
    /// The text has more tokens than the output has room for.
    OutputTooSmall {
        /// Tokens of the text.
        needed: usize,
        /// Room for so many.
        found: usize,
    },
    /// An id that no token has.
    NoSuchToken {
        /// The id.
        id: u32,
        /// The number of tokens.
        tokens: u32,
    },
    /// The tokenizer has no special token with this text, so that ChatML can't be written.
    NotChatMl {
        /// The text.
        missing: &'static str,
    },
    /// A value in the file is not what it should be.
    Gguf(GgufError),
    /// The store failed.
    Store(StoreError),
    /// The index does not fit the arena.
    Arena(ArenaFull),
}

/// What is wrong with the tables of a tokenizer. Tokens go by their id, merges by their place in
/// the table, which is their rank; both count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(missing_docs)] // Display says what each field is
pub enum TableError {
    /// A key that is needed is not there.
    MissingKey { key: &'static str },
    /// Another kind of tokenizer than byte-level BPE.
    Model { found: Name },
    /// A way of splitting text that is not known.
    PreTokenizer { found: Name },
    /// No token at all, or more than any index has room for.
    TokenCount { found: u64 },
    /// More merges than any index has room for.
    MergeCount { found: u64 },
    /// An array that should have one element for each token.
    Length { key: &'static str, found: u64, tokens: u64 },
    /// More tokens than the model has rows in its embedding.
    Vocabulary { tokens: u64, vocab_size: u64 },
    /// A token type that byte-level BPE has no use for.
    TokenType { id: u32, found: i64 },
    /// A token of no bytes.
    EmptyToken { id: u32 },
    /// A token whose text is no UTF-8.
    TokenNotUtf8 { id: u32 },
    /// A token with a character that stands for no byte.
    Alphabet { id: u32, found: char },
    /// A special token with a text beyond the limit.
    SpecialLength { id: u32, found: usize },
    /// Two tokens with one text.
    DuplicateToken { first: u32, second: u32 },
    /// A merge that is not two tokens with one space between them.
    MergeSyntax { rank: u32, found: Name },
    /// A merge of or into something that is no normal token.
    MergeToken { rank: u32, part: MergePart, found: Name },
    /// A special id that no token has.
    SpecialId { key: &'static str, found: u64, tokens: u32 },
    /// The file gave other values when it was read again.
    Changed,
}

/// A part of a line of the merge table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum MergePart {
    /// The token before the space.
    Left,
    /// The token after the space.
    Right,
    /// The two without the space.
    Result,
}

impl From<TableError> for TextError {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
}

impl From<GgufError> for TextError {
    fn from(error: GgufError) -> Self {
        Self::Gguf(error)
    }
}

impl From<StoreError> for TextError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ArenaFull> for TextError {
    fn from(error: ArenaFull) -> Self {
        Self::Arena(error)
    }
}

impl core::error::Error for TextError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Table(error) => Some(error),
            Self::Gguf(error) => Some(error),
            Self::Store(error) => Some(error),
            Self::Arena(error) => Some(error),
            _ => None,
        }
    }
}

impl core::error::Error for TableError {}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Table(error) => error.fmt(f),
            Self::ScratchTooSmall { needed, found } => write!(
                f,
                "a word of the text needs {needed} symbols of scratch, but {found} were lent; lend more, or break the word up"
            ),
            Self::OutputTooSmall { needed, found } => write!(
                f,
                "the text has {needed} tokens, but there is room for {found}; shorten it, or make more room"
            ),
            Self::NoSuchToken { id, tokens } => {
                write!(f, "no token has the id {id}, expected an id below {tokens}; give one of them")
            }
            Self::NotChatMl { missing } => write!(
                f,
                "the tokenizer has no special token {missing}, which ChatML needs; give the model plain text, or a file with another tokenizer"
            ),
            Self::Gguf(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Arena(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MissingKey { key } => {
                write!(f, "the file has no {key}, expected in every file that can turn text into tokens; {CONVERT_AGAIN}, or give token ids")
            }
            Self::Model { found } => write!(
                f,
                "tokenizer.ggml.model is {found}, expected \"gpt2\" (byte-level BPE); give token ids, or a model with such a tokenizer"
            ),
            Self::PreTokenizer { found } => write!(
                f,
                "tokenizer.ggml.pre is {found}, expected \"smollm\", \"gpt-2\" or \"default\"; give token ids, or a model with such a tokenizer"
            ),
            Self::TokenCount { found } => {
                write!(f, "tokenizer.ggml.tokens has {found} elements, expected 1 to 2^31; {CONVERT_AGAIN}")
            }
            Self::MergeCount { found } => {
                write!(f, "tokenizer.ggml.merges has {found} elements, expected at most 2^31; {CONVERT_AGAIN}")
            }
            Self::Length { key, found, tokens } => write!(
                f,
                "{key} has {found} elements, expected one for each of the {tokens} tokens; {CONVERT_AGAIN}"
            ),
            Self::Vocabulary { tokens, vocab_size } => write!(
                f,
                "tokenizer.ggml.tokens has {tokens} elements, expected at most the model's vocab_size {vocab_size}; {CONVERT_AGAIN}, with its own tokenizer"
            ),
            Self::TokenType { id, found } => write!(
                f,
                "tokenizer.ggml.token_type of token {id} is {found}, expected 1 (normal) to 5 (unused); {CONVERT_AGAIN}"
            ),
            Self::EmptyToken { id } => {
                write!(f, "token {id} is empty, expected at least one character; {CONVERT_AGAIN}")
            }
            Self::TokenNotUtf8 { id } => {
                write!(f, "token {id} is not UTF-8, expected text that is; {CONVERT_AGAIN}")
            }
            Self::Alphabet { id, found } => write!(
                f,
                "token {id} has the character U+{:04X}, expected only the 256 of the byte-level alphabet; {CONVERT_AGAIN}, or mark the token as special",
                u32::from(found)
            ),
            Self::SpecialLength { id, found } => write!(
                f,
                "special token {id} is {found} bytes long, expected at most {MAX_SPECIAL_LEN}; {CONVERT_AGAIN}, with a shorter one"
            ),
            Self::DuplicateToken { first, second } => write!(
                f,
                "tokens {first} and {second} have the same text, expected every token once; {CONVERT_AGAIN}"
            ),
            Self::MergeSyntax { rank, found } => write!(
                f,
                "merge {rank} is {found}, expected two tokens with one space between them; {CONVERT_AGAIN}"
            ),
            Self::MergeToken { rank, part, found } => {
                let part = match part {
                    MergePart::Left => "first part",
                    MergePart::Right => "second part",
                    MergePart::Result => "result",
                };
                write!(f, "the {part} of merge {rank} is {found}, expected a normal token; {CONVERT_AGAIN}")
            }
            Self::SpecialId { key, found, tokens } => {
                write!(f, "{key} is {found}, expected an id below {tokens}; {CONVERT_AGAIN}")
            }
            Self::Changed => f.write_str(
                "the tokenizer's tables changed while they were read, expected the same every time; check the medium, and open the file again",
            ),
        }
    }
}
