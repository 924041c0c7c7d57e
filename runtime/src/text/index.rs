//! Which token has which text: needed only while the merge table is read.

use super::error::TableError;
use crate::sort::sort_by_key;
use bytemuck::{Pod, Zeroable};

/// FNV-1a with 64 bits.
///
/// Texts are told apart by their hash alone. Among 50,000 tokens two share one by chance once in
/// 10^10 files, and a file made for that is refused, or merges into a token of its own choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hash(u64);

impl Hash {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(0xcbf2_9ce4_8422_2325).and(bytes)
    }

    /// The hash of the bytes so far and then `bytes`.
    pub(super) fn and(self, bytes: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(bytes.iter().fold(self.0, step))
    }
}

/// One token in the index; in order of hash, then id.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub(super) struct Entry {
    /// In halves, so that an entry takes 12 bytes and not 16.
    high: u32,
    low: u32,
    id: u32,
}

impl Entry {
    pub(super) fn new(hash: Hash, id: u32) -> Self {
        Self { high: (hash.0 >> 32) as u32, low: hash.0 as u32, id }
    }

    fn hash(self) -> Hash {
        Hash(u64::from(self.high) << 32 | u64::from(self.low))
    }
}

/// Tokens by their text.
pub(super) struct Index<'i>(&'i [Entry]);

impl<'i> Index<'i> {
    /// # Errors
    /// [`TableError::DuplicateToken`].
    pub(super) fn new(entries: &'i mut [Entry]) -> Result<Self, TableError> {
        sort_by_key(entries, |entry| entry);
        let mut pairs = entries.iter().zip(entries.iter().skip(1));
        match pairs.find(|(first, second)| first.hash() == second.hash()) {
            Some((first, second)) => Err(TableError::DuplicateToken { first: first.id, second: second.id }),
            None => Ok(Self(entries)),
        }
    }

    pub(super) fn find(&self, hash: Hash) -> Option<u32> {
        let place = self.0.partition_point(|entry| entry.hash() < hash);
        self.0.get(place).filter(|entry| entry.hash() == hash).map(|entry| entry.id)
    }
}
