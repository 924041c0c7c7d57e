//! The sums of a file: of its weights, made while they are written, and of what lies before them.

use crate::gguf_writer::{Metadata, TensorInfo, Value};
use ouro_runtime::gguf::ElementType;
use ouro_runtime::model::{CHECKSUMS, METADATA_CHECKSUM, metadata_checksum};
use ouro_runtime::store::{PIECE, checksum};

/// Metadata with room for its own sum and for those of the tensors. Without those, where tensors do not
/// begin on whole pieces: then most pieces would hold parts of two of them.
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
    metadata.set(METADATA_CHECKSUM, Value::from_raw(ElementType::U64, vec![0; size_of::<u64>()]));
    metadata
}

/// The same metadata with no room for any.
pub(crate) fn without(metadata: &Metadata) -> Metadata {
    let mut metadata = metadata.clone();
    metadata.remove(CHECKSUMS);
    metadata.remove(METADATA_CHECKSUM);
    metadata
}

/// Where in a header the sums belong: known last, they are written over it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// Of the weights' sums.
    pub(crate) weights: Option<usize>,
    /// Of the header's own.
    pub(crate) metadata: Option<usize>,
}

impl Places {
    /// Fills in the sums; the header has zeros where it has room for its own.
    pub(crate) fn fill(&self, header: &mut [u8], weights: &Summing) {
        let put = |at: Option<usize>, bytes: &[u8], header: &mut [u8]| {
            let room = at.and_then(|at| header.get_mut(at..at + bytes.len()));
            if let Some(room) = room {
                room.copy_from_slice(bytes);
            }
        };
        put(self.weights, weights.bytes(), header);
        put(self.metadata, &metadata_checksum(header).to_le_bytes(), header);
    }
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
