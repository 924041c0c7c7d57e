//! Finding a name among many: an order by hash, and comparison of bytes in the file on a hit.

use super::error::{GgufError, Name};
use crate::store::{MIN_TILE, Span, Store, StoreError};

/// FNV-1a. It is easily made to collide, which is why names with one hash are limited in number.
#[derive(Clone, Copy)]
pub(super) struct Hash(u32);

impl Hash {
    pub(super) fn new() -> Self {
        Self(0x811c_9dc5)
    }

    pub(super) fn of(name: &str) -> u32 {
        let mut hash = Self::new();
        hash.push(name.as_bytes());
        hash.get()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }

    pub(super) fn get(self) -> u32 {
        self.0
    }
}

/// Most names with one hash: nine of 65,536 names share one by chance in less than one file out of
/// 10^30, but a hostile file could ask for as many comparisons as the square of its names.
pub(super) const MAX_COLLISIONS: u32 = 8;

/// Names in a file, and their order by hash.
pub(super) struct Index<'o, F> {
    pub(super) order: &'o [u32],
    /// The hash and place of the name with this number, if there is one.
    pub(super) name: F,
}

impl<F: Fn(u32) -> Option<(u32, Span)>> Index<'_, F> {
    fn hash(&self, number: u32) -> Option<u32> {
        (self.name)(number).map(|(hash, _)| hash)
    }

    /// The number of the name that equals `wanted`.
    pub(super) fn find<S: Store>(&self, store: &mut S, wanted: &str) -> Result<Option<u32>, GgufError> {
        let hash = Hash::of(wanted);
        let start = self.order.partition_point(|number| self.hash(*number) < Some(hash));
        for number in self.order.iter().skip(start) {
            let Some((_, span)) = (self.name)(*number).filter(|(other, _)| *other == hash) else { break };
            if span_eq(store, span, wanted.as_bytes())? {
                return Ok(Some(*number));
            }
        }
        Ok(None)
    }

    /// The later of the first two equal names. Compares each name with at most
    /// [`MAX_COLLISIONS`] others.
    pub(super) fn find_duplicate<S: Store>(&self, store: &mut S) -> Result<Option<Span>, GgufError> {
        for (start, number) in self.order.iter().enumerate() {
            let Some((hash, span)) = (self.name)(*number) else { break };
            let mut collisions = 1;
            for other in self.order.iter().skip(start.saturating_add(1)) {
                let Some((_, other)) = (self.name)(*other).filter(|(other, _)| *other == hash) else { break };
                if spans_eq(store, span, other)? {
                    return Ok(Some(other));
                }
                collisions += 1;
                if collisions > MAX_COLLISIONS {
                    let name = load_name(store, span)?;
                    return Err(GgufError::Collisions { name, limit: MAX_COLLISIONS });
                }
            }
        }
        Ok(None)
    }
}

/// The beginning of a name, for an error.
pub(super) fn load_name<S: Store>(store: &mut S, span: Span) -> Result<Name, StoreError> {
    let kept = Span { offset: span.offset, len: span.len.min(MIN_TILE) };
    store.load(kept, None)?;
    Ok(Name::new(store.tile()))
}

/// Whether the bytes in the file equal `bytes`, whatever the size of the store's buffer.
///
/// # Errors
/// The store's.
pub fn span_eq<S: Store>(store: &mut S, span: Span, bytes: &[u8]) -> Result<bool, StoreError> {
    if span.len != bytes.len() {
        return Ok(false);
    }
    let mut at = span.offset;
    for piece in bytes.chunks(store.max_tile().max(1)) {
        store.load(Span { offset: at, len: piece.len() }, None)?;
        if store.tile() != piece {
            return Ok(false);
        }
        at = at.saturating_add(piece.len() as u64);
    }
    Ok(true)
}

/// Whether two places in the file hold the same bytes.
fn spans_eq<S: Store>(store: &mut S, a: Span, b: Span) -> Result<bool, StoreError> {
    if a.len != b.len {
        return Ok(false);
    }
    let mut copy = [0; 64];
    let mut done = 0;
    while let Some(left) = a.len.checked_sub(done).filter(|left| *left > 0) {
        let len = left.min(copy.len());
        store.load(Span { offset: a.offset.saturating_add(done as u64), len }, None)?;
        for (to, from) in copy.iter_mut().zip(store.tile()) {
            *to = *from;
        }
        let piece = copy.get(..len).unwrap_or_default();
        if !span_eq(store, Span { offset: b.offset.saturating_add(done as u64), len }, piece)? {
            return Ok(false);
        }
        done = done.saturating_add(len);
    }
    Ok(true)
}
