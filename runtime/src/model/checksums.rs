//! Where a file keeps the sums by which rotten bytes are noticed: those of the weights
//! ([`Checked`](crate::store::Checked)), and that of all before them.

use super::ModelError;
use crate::gguf::{Array, ElementType, Entry, Gguf, GgufError, Kind, Name, Value};
use crate::store::{PIECE, Span, Store, StoreError, Sums};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The key: an array of u32, one for every piece of 4096 bytes ([`PIECE`](crate::store::PIECE)) from
/// where weights begin to the end of the last tensor, counted from the beginning of the file.
pub const CHECKSUMS: &str = "ouro.checksum.xxh3_4096";

/// The sums of all weights, if the file has any.
///
/// # Errors
/// [`ModelError::Checksums`] if there are too few or too many.
pub fn checksums<S: Store>(store: &mut S, gguf: &Gguf<'_>) -> Result<Option<Array>, ModelError> {
    let array = gguf.array(store, CHECKSUMS, ElementType::U32)?;
    // Not the end of the store: that may be a partition, longer than the file in it.
    let end = gguf.tensors().iter().map(|tensor| tensor.offset.saturating_add(tensor.len)).max();
    let expected = Sums::<()>::count(gguf.data_offset(), end.unwrap_or(0));
    match array {
        Some(Array { count: found, .. }) if found != expected => {
            Err(ModelError::Checksums { found, expected })
        }
        _ => Ok(array),
    }
}

/// The key: a u64, the XXH3 of all bytes of the file before the weights, those of this value read as 0.
pub const METADATA_CHECKSUM: &str = "ouro.checksum.metadata";

/// The sum of a header in which its own place has zeros.
#[must_use]
pub fn metadata_checksum(header: &[u8]) -> u64 {
    xxh3_64(header)
}

/// Compares metadata and the table of tensors with their sum, if the file has it.
///
/// # Errors
/// [`ModelError::MetadataChecksum`], [`GgufError::WrongType`] if the sum is no u64, or the store's.
pub fn check_metadata<S: Store>(store: &mut S, gguf: &Gguf<'_>) -> Result<(), ModelError> {
    let Some(Entry { key, value }) = gguf.entry(store, METADATA_CHECKSUM)? else { return Ok(()) };
    let Value::U64(expected) = value else {
        let key = Name::new(METADATA_CHECKSUM.as_bytes());
        let expected = Kind::One(ElementType::U64);
        return Err(GgufError::WrongType { key, found: value.kind(), expected }.into());
    };
    let at = key.end().saturating_add(size_of::<u32>() as u64); // its type stands between
    let behind = at.saturating_add(size_of::<u64>() as u64);
    let mut hash = Xxh3::new();
    add(store, &mut hash, 0, at)?;
    hash.update(&[0; size_of::<u64>()]);
    add(store, &mut hash, behind, gguf.data_offset().min(store.len()))?;
    if hash.digest() == expected { Ok(()) } else { Err(ModelError::MetadataChecksum) }
}

/// Adds the bytes from `start` to `end`.
fn add<S: Store>(store: &mut S, hash: &mut Xxh3, mut start: u64, end: u64) -> Result<(), StoreError> {
    let most = store.max_tile().clamp(1, PIECE) as u64;
    while start < end {
        let span = Span { offset: start, len: end.saturating_sub(start).min(most) as usize };
        store.load(span, None)?;
        let bytes = store.tile();
        if bytes.len() != span.len {
            return Err(StoreError::Short { span, found: bytes.len() });
        }
        hash.update(bytes);
        start = span.end();
    }
    Ok(())
}
