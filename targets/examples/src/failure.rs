//! What can go wrong between power-on and an answer.

use core::fmt;
use ouro_runtime::gguf::GgufError;
use ouro_runtime::model::ModelError;
use ouro_runtime::session::SessionError;
use ouro_runtime::store::StoreError;
use ouro_runtime::text::TextError;

/// Any error of the runtime; each says what was found, and what to do.
#[derive(Clone, Copy, Debug)]
pub enum Failure {
    /// The block buffer does not suit the flash.
    Store(StoreError),
    /// The file is malformed.
    Gguf(GgufError),
    /// It is no model that runs here, or the arena is too small for it.
    Model(ModelError),
    /// The tokenizer fails.
    Text(TextError),
    /// The session fails.
    Session(SessionError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Gguf(error) => error.fmt(f),
            Self::Model(error) => error.fmt(f),
            Self::Text(error) => error.fmt(f),
            Self::Session(error) => error.fmt(f),
        }
    }
}

impl defmt::Format for Failure {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{}", defmt::Display2Format(self));
    }
}

macro_rules! from {
    ($($error:ident => $variant:ident),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}

from!(StoreError => Store, GgufError => Gguf, ModelError => Model, TextError => Text, SessionError => Session);
