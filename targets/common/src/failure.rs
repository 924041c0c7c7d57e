//! Why an image did not do what was asked, and the exit status that says so.

use crate::STACK_BYTES;
use core::fmt;
use ouro_runtime::arena::ArenaFull;
use ouro_runtime::gguf::GgufError;
use ouro_runtime::model::ModelError;
use ouro_runtime::session::SessionError;
use ouro_runtime::store::StoreError;
use ouro_runtime::text::TextError;

/// What went wrong.
#[derive(Debug, defmt::Format)]
pub(crate) enum Failure {
    /// What the command line should have.
    Argument(&'static str),
    /// The heap has no room for an arena.
    Arena(ArenaFull),
    /// The block buffer does not suit the flash.
    Store(StoreError),
    /// The file is malformed.
    Gguf(GgufError),
    /// It is no model that runs here.
    Model(ModelError),
    /// Its tokenizer fails.
    Text(TextError),
    /// The session fails.
    Session(SessionError),
    /// Allocations after the heap was closed.
    LateAllocations(u32),
    /// The stack ran into the guard below it.
    Overflow,
    /// The stack went as deep as it may, or deeper.
    Stack {
        /// Bytes in use at its deepest.
        used: usize,
        /// What there is for it.
        limit: usize,
    },
}

impl Failure {
    /// That of the command `ouro`.
    pub(crate) fn status(&self) -> i32 {
        match self {
            Self::Argument(_) => 2,
            Self::Arena(_)
            | Self::Gguf(GgufError::Arena(_))
            | Self::Model(ModelError::Arena(_) | ModelError::Gguf(GgufError::Arena(_)))
            | Self::Text(TextError::Arena(_) | TextError::Gguf(GgufError::Arena(_)))
            | Self::Session(
                SessionError::Arena(_) | SessionError::Prompt { .. } | SessionError::Context { .. },
            )
            | Self::Store(StoreError::TooLarge { .. })
            | Self::Overflow
            | Self::Stack { .. } => 4,
            Self::Store(_) | Self::Gguf(_) | Self::Model(_) | Self::Text(_) | Self::Session(_) => 3,
            Self::LateAllocations(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(expected) => write!(f, "arguments: expected {expected}"),
            Self::Arena(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Gguf(error) => error.fmt(f),
            Self::Model(error) => error.fmt(f),
            Self::Text(error) => error.fmt(f),
            Self::Session(error) => error.fmt(f),
            Self::LateAllocations(count) => {
                write!(f, "{count} allocations after the heap was closed, all refused; expected none")
            }
            Self::Overflow => {
                write!(f, "the stack ran into the guard below its {STACK_BYTES} bytes; give it more")
            }
            Self::Stack { used, limit } => {
                write!(f, "{used} bytes of stack were used, of {limit} there are; give it more")
            }
        }
    }
}

impl From<ArenaFull> for Failure {
    fn from(error: ArenaFull) -> Self {
        Self::Arena(error)
    }
}

impl From<GgufError> for Failure {
    fn from(error: GgufError) -> Self {
        Self::Gguf(error)
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Self::Model(error)
    }
}

impl From<TextError> for Failure {
    fn from(error: TextError) -> Self {
        Self::Text(error)
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}
