//! Noticing rotten bytes.
//!
//! A file may hold a sum of every [`PIECE`] bytes of its weights ([`Gguf::checksums`]). Pieces
//! are counted from the beginning of the file, whatever tensors lie in them: tiles of any size can
//! then be checked, whatever the block buffer, at the price of reading the rest of the pieces at
//! their ends. A direct read fetches those pages anyway.
//!
//! [`Gguf::checksums`]: crate::gguf::Gguf::checksums

use super::{Span, Store, StoreCounters, StoreError};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes that share a sum: a page of flash or disk.
pub const PIECE: usize = 4096;

/// The sum of a piece: the lower half of its XXH3.
#[must_use]
pub fn checksum(piece: &[u8]) -> u32 {
    xxh3_64(piece) as u32
}

/// Which weights a file has sums for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums<T> {
    /// Where weights begin. The first piece reaches from here to the next multiple of [`PIECE`].
    pub offset: u64,
    /// The sums of all pieces from there on.
    pub sums: T,
}

impl<T> Sums<T> {
    /// How many pieces there are from `offset` to the end of a file of `len` bytes.
    #[must_use]
    pub fn count(offset: u64, len: u64) -> u64 {
        len.div_ceil(PIECE as u64).saturating_sub(offset / PIECE as u64)
    }
}

/// A store around a store that checks what it hands out.
#[derive(Debug)]
pub struct Checked<S, T, V> {
    inner: S,
    sums: Sums<T>,
    /// One bit for each piece that was right.
    verified: V,
    current: Span,
}

impl<S: Store, T: AsRef<[u32]>, V: AsRef<[u8]> + AsMut<[u8]>> Checked<S, T, V> {
    /// Checks each piece when it is first read, as far as `verified` has a bit for it; all of them
    /// each time if `verified` is empty. Without any sums nothing is checked.
    #[must_use]
    pub fn new(inner: S, sums: Sums<T>, mut verified: V) -> Self {
        verified.as_mut().fill(0);
        Self { inner, sums, verified, current: Span::EMPTY }
    }

    /// The store that is checked.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// What it is checked by.
    pub fn sums(&self) -> &Sums<T> {
        &self.sums
    }

    /// The store that is checked.
    pub fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Checks by these sums from now on, as a [`new`](Self::new) store does.
    pub fn check(&mut self, sums: Sums<T>, mut verified: V) {
        verified.as_mut().fill(0);
        (self.sums, self.verified, self.current) = (sums, verified, Span::EMPTY);
    }

    /// The number of the piece that holds the byte at `offset`.
    fn number(&self, offset: u64) -> u64 {
        (offset / PIECE as u64).saturating_sub(self.sums.offset / PIECE as u64)
    }

    /// The numbers of the pieces that `span` touches.
    fn pieces(&self, span: Span) -> core::ops::RangeInclusive<u64> {
        self.number(span.offset)..=self.number(span.end().saturating_sub(1))
    }

    /// Where a piece is.
    fn piece(&self, number: u64) -> Span {
        let first = self.sums.offset / PIECE as u64;
        let start = first.saturating_add(number).saturating_mul(PIECE as u64);
        let end = start.saturating_add(PIECE as u64).min(self.len());
        let offset = start.max(self.sums.offset);
        Span { offset, len: end.saturating_sub(offset) as usize }
    }

    fn has_sum(&self, number: u64) -> bool {
        usize::try_from(number).is_ok_and(|number| number < self.sums.sums.as_ref().len())
    }

    /// The bit of a piece: its place and its value.
    fn bit(&self, number: u64) -> Option<(usize, u8)> {
        Some((usize::try_from(number / 8).ok()?, 1 << (number % 8)))
    }

    fn is_verified(&self, number: u64) -> bool {
        let byte = |(at, bit)| self.verified.as_ref().get(at).is_some_and(|byte: &u8| byte & bit != 0);
        !self.has_sum(number) || self.bit(number).is_some_and(byte)
    }

    /// What has to be read so that `want` can be checked.
    fn needed(&self, want: Span) -> Span {
        if !self.is_weights(want) || self.pieces(want).all(|number| self.is_verified(number)) {
            return want;
        }
        self.whole_pieces(want)
    }

    /// Whether this is a part of the weights.
    fn is_weights(&self, span: Span) -> bool {
        span.offset >= self.sums.offset && span.len > 0
    }

    /// What has to be read so that all of `want`, which is weights, can be checked.
    fn whole_pieces(&self, want: Span) -> Span {
        let pieces = self.pieces(want);
        let offset = self.piece(*pieces.start()).offset.min(want.offset);
        let end = self.piece(*pieces.end()).end().max(want.end());
        Span { offset, len: usize::try_from(end - offset).unwrap_or(usize::MAX) }
    }

    /// Checks the pieces of the inner store's tile that are not verified yet.
    fn verify(&mut self, loaded: Span) -> Result<(), StoreError> {
        for number in self.pieces(loaded) {
            if self.is_verified(number) {
                continue;
            }
            let piece = self.piece(number);
            let start = usize::try_from(piece.offset.saturating_sub(loaded.offset)).unwrap_or(usize::MAX);
            let bytes = self.inner.tile().get(start..).and_then(|bytes| bytes.get(..piece.len));
            let expected = usize::try_from(number).ok().and_then(|at| self.sums.sums.as_ref().get(at));
            if bytes.map(checksum).as_ref() != expected {
                return Err(StoreError::Corrupt { span: piece });
            }
            let bit = self.bit(number).and_then(|(at, bit)| Some((self.verified.as_mut().get_mut(at)?, bit)));
            if let Some((byte, bit)) = bit {
                *byte |= bit;
            }
        }
        Ok(())
    }
}

#[deny(clippy::missing_trait_methods)] // what is not forwarded would be switched off
impl<S: Store, T: AsRef<[u32]>, V: AsRef<[u8]> + AsMut<[u8]>> Store for Checked<S, T, V> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Less than the inner store's where that has an end: pieces at both ends are read whole.
    fn max_tile(&self) -> usize {
        match self.inner.max_tile() {
            usize::MAX => usize::MAX,
            max if self.sums.sums.as_ref().is_empty() => max,
            max => max.saturating_sub(2 * (PIECE - 1)),
        }
    }

    fn load(&mut self, want: Span, next: impl IntoIterator<Item = Span>) -> Result<(), StoreError> {
        self.current = Span::EMPTY;
        let needed = self.needed(want);
        // Not collected: of that, the compiler does not see that it can't panic.
        let mut ahead = heapless::Vec::<Span, 2>::new();
        for span in next {
            if ahead.push(self.needed(span)).is_err() {
                break;
            }
        }
        self.inner.load(needed, ahead)?;
        if self.is_weights(want) {
            self.verify(needed).inspect_err(|_| self.inner.discard())?;
        }
        self.current = want;
        Ok(())
    }

    fn discard(&mut self) {
        self.inner.discard();
    }

    fn current(&self) -> Span {
        self.current
    }

    fn tile(&self) -> &[u8] {
        let loaded = self.inner.current();
        let start = usize::try_from(self.current.offset.saturating_sub(loaded.offset)).unwrap_or(usize::MAX);
        let bytes = self.inner.tile().get(start..).unwrap_or_default();
        bytes.get(..self.current.len).unwrap_or(bytes)
    }

    /// As if nothing were verified yet.
    fn fetched(&self, span: Span) -> u64 {
        let has_sums = self.is_weights(span) && !self.sums.sums.as_ref().is_empty();
        self.inner.fetched(if has_sums { self.whole_pieces(span) } else { span })
    }

    fn fetched_again(&self, span: Span) -> u64 {
        let has_sums = self.is_weights(span) && !self.sums.sums.as_ref().is_empty();
        self.inner.fetched_again(if has_sums { self.whole_pieces(span) } else { span })
    }

    fn reads_ahead(&self) -> usize {
        self.inner.reads_ahead()
    }

    fn counters(&self) -> StoreCounters {
        self.inner.counters()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Fault, Faulty, SliceStore};
    use std::vec;
    use std::vec::Vec;

    fn sums(file: &[u8], offset: usize) -> Sums<Vec<u32>> {
        let mut sums = Vec::new();
        let mut at = offset;
        while at < file.len() {
            let end = ((at / PIECE + 1) * PIECE).min(file.len());
            sums.push(checksum(&file[at..end]));
            at = end;
        }
        assert_eq!(sums.len() as u64, Sums::<()>::count(offset as u64, file.len() as u64));
        Sums { offset: offset as u64, sums }
    }

    fn file() -> Vec<u8> {
        (0..40_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    /// <https://github.com/Cyan4973/xxHash>, XXH3_64bits of nothing: 2d06800538d394c2.
    #[test]
    fn the_sum_is_xxh3() {
        assert_eq!(checksum(b""), 0x38d3_94c2);
    }

    /// Any flipped bit of the weights is noticed by every read that includes it, and by none that
    /// has nothing to do with its piece.
    #[test]
    fn flipped_bits_are_found() {
        let good = file();
        for offset in [0, 32, 4096, 5000] {
            let sums = sums(&good, offset);
            for at in [offset, offset + 1, 8191, 8192, 20_000, 39_999] {
                let mut bad = good.clone();
                bad[at] ^= 16;
                let piece_start = (at / PIECE * PIECE).max(offset) as u64;
                for (start, len) in
                    [(0, 40_000), (offset, 1), (at, 1), (at - at.min(5), 6), (8000, 400), (12_288, 4096)]
                {
                    let want = Span { offset: start as u64, len };
                    let mut store = Checked::new(SliceStore::new(&bad), sums.clone(), vec![0; 4]);
                    let found = store.load(want, None);
                    let touched = start >= offset
                        && start / PIECE <= at / PIECE
                        && at / PIECE <= (start + len - 1) / PIECE;
                    if touched {
                        let Err(StoreError::Corrupt { span }) = found else {
                            panic!("{offset} {at} {want:?}: {found:?}")
                        };
                        assert_eq!(span.offset, piece_start);
                        assert_eq!(store.tile(), b"");
                    } else {
                        assert_eq!(found, Ok(()), "{offset} {at} {want:?}");
                        assert_eq!(store.tile(), &bad[start..start + len]);
                    }
                }
            }
        }
    }

    #[test]
    fn bits_that_flip_later_are_found_by_checking_always() {
        let good = file();
        for always in [false, true] {
            let faults = |load, _| (load == 1).then_some(Fault::Flip { byte: 77, mask: 1 });
            let inner = Faulty::new(SliceStore::new(&good), faults, vec![0; 40_000]);
            let verified = if always { vec![] } else { vec![0; 4] };
            let mut store = Checked::new(inner, sums(&good, 64), verified);
            let want = Span { offset: 5000, len: 9000 };
            assert_eq!(store.load(want, None), Ok(()));
            assert_eq!(store.tile(), &good[5000..14_000]);
            assert_eq!(store.load(want, None).is_err(), always);
            assert_eq!(store.load(want, None), Ok(()));
            assert_eq!(store.current(), want);
        }
    }
}
