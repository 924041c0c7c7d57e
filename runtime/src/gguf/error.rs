//! What can be wrong with a GGUF file, and what to do about it.

use super::value::{ElementType, Kind};
use crate::arena::ArenaFull;
use crate::store::StoreError;
use core::fmt;

/// Why a GGUF file, or a value in it, can't be used. Offsets count from the start of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(missing_docs)] // Display says what each field is
pub enum GgufError {
    /// The file does not begin with "GGUF".
    Magic { found: [u8; 4] },
    /// A version that only makes sense in the other byte order.
    BigEndian { found: u32 },
    /// Neither version 2 nor 3.
    Version { found: u32 },
    /// A field needs more bytes than the file has.
    Truncated { field: Field, at: u64, wanted: u64, len: u64 },
    /// A count or length above its limit.
    Limit { field: Field, at: u64, found: u64, limit: u64 },
    /// A value type that does not exist.
    ValueType { key: Name, at: u64, found: u32 },
    /// An array whose elements are arrays.
    NestedArray { key: Name, at: u64 },
    /// A bool that is neither 0 nor 1.
    Bool { at: u64, found: u8 },
    /// `general.alignment` is no power of two, or outside its limits.
    Alignment { found: u64 },
    /// More dimensions than four.
    Dimensions { tensor: Name, found: u32 },
    /// A dimension of size 0; `dim` counts from 0.
    EmptyTensor { tensor: Name, dim: u32 },
    /// The number of values or bytes is beyond any file.
    TensorSize { tensor: Name, dims: [u64; 4] },
    /// A type that does not exist.
    TensorType { tensor: Name, found: u32 },
    /// Rows that are no whole number of blocks.
    RowLength { tensor: Name, found: u64, block: u64, type_name: &'static str },
    /// An offset that is no multiple of the alignment.
    Misaligned { tensor: Name, offset: u64, alignment: u64 },
    /// Tensor data past the end of the file. The offset counts from the start of the data.
    OutsideFile { tensor: Name, data: u64, offset: u64, bytes: u64, len: u64 },
    /// Two tensors share bytes, the first of which is at this offset.
    Overlap { first: Name, second: Name, at: u64 },
    /// Two metadata entries with one key.
    DuplicateKey { key: Name, at: u64 },
    /// Two tensors with one name.
    DuplicateTensor { tensor: Name, at: u64 },
    /// More names with one hash than chance can give.
    Collisions { name: Name, limit: u32 },
    /// A value that is not of the type asked for.
    WrongType { key: Name, found: Kind, expected: Kind },
    /// A negative number where only 0 and more make sense.
    Negative { key: Name, found: i64 },
    /// An array that is not of the element type asked for.
    ElementType { at: u64, found: ElementType, expected: ElementType },
    /// An array of another length than asked for.
    ElementCount { at: u64, found: u64, expected: u64 },
    /// The store failed.
    Store(StoreError),
    /// The directory does not fit the arena.
    Arena(ArenaFull),
}

impl From<StoreError> for GgufError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ArenaFull> for GgufError {
    fn from(error: ArenaFull) -> Self {
        Self::Arena(error)
    }
}

impl core::error::Error for GgufError {}

const COPY_AGAIN: &str = "the file is cut off or damaged; copy it again";
/// What to do about a well-formed file that is no whole model.
pub(crate) const CONVERT_AGAIN: &str = "convert the checkpoint again with `ouro quantize`";
const WRITE_AGAIN: &str = "the file is damaged or its writer is wrong; write it again";

impl fmt::Display for GgufError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use super::{ALIGNMENTS, MAX_DIMS};
        match *self {
            Self::Magic { found: [a, b, c, d] } => write!(
                f,
                "not a GGUF file: it begins with the bytes {a:02x} {b:02x} {c:02x} {d:02x}, expected 47 47 55 46 (\"GGUF\"); give a GGUF file, or convert this one"
            ),
            Self::BigEndian { found } => write!(
                f,
                "big-endian GGUF file (version field {found:#010x}), expected little endian; convert it with gguf_convert_endian.py of the gguf package"
            ),
            Self::Version { found: 1 } => write!(
                f,
                "GGUF version 1, expected 2 or 3; convert the original model again with a converter newer than August 2023"
            ),
            Self::Version { found } => write!(
                f,
                "GGUF version {found}, expected 2 or 3; use a newer release of this program, or write the file again as version 3"
            ),
            Self::Truncated { field, at, wanted, len } => write!(
                f,
                "the file ends at offset {len}, expected {wanted} more bytes from offset {at} on for {field}: {COPY_AGAIN}"
            ),
            Self::Limit { field, at, found, limit } => {
                write!(f, "{field} at offset {at} is {found}, expected at most {limit}: {WRITE_AGAIN}")
            }
            Self::ValueType { key, at, found } => write!(
                f,
                "key {key} at offset {at} has the unknown value type {found}, expected 0 to 12: {WRITE_AGAIN}"
            ),
            Self::NestedArray { key, at } => write!(
                f,
                "key {key} at offset {at} is an array of arrays, expected an array of numbers, bools or strings; write the file without it"
            ),
            Self::Bool { at, found } => {
                write!(f, "bool at offset {at} is {found}, expected 0 or 1: {WRITE_AGAIN}")
            }
            Self::Alignment { found } => write!(
                f,
                "general.alignment is {found}, expected a power of two from {} to {}: {WRITE_AGAIN}",
                ALIGNMENTS.start(),
                ALIGNMENTS.end()
            ),
            Self::Dimensions { tensor, found } => write!(
                f,
                "tensor {tensor} has {found} dimensions, expected at most {MAX_DIMS}: {WRITE_AGAIN}"
            ),
            Self::EmptyTensor { tensor, dim } => {
                write!(f, "tensor {tensor} has size 0 in dimension {dim}, expected 1 or more: {WRITE_AGAIN}")
            }
            Self::TensorSize { tensor, dims: [a, b, c, d] } => write!(
                f,
                "tensor {tensor} of shape {a} x {b} x {c} x {d} has 2^63 values or bytes or more, expected fewer: {WRITE_AGAIN}"
            ),
            Self::TensorType { tensor, found } => write!(
                f,
                "tensor {tensor} has type {found}, which is unknown or was withdrawn, expected a type of ggml; write the file again, or use a newer release of this program"
            ),
            Self::RowLength { tensor, found, block, type_name } => write!(
                f,
                "tensor {tensor} has rows of {found} values, expected a multiple of {block} for type {type_name}: {WRITE_AGAIN}"
            ),
            Self::Misaligned { tensor, offset, alignment } => write!(
                f,
                "tensor {tensor} has its data at {offset}, expected a multiple of the alignment {alignment}: {WRITE_AGAIN}"
            ),
            Self::OutsideFile { tensor, data, offset, bytes, len } => write!(
                f,
                "tensor {tensor} has {bytes} bytes at {data} + {offset}, but the file ends at offset {len}, expected all inside: {COPY_AGAIN}"
            ),
            Self::Overlap { first, second, at } => write!(
                f,
                "tensors {first} and {second} share bytes from offset {at} on, expected none shared: {WRITE_AGAIN}"
            ),
            Self::DuplicateKey { key, at } => {
                write!(f, "key {key} is there twice, again at offset {at}, expected once: {WRITE_AGAIN}")
            }
            Self::DuplicateTensor { tensor, at } => write!(
                f,
                "tensor {tensor} is there twice, again at offset {at}, expected once: {WRITE_AGAIN}"
            ),
            Self::Collisions { name, limit } => write!(
                f,
                "more than {limit} names have the hash of {name}, expected fewer: the file is made to slow readers down; don't use it"
            ),
            Self::WrongType { key, found, expected } => {
                write!(f, "key {key} is {found}, expected {expected}; write the file again with that type")
            }
            Self::Negative { key, found } => {
                write!(f, "key {key} is {found}, expected 0 or more; write the file again with such a value")
            }
            Self::ElementType { at, found, expected } => write!(
                f,
                "array at offset {at} has elements of type {}, expected {}; write the file again with that type",
                found.name(),
                expected.name()
            ),
            Self::ElementCount { at, found, expected } => write!(
                f,
                "array at offset {at} has {found} elements, expected {expected}; write the file again"
            ),
            Self::Store(error) => error.fmt(f),
            Self::Arena(error) => error.fmt(f),
        }
    }
}

/// A part of the header, in the words of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(missing_docs)]
pub enum Field {
    Header,
    EntryCount,
    TensorCount,
    Key,
    Value,
    String,
    ArrayCount,
    ArrayElements,
    Element,
    TensorName,
    TensorInfo,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "the header",
            Self::EntryCount => "the number of metadata entries",
            Self::TensorCount => "the number of tensors",
            Self::Key => "the length of a key",
            Self::Value => "a value",
            Self::String => "the length of a string",
            Self::ArrayCount => "the number of elements of an array",
            Self::ArrayElements => "the elements of an array",
            Self::Element => "an element of an array",
            Self::TensorName => "the length of a tensor's name",
            Self::TensorInfo => "the description of a tensor",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(element) => f.write_str(element.name()),
            Self::ArrayOf(element) => write!(f, "an array of {}", element.name()),
            Self::Integer => f.write_str("an integer"),
        }
    }
}

/// Bytes of a name that an error keeps: none without the feature `names`.
const KEPT: usize = if cfg!(feature = "names") { 46 } else { 0 };

/// The beginning of a key or tensor name, kept in errors; without the feature `names` shown as `"..."`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; KEPT],
    kept: u8,
    cut: bool,
}

impl Name {
    /// Keeps as much of `bytes` as fits.
    #[must_use]
    #[cfg_attr(feature = "names", inline(never))] // errors are made in many places
    pub fn new(bytes: &[u8]) -> Self {
        let mut name = Self { bytes: [0; KEPT], kept: 0, cut: false };
        name.push(bytes);
        name
    }

    pub(crate) fn push(&mut self, more: &[u8]) {
        let mut more = more.iter();
        for (place, byte) in self.bytes.iter_mut().skip(self.kept.into()).zip(more.by_ref()) {
            *place = *byte;
            self.kept = self.kept.saturating_add(1);
        }
        self.cut |= more.next().is_some();
    }
}

/// In quotes; what is no printable UTF-8 as U+FFFD; "..." where it was cut.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.bytes.get(..self.kept.into()).unwrap_or_default();
        f.write_str("\"")?;
        let mut chunks = kept.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            for letter in chunk.valid().chars() {
                let shown = if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter };
                write!(f, "{shown}")?;
            }
            let split = self.cut && chunks.peek().is_none(); // a letter cut in two is not shown
            if !chunk.invalid().is_empty() && !split {
                write!(f, "{}", char::REPLACEMENT_CHARACTER)?;
            }
        }
        f.write_str(if self.cut { "...\"" } else { "\"" })
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Name {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{}", defmt::Display2Format(self));
    }
}
