//! What can go wrong with a session, and what to do about it.

use crate::arena::ArenaFull;
use crate::depth::LOOP;
use crate::model::MatrixName;
use crate::store::StoreError;
use core::fmt;
use ouro_quant::QuantError;

/// Why a session could not be made, fed or stepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SessionError {
    /// A setting makes no sense.
    Setting {
        /// Which.
        setting: &'static str,
        /// What would.
        expected: &'static str,
    },
    /// The arena is too small.
    Arena(ArenaFull),
    /// The prompt is empty or larger than the activations' part of the arena.
    Prompt {
        /// Its tokens.
        found: usize,
        /// [`Settings::rows`](super::Settings::rows).
        rows: usize,
    },
    /// Several tokens were fed as one that was generated.
    Generated {
        /// Their number.
        found: usize,
    },
    /// The cache is full.
    Context {
        /// Positions that there would have been.
        wanted: usize,
        /// [`Settings::context`](super::Settings::context).
        context: usize,
    },
    /// No such token.
    Token {
        /// The id.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// The budget of loops can't pay the fallback depth.
    LoopRate {
        /// Thousandths of a loop that every token adds.
        rate: u64,
        /// The fallback depth.
        fallback: usize,
    },
    /// The budget of bytes can't pay the fallback depth.
    ByteRate {
        /// Bytes that every token adds.
        rate: u64,
        /// Bytes of a token of the fallback depth at most, and a tile to recover by.
        needed: u64,
    },
    /// The time was up before a token had the minimum depth, or a prompt all its loops.
    OutOfTime {
        /// Loops that were done.
        loops: usize,
    },
    /// A policy asks for the exit gate of a model that has none.
    NoGate,
    /// [`Session::step`](super::Session::step) without [`Session::feed`](super::Session::feed).
    NothingInFlight,
    /// Some logit is not a number: weights or scales in the file are not finite, or K and V are
    /// too large for f16.
    NotANumber,
    /// The store could not deliver.
    Store(StoreError),
    /// The store could not deliver weights.
    Weights {
        /// Of which matrix.
        matrix: MatrixName,
        /// Why not.
        error: StoreError,
    },
    /// Bytes and rows disagree.
    Quant(QuantError),
    /// A state that the code rules out; please report it.
    Internal,
}

impl From<ArenaFull> for SessionError {
    fn from(error: ArenaFull) -> Self {
        Self::Arena(error)
    }
}

impl From<StoreError> for SessionError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<QuantError> for SessionError {
    fn from(error: QuantError) -> Self {
        Self::Quant(error)
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting { setting, expected } => write!(f, "{setting}: expected {expected}"),
            Self::Arena(error) => error.fmt(f),
            Self::Prompt { found: 0, .. } => f.write_str("the prompt has no tokens; give at least one"),
            Self::Prompt { found, rows } => write!(
                f,
                "the prompt has {found} tokens, but the arena holds the activations of {rows}; shorten it or lend a larger arena"
            ),
            Self::Generated { found } => write!(
                f,
                "{found} tokens were fed as a generated one; each has a depth of its own: feed them one by one, or as a prompt"
            ),
            Self::Context { wanted, context } => write!(
                f,
                "the conversation would take {wanted} positions, but the KV cache holds {context}; enlarge the context or begin anew"
            ),
            Self::Token { token, vocab } => {
                write!(f, "token id {token} found, but the vocabulary ends at {}", vocab.saturating_sub(1))
            }
            Self::LoopRate { rate, fallback } => write!(
                f,
                "the budget of loops adds {}.{:03} loops per token, less than the fallback depth of {fallback}; raise the one or lower the other",
                rate / LOOP,
                rate % LOOP
            ),
            Self::ByteRate { rate, needed } => write!(
                f,
                "the budget of bytes adds {rate} per token, but the fallback depth needs at least {needed}, and recovers the sooner the more there is; raise it or lower the fallback depth"
            ),
            Self::OutOfTime { loops } => write!(
                f,
                "out of time after {loops} whole loops, too few to answer; allow more time, or a smaller minimum depth"
            ),
            Self::NoGate => f.write_str(
                "the exit policy needs the exit gate, but the file has none; add it with `ouro quantize --gate-from`, or choose a fixed depth or a confidence policy",
            ),
            Self::NothingInFlight => f.write_str("nothing is in flight; feed tokens first"),
            Self::NotANumber => f.write_str(
                "the logits are not numbers: weights in the file are not finite (`ouro inspect --check` names the tensor), or K and V are too large for an f16 cache (try f32)",
            ),
            Self::Store(error) => error.fmt(f),
            Self::Weights { matrix, error } => write!(f, "{matrix}: {error}"),
            Self::Quant(error) => error.fmt(f),
            Self::Internal => f.write_str("internal error: please report it"),
        }
    }
}

impl core::error::Error for SessionError {}
