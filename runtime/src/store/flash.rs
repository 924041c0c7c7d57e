//! A model in a flash chip that is not mapped into memory, through the chip's driver.

use super::{MIN_TILE, Span, Store, StoreCounters, StoreError};
use embedded_storage::nor_flash::{NorFlashError, NorFlashErrorKind, ReadNorFlash};

/// A file in NOR flash, read tile by tile into a block buffer. Reads begin and end where the chip
/// wants them to ([`ReadNorFlash::READ_SIZE`]), whatever span is asked for.
///
/// A driver's error becomes [`StoreError::Io`] with code 1 for a read that is not aligned, 2 for
/// one out of bounds, and 3 for anything else.
#[derive(Debug)]
pub struct FlashStore<'b, F> {
    flash: F,
    /// Where the file begins in the chip.
    start: u32,
    len: u64,
    block_buffer: &'b mut [u8],
    current: Span,
    /// Where the current tile begins in the block buffer.
    skipped: usize,
    counters: StoreCounters,
}

impl<'b, F: ReadNorFlash> FlashStore<'b, F> {
    /// A store over the `len` bytes from `start` on, which is a multiple of `READ_SIZE`. Kernels of small
    /// cores are two to three times as fast where the block buffer begins at an even address, as
    /// [`Aligned`](crate::arena::Aligned) does.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`] if they are not in the chip; [`StoreError::TooLarge`] if the
    /// block buffer holds less than [`MIN_TILE`] and twice what alignment may cost;
    /// [`StoreError::Io`] with code 1 if `start` is not aligned.
    pub fn new(flash: F, start: u32, len: u64, block_buffer: &'b mut [u8]) -> Result<Self, StoreError> {
        let file = Span { offset: u64::from(start), len: usize::try_from(len).unwrap_or(usize::MAX) };
        let capacity = flash.capacity() as u64;
        if u64::from(start).saturating_add(len) > capacity.min(1 << 32) {
            return Err(StoreError::OutOfRange { span: file, len: capacity });
        }
        if !start.is_multiple_of(read_size::<F>()) {
            return Err(StoreError::Io { span: file, code: code(NorFlashErrorKind::NotAligned) });
        }
        let (current, counters) = (Span::EMPTY, StoreCounters::default());
        let store = Self { flash, start, len, block_buffer, current, skipped: 0, counters };
        let max = store.max_tile();
        if max < MIN_TILE {
            return Err(StoreError::TooLarge { span: Span { offset: 0, len: MIN_TILE }, max });
        }
        Ok(store)
    }

    /// The smallest run of whole reads around `want`: where it begins in the chip, its length, and how
    /// many of its bytes come before `want`.
    fn reads(&self, want: Span) -> Option<(u32, u32, u32)> {
        let read_size = read_size::<F>();
        let offset = self.start.checked_add(u32::try_from(want.offset).ok()?)?;
        let before = offset.checked_rem(read_size).unwrap_or_default();
        let len = u32::try_from(want.len).ok()?.checked_add(before)?.checked_next_multiple_of(read_size)?;
        Some((offset.saturating_sub(before), len, before))
    }

    /// Reads what is needed for `want` to the front of the block buffer, and gives how many of its bytes
    /// come before `want`.
    fn read(&mut self, want: Span) -> Result<usize, StoreError> {
        let io = |kind| StoreError::Io { span: want, code: code(kind) };
        let bounds = || io(NorFlashErrorKind::OutOfBounds);
        let (begin, len, before) = self.reads(want).ok_or_else(bounds)?;
        let max = self.max_tile();
        let buffer = usize::try_from(len).ok().and_then(|len| self.block_buffer.get_mut(..len));
        let buffer = buffer.ok_or(StoreError::TooLarge { span: want, max })?;
        self.flash.read(begin, buffer).map_err(|error| io(error.kind()))?;
        self.counters.tiles += 1;
        self.counters.bytes += u64::from(len);
        self.counters.requests += 1;
        usize::try_from(before).map_err(|_| bounds())
    }
}

impl<F: ReadNorFlash> Store for FlashStore<'_, F> {
    fn len(&self) -> u64 {
        self.len
    }

    fn max_tile(&self) -> usize {
        let lost = 2 * F::READ_SIZE.saturating_sub(1);
        self.block_buffer.len().saturating_sub(lost)
    }

    fn load(&mut self, want: Span, _next: impl IntoIterator<Item = Span>) -> Result<(), StoreError> {
        self.current = Span::EMPTY;
        if want.end() > self.len {
            return Err(StoreError::OutOfRange { span: want, len: self.len });
        }
        self.skipped = self.read(want)?;
        self.current = want;
        Ok(())
    }

    fn current(&self) -> Span {
        self.current
    }

    fn tile(&self) -> &[u8] {
        let end = self.skipped.saturating_add(self.current.len);
        self.block_buffer.get(self.skipped..end).unwrap_or_default()
    }

    fn fetched(&self, span: Span) -> u64 {
        self.reads(span).map_or(span.len as u64, |(_, len, _)| len.into())
    }

    fn counters(&self) -> StoreCounters {
        self.counters
    }
}

/// At least 1, whatever the driver says.
fn read_size<F: ReadNorFlash>() -> u32 {
    u32::try_from(F::READ_SIZE).unwrap_or(u32::MAX).max(1)
}

fn code(kind: NorFlashErrorKind) -> i32 {
    match kind {
        NorFlashErrorKind::NotAligned => 1,
        NorFlashErrorKind::OutOfBounds => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_storage::nor_flash::{ErrorType, check_read};
    use std::vec::Vec;

    /// A chip that refuses what is not aligned, and breaks after some reads.
    struct Chip<const READ: usize> {
        bytes: Vec<u8>,
        reads: usize,
    }

    impl<const READ: usize> ErrorType for Chip<READ> {
        type Error = NorFlashErrorKind;
    }

    impl<const READ: usize> ReadNorFlash for Chip<READ> {
        const READ_SIZE: usize = READ;

        fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
            check_read(self, offset, bytes.len())?;
            self.reads = self.reads.checked_sub(1).ok_or(NorFlashErrorKind::Other)?;
            bytes.copy_from_slice(&self.bytes[offset as usize..][..bytes.len()]);
            Ok(())
        }

        fn capacity(&self) -> usize {
            self.bytes.len()
        }
    }

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|n| (n * 7 + n / 256) as u8).collect()
    }

    /// Every span in reach of every edge.
    fn every_span<const READ: usize>() {
        let (start, len) = (2 * READ as u32, 700 - READ as u64);
        let chip = Chip::<READ> { bytes: bytes(1024), reads: usize::MAX };
        let expected = bytes(1024);
        let mut buffer = [0; 300];
        let mut store = FlashStore::new(chip, start, len, &mut buffer).unwrap();
        for offset in (0..40).chain(len - 300..len) {
            for want in (0..40).chain(250..=store.max_tile()) {
                let span = Span { offset, len: want };
                let loaded = store.load(span, None);
                if span.end() > len {
                    assert_eq!(loaded, Err(StoreError::OutOfRange { span, len }));
                    assert!(store.tile().is_empty());
                } else {
                    assert_eq!(loaded, Ok(()));
                    let at = start as usize + offset as usize;
                    assert_eq!(store.tile(), &expected[at..at + want], "read size {READ}, {span:?}");
                }
            }
        }
        let span = Span { offset: 0, len: store.max_tile() + 2 * READ };
        assert_eq!(store.load(span, None), Err(StoreError::TooLarge { span, max: store.max_tile() }));
    }

    #[test]
    fn any_span_whatever_the_chip_wants() {
        every_span::<1>();
        every_span::<2>();
        every_span::<4>();
        every_span::<16>();
    }

    #[test]
    fn counts_what_the_chip_delivers_and_names_what_it_does_not() {
        let chip = Chip::<8> { bytes: bytes(1024), reads: 2 };
        let mut buffer = [0; 512];
        let mut store = FlashStore::new(chip, 0, 1000, &mut buffer).unwrap();
        let spans = [Span { offset: 7, len: 2 }, Span { offset: 8, len: 8 }];
        assert_eq!(spans.map(|span| store.fetched(span)), [16, 8]);
        for span in spans {
            store.load(span, None).unwrap();
        }
        assert_eq!((store.counters().tiles, store.counters().bytes), (2, 16 + 8));
        let span = Span { offset: 16, len: 8 };
        assert_eq!(store.load(span, None), Err(StoreError::Io { span, code: 3 }));
        assert_eq!((store.current(), store.tile().len()), (Span::EMPTY, 0));
    }

    #[test]
    fn what_cannot_be_read_is_refused_at_once() {
        let store = |start, len, buffer| {
            let chip = Chip::<4> { bytes: bytes(1024), reads: 0 };
            FlashStore::new(chip, start, len, &mut [0; 512][..buffer]).map(|_| ()).unwrap_err()
        };
        assert!(matches!(store(0, 1025, 512), StoreError::OutOfRange { len: 1024, .. }));
        assert!(matches!(store(u32::MAX, u64::MAX, 512), StoreError::OutOfRange { .. }));
        assert!(matches!(store(2, 100, 512), StoreError::Io { code: 1, .. }));
        assert!(matches!(store(0, 1024, MIN_TILE + 5), StoreError::TooLarge { max: 255, .. }));
    }
}
