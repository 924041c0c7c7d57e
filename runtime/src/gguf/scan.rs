//! One pass over the header: every field checked, nothing kept.

use super::cursor::Cursor;
use super::directory::RawEntry;
use super::error::{Field, GgufError, Name};
use super::index::Hash;
use super::types::TensorType;
use super::value::{ARRAY_ID, ElementType, Value};
use super::{ALIGNMENTS, DEFAULT_ALIGNMENT, MAX_ARRAY_BYTES, MAX_DIMS, MAX_ENTRIES, MAX_NAME_LEN};
use super::{MAX_TENSORS, Tensor};
use crate::store::{Span, Store};

/// The key of what offsets of tensor data are multiples of.
const ALIGNMENT: &str = "general.alignment";

/// What the whole header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) version: u32,
    pub(super) entries: u32,
    pub(super) tensors: u32,
    pub(super) alignment: u64,
    /// Where tensor data starts.
    pub(super) data_offset: u64,
}

/// Reads the header from its first byte to its last, and hands over what it finds in file order.
/// Offsets of tensors still count from the start of the data.
///
/// Time is linear in the header; strings and arrays of fixed-size elements are skipped, not read.
pub(super) fn scan<S: Store>(
    store: &mut S,
    on_entry: &mut dyn FnMut(RawEntry),
    on_tensor: &mut dyn FnMut(Tensor),
) -> Result<Layout, GgufError> {
    let mut cursor = Cursor::new(store, 0);
    let mut layout = read_counts(&mut cursor)?;
    let alignment = Hash::of(ALIGNMENT);
    for _ in 0..layout.entries {
        let (entry, key) = read_entry(&mut cursor)?;
        if entry.hash == alignment && cursor.is(entry.key(), ALIGNMENT.as_bytes())? {
            layout.alignment = check_alignment(entry.get().value, key)?;
        }
        on_entry(entry);
    }
    for _ in 0..layout.tensors {
        on_tensor(read_tensor(&mut cursor)?);
    }
    // The next multiple of the alignment, a power of two. The file ends long before u64 does.
    let below = layout.alignment - 1;
    layout.data_offset = cursor.at().saturating_add(below) & !below;
    Ok(layout)
}

// Not inlined, as the others here: errors are large, and each `?` of a function moves its words one by
// one where the compiler keeps them apart.
#[inline(never)]
fn read_counts<S: Store>(cursor: &mut Cursor<'_, S>) -> Result<Layout, GgufError> {
    let magic = cursor.array(Field::Header)?;
    if magic != *b"GGUF" {
        return Err(GgufError::Magic { found: magic });
    }
    let version = cursor.u32(Field::Header)?;
    match version {
        2 | 3 => {}
        // Only the upper half set: a small number in the other byte order.
        found if found != 0 && found.trailing_zeros() >= 16 => return Err(GgufError::BigEndian { found }),
        found => return Err(GgufError::Version { found }),
    }
    let at = cursor.at();
    let tensors = cursor.u64(Field::Header)?;
    let entries = cursor.u64(Field::Header)?;
    let limited = |field, at, found, limit: u32| match u32::try_from(found) {
        Ok(count) if count <= limit => Ok(count),
        _ => Err(GgufError::Limit { field, at, found, limit: limit.into() }),
    };
    let tensors = limited(Field::TensorCount, at, tensors, MAX_TENSORS)?;
    let entries = limited(Field::EntryCount, at.saturating_add(8), entries, MAX_ENTRIES)?;
    Ok(Layout { version, entries, tensors, alignment: DEFAULT_ALIGNMENT, data_offset: 0 })
}

#[inline(never)]
fn read_entry<S: Store>(cursor: &mut Cursor<'_, S>) -> Result<(RawEntry, Name), GgufError> {
    let ReadName { span: key, name, hash } = read_name(cursor, Field::Key)?;
    let at = cursor.at();
    let type_id = cursor.u32(Field::Value)?;
    let is_array = type_id == ARRAY_ID;
    let (element, bits, data) = if is_array {
        read_array(cursor, name)?
    } else {
        let unknown = GgufError::ValueType { key: name, at, found: type_id };
        let element = ElementType::from_id(type_id).ok_or(unknown)?;
        let (bits, string) = cursor.value(element, Field::Value)?;
        (element, bits, string)
    };
    let entry = RawEntry {
        key_offset: key.offset,
        key_len: key.len as u32,
        hash,
        type_id: element.id(),
        is_array: is_array.into(),
        bits,
        data: data.offset,
        len: data.len as u64,
    };
    Ok((entry, name))
}

/// The type, number and place of the elements.
#[inline(never)]
fn read_array<S: Store>(
    cursor: &mut Cursor<'_, S>,
    key: Name,
) -> Result<(ElementType, u64, Span), GgufError> {
    let at = cursor.at();
    let element = match cursor.u32(Field::Value)? {
        ARRAY_ID => return Err(GgufError::NestedArray { key, at }),
        id => ElementType::from_id(id).ok_or(GgufError::ValueType { key, at, found: id })?,
    };
    let at = cursor.at();
    let count = cursor.u64(Field::ArrayCount)?;
    let least = element.size().unwrap_or(size_of::<u64>()) as u64; // a string has its length at least
    let limit = MAX_ARRAY_BYTES >> least.trailing_zeros();
    if count > limit {
        return Err(GgufError::Limit { field: Field::ArrayCount, at, found: count, limit });
    }
    let offset = cursor.at();
    cursor.require(count * least, Field::ArrayElements)?; // not one step if the count is a lie
    if element == ElementType::String {
        for _ in 0..count {
            cursor.value(element, Field::Element)?;
        }
    } else {
        cursor.skip(count * least, Field::ArrayElements)?;
    }
    let (found, limit) = (cursor.at().saturating_sub(offset), MAX_ARRAY_BYTES);
    let too_large = GgufError::Limit { field: Field::ArrayElements, at: offset, found, limit };
    let len = usize::try_from(found).ok().filter(|_| found <= limit).ok_or(too_large)?;
    Ok((element, count, Span { offset, len }))
}

fn check_alignment(value: Value, key: Name) -> Result<u64, GgufError> {
    let found = value.to_u64(key)?;
    if found.is_power_of_two() && ALIGNMENTS.contains(&found) {
        Ok(found)
    } else {
        Err(GgufError::Alignment { found })
    }
}

#[inline(never)]
fn read_tensor<S: Store>(cursor: &mut Cursor<'_, S>) -> Result<Tensor, GgufError> {
    let ReadName { span, name: tensor, hash } = read_name(cursor, Field::TensorName)?;
    let n_dims = cursor.u32(Field::TensorInfo)?;
    if n_dims > MAX_DIMS {
        return Err(GgufError::Dimensions { tensor, found: n_dims });
    }
    let mut dims = [1; 4];
    for (size, dim) in dims.iter_mut().zip(0..n_dims) {
        *size = cursor.u64(Field::TensorInfo)?;
        if *size == 0 {
            return Err(GgufError::EmptyTensor { tensor, dim });
        }
    }
    let type_id = cursor.u32(Field::TensorInfo)?;
    let kind = TensorType::from_id(type_id).ok_or(GgufError::TensorType { tensor, found: type_id })?;
    let offset = cursor.u64(Field::TensorInfo)?;
    let len = tensor_bytes(tensor, kind, dims)?;
    Ok(Tensor {
        dims,
        offset,
        len,
        name_offset: span.offset,
        name_len: span.len as u32,
        n_dims,
        type_id,
        hash,
    })
}

/// The bytes of a tensor: `dims[0]` values in whole blocks, times the number of rows.
fn tensor_bytes(tensor: Name, kind: TensorType, dims: [u64; 4]) -> Result<u64, GgufError> {
    let too_large = GgufError::TensorSize { tensor, dims };
    let product = |sizes: [u64; 4]| {
        let product = sizes.iter().try_fold(1u64, |product, size| product.checked_mul(*size));
        product.filter(|product| i64::try_from(*product).is_ok()).ok_or(too_large)
    };
    product(dims)?;
    let [row, planes @ ..] = dims;
    let block = kind.block_len as u64; // a power of two
    if row & block.saturating_sub(1) != 0 {
        return Err(GgufError::RowLength { tensor, found: row, block, type_name: kind.name });
    }
    let blocks = row >> (block.trailing_zeros() & 63);
    let rows = product([1, planes[0], planes[1], planes[2]])?;
    product([blocks, rows, kind.block_bytes as u64, 1])
}

/// A key or tensor name that was passed.
#[derive(Clone, Copy)]
struct ReadName {
    span: Span,
    name: Name,
    hash: u32,
}

fn read_name<S: Store>(cursor: &mut Cursor<'_, S>, field: Field) -> Result<ReadName, GgufError> {
    let len = cursor.len(field, MAX_NAME_LEN)?;
    let span = Span { offset: cursor.at(), len };
    let (mut name, mut hash) = (Name::new(b""), Hash::new());
    cursor.pieces(len as u64, field, |piece| {
        name.push(piece);
        hash.push(piece);
    })?;
    Ok(ReadName { span, name, hash: hash.get() })
}
