//! Why a well-formed GGUF file is not a model that can run here.

use super::{Architecture, CHECKSUMS, ExitKind};
use crate::arena::ArenaFull;
use crate::gguf::{CONVERT_AGAIN, GgufError, Name};
use crate::kv::KvSharing;
use crate::store::{PIECE, StoreError};
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
    NotPositive { key: Name, found: f32 },
    /// Two numbers contradict each other.
    Contradiction { key: &'static str, found: u64, other: &'static str, value: u64, expected: &'static str },
    /// A threshold is not a number from 0 to 1.
    Threshold { key: &'static str, found: f32 },
    /// More checksums than pieces of weights, or fewer.
    Checksums { found: u64, expected: u64 },
    /// `skip_loop_final_norm` is true.
    SkipsLoopNorm,
    /// Positions are stretched.
    RopeScaling { found: Name },
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
    /// `ouro.exit.policy` is q, and the file has no exit gate.
    ExitNeedsGate,
    /// `ouro.kv.sharing` names no way to share K and V.
    UnknownKvSharing { found: Name },
    /// `ouro.checksum.metadata` is not the sum of what lies before the weights.
    MetadataChecksum,
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

const CALIBRATE_AGAIN: &str = "take the file as it was before `ouro calibrate`, and calibrate it again";
const OTHER_MODEL: &str = "use a plain Ouro or Llama model";

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gguf(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Arena(error) => error.fmt(f),
            Self::Quant(error) => error.fmt(f),
            Self::UnknownArchitecture { found } => {
                write!(f, "the architecture is {found}, expected")?;
                for (i, known) in Architecture::ALL.into_iter().enumerate() {
                    write!(f, "{} \"{}\"", if i == 0 { "" } else { " or" }, known.name())?;
                }
                write!(f, "; {OTHER_MODEL}")
            }
            Self::MissingKey { key } => {
                write!(f, "metadata key {key} is missing, expected in such a file; {CONVERT_AGAIN}")
            }
            Self::OutOfRange { key, found, max } => {
                write!(f, "metadata key {key} is {found}, expected 1 to {max}; {CONVERT_AGAIN}")
            }
            Self::NotPositive { key, found } => write!(
                f,
                "metadata key {key} is {}, expected a finite number above 0; {CONVERT_AGAIN}",
                Decimal(*found)
            ),
            Self::Contradiction { key, found, other, value, expected } => write!(
                f,
                "metadata key \"{key}\" is {found}, and {other} is {value}, expected {expected}; {CONVERT_AGAIN}"
            ),
            Self::Threshold { key, found } => write!(
                f,
                "metadata key \"{key}\" is {}, expected a number from 0 to 1; {CALIBRATE_AGAIN}",
                Decimal(*found)
            ),
            Self::Checksums { found, expected } => write!(
                f,
                "metadata key \"{CHECKSUMS}\" has {found} elements, expected {expected}, one for each {PIECE} bytes of weights; {CONVERT_AGAIN}"
            ),
            Self::SkipsLoopNorm => write!(
                f,
                "the model skips the norm between loops (skip_loop_final_norm is true), expected false; {OTHER_MODEL}"
            ),
            Self::RopeScaling { found } => write!(
                f,
                "the model stretches its positions (rope.scaling.type is {found}), expected \"none\"; {OTHER_MODEL}"
            ),
            Self::MissingTensor { tensor } => {
                write!(f, "tensor {tensor} is missing, expected in such a model; {CONVERT_AGAIN}")
            }
            Self::Shape { tensor, found: [a, b, c, d], expected: [cols, rows] } => {
                write!(f, "tensor {tensor} has the shape [{a}, {b}")?;
                if [c, d] != [&1, &1] {
                    write!(f, ", {c}, {d}")?;
                }
                write!(f, "], expected [{cols}, {rows}] from the metadata; {CONVERT_AGAIN}")
            }
            Self::Type { tensor, type_id } => {
                write!(f, "tensor {tensor} has type {type_id}, expected one of")?;
                for (i, format) in Format::ALL.iter().enumerate() {
                    write!(f, "{} {}", if i == 0 { "" } else { "," }, format.name())?;
                }
                write!(f, "; {CONVERT_AGAIN}")
            }
            Self::NotBuilt { tensor, format } => write!(
                f,
                "tensor {tensor} is stored as {format}, which this program was built without: build ouro-runtime with {}, or convert the model",
                format.condition()
            ),
            Self::TooLarge { tensor } => {
                write!(f, "tensor {tensor} is larger than this machine can address, expected one that fits; use a smaller model or format")
            }
            Self::UnknownTensor { tensor } => {
                write!(f, "tensor {tensor} has no place in this architecture, expected none but its own; {OTHER_MODEL}")
            }
            Self::UnknownExitPolicy { found } => {
                unknown(f, "ouro.exit.policy", found, ExitKind::ALL.map(ExitKind::name))
            }
            Self::ExitNeedsGate => f.write_str(
                "metadata key \"ouro.exit.policy\" is q, and the file has no exit gate, expected one or another policy; add the gate with `ouro quantize --gate-from`",
            ),
            Self::UnknownKvSharing { found } => {
                unknown(f, "ouro.kv.sharing", found, KvSharing::ALL.map(KvSharing::name))
            }
            Self::MetadataChecksum => f.write_str(
                "the metadata and the table of tensors have another checksum than the file says (ouro.checksum.metadata), expected the same; copy the file again",
            ),
            Self::NotFinite { name } => {
                write!(f, "{name} holds infinities or NaN, expected finite numbers; {CONVERT_AGAIN}")
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
    write!(f, "; {CALIBRATE_AGAIN}")
}

/// A number with six decimals, if it is neither huge nor tiny. The formatting of floats in `core` is large and may panic.
struct Decimal(f32);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value) = *self;
        let (size, is_negative) = (value.abs(), value.is_sign_negative());
        let [positive, negative] = if value.is_nan() {
            ["NaN"; 2]
        } else if value.is_infinite() {
            ["infinity", "-infinity"]
        } else if size >= 1e18 {
            ["more than 10^18", "less than -10^18"]
        } else if size != 0.0 && size < 1e-6 {
            ["between 0 and 10^-6", "between -10^-6 and 0"]
        } else {
            let whole = size as u64;
            let millionths = ((size - whole as f32) * 1e6) as u32;
            let sign = if is_negative { "-" } else { "" };
            return write!(f, "{sign}{whole}.{millionths:06}");
        };
        f.write_str(if is_negative { negative } else { positive })
    }
}

impl core::error::Error for ModelError {}
