//! What the arena holds: one record for each metadata entry and each tensor.

use super::value::{Array, ElementType, Value};
use crate::store::Span;
use bytemuck::{Pod, Zeroable};

/// One metadata entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// Where its key is.
    pub key: Span,
    /// Its value.
    pub value: Value,
}

/// One tensor.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Tensor {
    /// Shape in ggml's order: `dims[0]` is the length of a row, the rest are 1 from `n_dims` on.
    pub dims: [u64; 4],
    /// First byte of the data, counted from the start of the file.
    pub offset: u64,
    /// Bytes of the data.
    pub len: u64,
    pub(super) name_offset: u64,
    pub(super) name_len: u32,
    /// Number of dimensions written in the file, 0 (a single value) to 4.
    pub n_dims: u32,
    /// ggml's id of the type of the values; [`TensorType::from_id`](super::TensorType::from_id)
    /// knows every one that is let in.
    pub type_id: u32,
    pub(super) hash: u32,
}

impl Tensor {
    /// Where its name is.
    #[must_use]
    pub fn name(&self) -> Span {
        Span { offset: self.name_offset, len: self.name_len as usize }
    }

    /// The offset one past its data.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// An [`Entry`] as it lies in the arena.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(super) struct RawEntry {
    pub(super) key_offset: u64,
    /// Where the bytes of a string or an array are, and how many.
    pub(super) data: u64,
    pub(super) len: u64,
    /// The bits of a scalar, or the number of elements.
    pub(super) bits: u64,
    pub(super) key_len: u32,
    pub(super) hash: u32,
    /// Of the value, or of the elements.
    pub(super) type_id: u32,
    pub(super) is_array: u32,
}

impl RawEntry {
    pub(super) fn key(&self) -> Span {
        Span { offset: self.key_offset, len: self.key_len as usize }
    }

    pub(super) fn get(&self) -> Entry {
        // Every id here is that of an ElementType, as the scan saw to.
        let element = ElementType::from_id(self.type_id).unwrap_or(ElementType::U8);
        let data = Span { offset: self.data, len: self.len as usize };
        let value = match self.is_array {
            0 => Value::new(element, self.bits, data),
            _ => Value::Array(Array { element, count: self.bits, data }),
        };
        Entry { key: self.key(), value }
    }
}
