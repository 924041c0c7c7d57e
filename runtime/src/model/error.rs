//! Why a well-formed GGUF file is not a model that can run here.

use super::{Architecture, ExitKind};
use crate::arena::ArenaFull;
use crate::gguf::{GgufError, Name};
use crate::kv::KvSharing;
use crate::store::StoreError;
use core::fmt;
use ouro_quant::{Format, QuantError};

/// What is wrong with a model.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(missing_docs)] // Display says what each field is
pub enum ModelError {
    /// The file itself is malformed, or a value has another type.
    Gguf(GgufError),
    /// The store could not deliver.
    Store(StoreError),
    /// The arena is too small.
    Arena(ArenaFull),
    /// Bytes and rows disagree.
    Quant(QuantError),
    /// `general.architecture` names a model that does not run here.
    UnknownArchitecture { found: Name },
    /// A metadata key is missing.
    MissingKey { key: Name },
    /// A size is 0 or larger than any model's.
    OutOfRange { key: Name, found: u64, max: u64 },
    /// A constant is not a positive number.
    NotPositive { key: Name },
    /// Two values contradict each other.
    Contradiction { key: &'static str, expected: &'static str },
    /// `skip_loop_final_norm` is true.
    SkipsLoopNorm,
    /// Positions are stretched.
    RopeScaling,
    /// A tensor is missing.
    MissingTensor { tensor: Name },
    /// A tensor has another shape; `expected` is `[row length, rows]`.
    Shape { tensor: Name, found: [u64; 4], expected: [u64; 2] },
    /// A tensor's type can't be decoded.
    Type { tensor: Name, type_id: u32 },
    /// A tensor's type is one that this build leaves out.
    NotBuilt { tensor: Name, format: Format },
    /// A tensor is larger than this machine can address.
    TooLarge { tensor: Name },
    /// A tensor that the model has no use for.
    UnknownTensor { tensor: Name },
    /// `ouro.exit.policy` names no policy.
    UnknownExitPolicy { found: Name },
    /// `ouro.kv.sharing` names no way to share K and V.
    UnknownKvSharing { found: Name },
    /// Infinities or NaN in a norm or the gate.
    NotFinite { name: Name },
}

impl ModelError {
    #[inline(never)]
    pub(super) fn missing(key: &str) -> Self {
        Self::MissingKey { key: Name::new(key.as_bytes()) }
    }

    #[inline(never)]
    pub(super) fn missing_tensor(name: &str) -> Self {
        Self::MissingTensor { tensor: Name::new(name.as_bytes()) }
    }
}

impl From<GgufError> for ModelError {
    fn from(error: GgufError) -> Self {
        Self::Gguf(error)
    }
}

impl From<StoreError> for ModelError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ArenaFull> for ModelError {
    fn from(error: ArenaFull) -> Self {
        Self::Arena(error)
    }
}

impl From<QuantError> for ModelError {
    fn from(error: QuantError) -> Self {
        Self::Quant(error)
    }
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gguf(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Arena(error) => error.fmt(f),
            Self::Quant(error) => error.fmt(f),
            Self::UnknownArchitecture { found } => {
                write!(f, "architecture {found} found; those that run here are ")?;
                for (i, known) in Architecture::ALL.into_iter().enumerate() {
                    write!(f, "{}\"{}\"", if i == 0 { "" } else { " and " }, known.name())?;
                }
                Ok(())
            }
            Self::MissingKey { key } => {
                write!(f, "metadata key {key} is missing; convert the checkpoint again with `ouro quantize`")
            }
            Self::OutOfRange { key, found, max } => {
                write!(f, "metadata key {key} is {found}, expected 1 to {max}; the file is damaged or not a model")
            }
            Self::NotPositive { key } => {
                write!(f, "metadata key {key}: expected a finite number above 0; the file is damaged")
            }
            Self::Contradiction { key, expected } => {
                write!(f, "metadata key \"{key}\" contradicts the rest of the file: expected {expected}; convert the checkpoint again")
            }
            Self::SkipsLoopNorm => f.write_str(
                "the model skips the norm between loops (skip_loop_final_norm is true), expected false: Ouro models norm after every loop, and others do not run here",
            ),
            Self::RopeScaling => f.write_str(
                "the model stretches its positions (rope.scaling.type), expected none: such models do not run here",
            ),
            Self::MissingTensor { tensor } => {
                write!(f, "tensor {tensor} is missing; the file is incomplete: convert the checkpoint again")
            }
            Self::Shape { tensor, found: [a, b, c, d], expected: [cols, rows] } => {
                write!(f, "tensor {tensor} has the shape [{a}, {b}")?;
                if [c, d] != [&1, &1] {
                    write!(f, ", {c}, {d}")?;
                }
                write!(f, "], expected [{cols}, {rows}] from the metadata; convert the checkpoint again")
            }
            Self::Type { tensor, type_id } => {
                write!(f, "tensor {tensor} has type {type_id}; those that run here are")?;
                for (i, format) in Format::ALL.iter().enumerate() {
                    write!(f, "{} {}", if i == 0 { "" } else { "," }, format.name())?;
                }
                f.write_str("; convert the model to one of them")
            }
            Self::NotBuilt { tensor, format } => write!(
                f,
                "tensor {tensor} is stored as {format}, which this program was built without: build ouro-runtime with {}, or convert the model",
                format.condition()
            ),
            Self::TooLarge { tensor } => {
                write!(f, "tensor {tensor} is larger than this machine can address; use a smaller model or format")
            }
            Self::UnknownTensor { tensor } => {
                write!(f, "tensor {tensor} has no place in this architecture: the model computes something that does not run here")
            }
            Self::UnknownExitPolicy { found } => {
                unknown(f, "ouro.exit.policy", found, ExitKind::ALL.map(ExitKind::name))
            }
            Self::UnknownKvSharing { found } => {
                unknown(f, "ouro.kv.sharing", found, KvSharing::ALL.map(KvSharing::name))
            }
            Self::NotFinite { name } => {
                write!(f, "{name} holds infinities or NaN, expected finite numbers; the file is damaged: convert the checkpoint again")
            }
        }
    }
}

fn unknown<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    key: &str,
    found: &Name,
    known: [&str; N],
) -> fmt::Result {
    write!(f, "metadata key \"{key}\" is {found}, expected")?;
    for (i, name) in known.into_iter().enumerate() {
        write!(f, "{} {name}", if i == 0 { " one of" } else { "," })?;
    }
    f.write_str("; write it again with `ouro calibrate`")
}

impl core::error::Error for ModelError {}
