//! Where a file keeps the sums by which [`Checked`](crate::store::Checked) notices rotten bytes.

use super::ModelError;
use crate::gguf::{Array, ElementType, Gguf};
use crate::store::{Store, Sums};

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
