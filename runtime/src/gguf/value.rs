//! Metadata values, and reading the elements of arrays.

use super::MAX_STRING_LEN;
use super::cursor::Cursor;
use super::error::{Field, GgufError, Name};
use crate::store::{Span, Store};

/// The type of a metadata value, or of the elements of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(missing_docs)]
#[repr(u32)]
pub enum ElementType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

/// The id of an array in a file; no [`ElementType`], since arrays of arrays are refused.
pub(super) const ARRAY_ID: u32 = 9;

impl ElementType {
    /// The type with this id in a file; `None` for unknown ids and for arrays.
    #[must_use]
    pub fn from_id(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::String,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    /// The id in a file.
    #[must_use]
    pub fn id(self) -> u32 {
        self as u32
    }

    /// The specification's name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::String => "string",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
        }
    }

    /// Bytes of one element; `None` for strings.
    #[must_use]
    pub fn size(self) -> Option<usize> {
        Some(match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
            Self::String => return None,
        })
    }
}

/// A metadata value. Strings and arrays stay in the file; their [`Span`] says where.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(missing_docs)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    U64(u64),
    I64(i64),
    F64(f64),
    /// The bytes, without the length in front. UTF-8 by the specification, but not checked.
    String(Span),
    Array(Array),
}

impl Value {
    /// The value of an integer of any type, if it is not negative.
    #[must_use]
    pub fn as_u64(self) -> Option<u64> {
        self.to_u64(Name::new(b"")).ok()
    }

    /// As [`as_u64`](Self::as_u64), with the reason where there is none.
    ///
    /// # Errors
    /// [`GgufError`] naming `key`, if it is no integer or a negative one.
    pub(super) fn to_u64(self, key: Name) -> Result<u64, GgufError> {
        let signed = match self {
            Self::U8(value) => return Ok(value.into()),
            Self::U16(value) => return Ok(value.into()),
            Self::U32(value) => return Ok(value.into()),
            Self::U64(value) => return Ok(value),
            Self::I8(value) => value.into(),
            Self::I16(value) => value.into(),
            Self::I32(value) => value.into(),
            Self::I64(value) => value,
            other => return Err(GgufError::WrongType { key, found: other.kind(), expected: Kind::Integer }),
        };
        u64::try_from(signed).map_err(|_| GgufError::Negative { key, found: signed })
    }

    /// What it is, for messages.
    #[must_use]
    pub fn kind(self) -> Kind {
        Kind::One(match self {
            Self::U8(_) => ElementType::U8,
            Self::I8(_) => ElementType::I8,
            Self::U16(_) => ElementType::U16,
            Self::I16(_) => ElementType::I16,
            Self::U32(_) => ElementType::U32,
            Self::I32(_) => ElementType::I32,
            Self::F32(_) => ElementType::F32,
            Self::Bool(_) => ElementType::Bool,
            Self::U64(_) => ElementType::U64,
            Self::I64(_) => ElementType::I64,
            Self::F64(_) => ElementType::F64,
            Self::String(_) => ElementType::String,
            Self::Array(array) => return Kind::ArrayOf(array.element),
        })
    }

    /// From the zero-extended bits of a number or bool, or the place of a string.
    pub(super) fn new(element: ElementType, bits: u64, string: Span) -> Self {
        let [a, b, c, d, ..] = bits.to_le_bytes();
        match element {
            ElementType::U8 => Self::U8(a),
            ElementType::I8 => Self::I8(i8::from_le_bytes([a])),
            ElementType::U16 => Self::U16(u16::from_le_bytes([a, b])),
            ElementType::I16 => Self::I16(i16::from_le_bytes([a, b])),
            ElementType::U32 => Self::U32(u32::from_le_bytes([a, b, c, d])),
            ElementType::I32 => Self::I32(i32::from_le_bytes([a, b, c, d])),
            ElementType::F32 => Self::F32(f32::from_le_bytes([a, b, c, d])),
            ElementType::Bool => Self::Bool(bits != 0),
            ElementType::U64 => Self::U64(bits),
            ElementType::I64 => Self::I64(i64::from_le_bytes(bits.to_le_bytes())),
            ElementType::F64 => Self::F64(f64::from_bits(bits)),
            ElementType::String => Self::String(string),
        }
    }
}

/// The type of a whole value, in the words of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Kind {
    /// A single value.
    One(ElementType),
    /// An array.
    ArrayOf(ElementType),
    /// Any of the eight integer types.
    Integer,
}

/// An array in the metadata. Its elements stay in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Array {
    /// The type of every element.
    pub element: ElementType,
    /// Number of elements.
    pub count: u64,
    /// The elements' bytes; of strings, the lengths too.
    pub data: Span,
}

impl Array {
    /// The elements in order; strings as places in the file. Where the bytes of all strings are
    /// wanted, [`strings`](Self::strings) reads them once.
    #[must_use]
    pub fn elements(&self) -> Elements {
        Elements { element: self.element, at: self.data.offset, left: self.count }
    }

    /// The elements of an array of strings, with their bytes.
    ///
    /// # Errors
    /// [`GgufError::ElementType`] if the elements are no strings.
    pub fn strings<'s, S: Store>(&self, store: &'s mut S) -> Result<Strings<'s, S>, GgufError> {
        self.expect(ElementType::String)?;
        Ok(Strings { cursor: Cursor::new(store, self.data.offset), left: self.count })
    }

    /// Fills `out` with all elements of an array of f32.
    ///
    /// # Errors
    /// [`GgufError::ElementType`], [`GgufError::ElementCount`] unless `out` has one place for each
    /// element, or the store's.
    pub fn read_f32<S: Store>(&self, store: &mut S, out: &mut [f32]) -> Result<(), GgufError> {
        self.expect(ElementType::F32)?;
        self.expect_count(out.len())?;
        let mut cursor = Cursor::new(store, self.data.offset);
        for value in out {
            *value = f32::from_le_bytes(cursor.array(Field::Element)?);
        }
        Ok(())
    }

    /// Fills `out` with all elements of an array of u32.
    ///
    /// # Errors
    /// As [`read_f32`](Self::read_f32).
    pub fn read_u32<S: Store>(&self, store: &mut S, out: &mut [u32]) -> Result<(), GgufError> {
        self.expect(ElementType::U32)?;
        self.expect_count(out.len())?;
        let mut cursor = Cursor::new(store, self.data.offset);
        for value in out {
            *value = u32::from_le_bytes(cursor.array(Field::Element)?);
        }
        Ok(())
    }

    fn expect_count(&self, places: usize) -> Result<(), GgufError> {
        let (found, expected) = (self.count, places as u64);
        if found == expected {
            return Ok(());
        }
        Err(GgufError::ElementCount { at: self.data.offset, found, expected })
    }

    fn expect(&self, expected: ElementType) -> Result<(), GgufError> {
        let found = self.element;
        if found == expected {
            return Ok(());
        }
        Err(GgufError::ElementType { at: self.data.offset, found, expected })
    }
}

/// Walks an array without holding on to the store between calls: it reads ahead a little, and
/// again if the store's tile was changed meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Elements {
    element: ElementType,
    at: u64,
    left: u64,
}

impl Elements {
    /// The next element, or `None` after the last. Changes the store's current tile.
    ///
    /// # Errors
    /// The store's, or [`GgufError::Bool`].
    pub fn next<S: Store>(&mut self, store: &mut S) -> Result<Option<Value>, GgufError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        let mut cursor = Cursor::brief(store, self.at);
        let (bits, string) = cursor.value(self.element, Field::Element)?;
        (self.at, self.left) = (cursor.at(), left);
        Ok(Some(Value::new(self.element, bits, string)))
    }
}

/// Walks an array of strings through the store's buffer.
#[derive(Debug)]
pub struct Strings<'s, S> {
    cursor: Cursor<'s, S>,
    left: u64,
}

impl<S: Store> Strings<'_, S> {
    /// Where the next string is, and its bytes; `None` after the last.
    ///
    /// # Errors
    /// The store's. After [`StoreError::TooLarge`](crate::store::StoreError::TooLarge), for a string
    /// larger than its buffer, the next one can still be read.
    #[allow(clippy::should_implement_trait)] // lends its buffer
    pub fn next(&mut self) -> Result<Option<(Span, &[u8])>, GgufError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let len = self.cursor.len(Field::Element, MAX_STRING_LEN)?;
        let span = Span { offset: self.cursor.at(), len };
        Ok(Some((span, self.cursor.bytes(len, Field::Element)?)))
    }
}
