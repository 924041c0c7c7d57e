//! The sums of a file's weights, made while they are written.

use crate::gguf_writer::{Metadata, TensorInfo, Value};
use ouro_runtime::gguf::ElementType;
use ouro_runtime::model::CHECKSUMS;
use ouro_runtime::store::{PIECE, checksum};

/// Metadata with room for the sums of the tensors. Without, where tensors do not begin on whole
/// pieces: then most pieces would hold parts of two of them.
pub(crate) fn with_room(metadata: &Metadata, tensors: &[TensorInfo], alignment: u32) -> Metadata {
    let mut metadata = metadata.clone();
    let (piece, alignment) = (PIECE as u64, u64::from(alignment));
    if alignment.is_multiple_of(piece) {
        let pieces = tensors.iter().map(|tensor| tensor.len.next_multiple_of(alignment) / piece).sum();
        let zeros = vec![0; pieces as usize * size_of::<u32>()];
        metadata.set(CHECKSUMS, Value::from_raw_array(ElementType::U32, pieces, &zeros));
    } else {
        metadata.remove(CHECKSUMS);
    }
    metadata
}

/// Sums up what is written, piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Summing {
    /// The beginning of a piece.
    part: Vec<u8>,
    /// Sums in the bytes of a file.
    sums: Vec<u8>,
}

impl Summing {
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (more, rest) = bytes.split_at(bytes.len().min(PIECE - self.part.len()));
            bytes = rest;
            if more.len() == PIECE {
                self.sums.extend(checksum(more).to_le_bytes());
                continue;
            }
            self.part.extend_from_slice(more);
            if self.part.len() == PIECE {
                self.sums.extend(checksum(&self.part).to_le_bytes());
                self.part.clear();
            }
        }
    }

    /// The sums of all whole pieces so far, in the bytes of a file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.sums
    }
}
