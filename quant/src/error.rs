use crate::Format;
use core::fmt;

/// Why a row could not be decoded or encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum QuantError {
    /// The build leaves the format out, to save flash.
    NotBuilt {
        /// The format asked for.
        format: Format,
    },
    /// The values are no whole number of blocks.
    PartialBlock {
        /// The format asked for.
        format: Format,
        /// How many values there are.
        values: usize,
    },
    /// The bytes are more or fewer than the values take up.
    Bytes {
        /// The format asked for.
        format: Format,
        /// How many values there are.
        values: usize,
        /// How many bytes there are.
        found: usize,
    },
    /// The format can be read, but not written.
    NoEncoder {
        /// The format asked for.
        format: Format,
    },
    /// The number of importance weights is not the length of a row: a whole number of blocks
    /// that divides the number of values.
    Columns {
        /// The format asked for.
        format: Format,
        /// How many values there are.
        values: usize,
        /// How many weights there are.
        weights: usize,
    },
    /// An importance weight is negative, NaN or above 2^40.
    Weight {
        /// Which column it is.
        column: usize,
    },
    /// A value is infinite, NaN or too large for a block of this format.
    Range {
        /// The format asked for.
        format: Format,
        /// The first value of the block that it is in.
        index: usize,
    },
}

impl fmt::Display for QuantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotBuilt { format } => write!(
                f,
                "this program was built without {format}: build ouro-quant with {}, or convert the model",
                format.condition()
            ),
            Self::PartialBlock { format, values } => write!(
                f,
                "{values} values are no whole number of {format} blocks of {}: take another format or pad the row",
                format.block_len()
            ),
            Self::Bytes { format, values, found } => {
                let expected = format.row_bytes(values).unwrap_or(usize::MAX);
                write!(f, "{values} values of {format} take {expected} bytes, but there are {found}")
            }
            Self::NoEncoder { format } => {
                write!(f, "{format} can be read, but not written: choose one of")?;
                Format::ALL
                    .iter()
                    .filter(|format| format.can_encode())
                    .try_for_each(|format| write!(f, " {format}"))
            }
            Self::Columns { format, values, weights } => write!(
                f,
                "{weights} importance weights for {values} values: expected one for each column, rows being whole blocks of {}",
                format.block_len()
            ),
            Self::Weight { column } => write!(
                f,
                "the importance weight of column {column} is no number from 0 to 2^40: scale the weights or leave them out"
            ),
            Self::Range { format, index } => write!(
                f,
                "a value in the block of {format} that starts at value {index} is infinite, NaN or too large: keep the tensor in F32"
            ),
        }
    }
}

impl core::error::Error for QuantError {}
