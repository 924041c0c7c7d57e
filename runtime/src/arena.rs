//! The one memory area that the caller lends, carved into typed slices.
//!
//! The same code that carves also measures: run it on [`Arena::measure`] and read
//! [`Arena::used`], and the size is known to the byte before any memory is set aside.
//! Nothing is ever freed, but what is carved from [`Arena::scratch`] is free again when
//! the scratch ends.

use bytemuck::Pod;
use core::fmt;

/// Every slice starts on a multiple of this many bytes, and takes up a multiple of it.
pub const ALIGN: usize = 16;

/// Memory of `N` bytes with the alignment that [`Arena::new`] wants, for a `static` or a stack.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub struct Aligned<const N: usize>(
    /// The bytes.
    pub [u8; N],
);

/// A bump allocator over borrowed memory. See the [module documentation](self).
#[derive(Debug)]
pub struct Arena<'a> {
    /// `None`: measuring only.
    free: Option<&'a mut [u8]>,
    used: usize,
    peak: usize,
}

impl<'a> Arena<'a> {
    /// An arena over `memory`. Bytes before the first multiple of [`ALIGN`] are not used.
    #[must_use]
    pub fn new(memory: &'a mut [u8]) -> Self {
        let skip = memory.as_ptr().align_offset(ALIGN);
        let free = memory.split_at_mut_checked(skip).map(|(_, rest)| rest);
        Self { free: Some(free.unwrap_or_default()), used: 0, peak: 0 }
    }

    /// An arena without memory that hands out empty slices and counts what was asked for.
    #[must_use]
    pub fn measure() -> Self {
        Self { free: None, used: 0, peak: 0 }
    }

    /// The next `count` values of type `T`, zeroed. In a measuring arena the slice is empty.
    ///
    /// # Errors
    /// [`ArenaFull`] if fewer bytes are left, or if the size overflows a `usize`.
    pub fn take<T: Pod>(&mut self, count: usize) -> Result<&'a mut [T], ArenaFull> {
        let values = self.take_bytes(count, size_of::<T>())?;
        if values.is_empty() {
            return Ok(&mut []);
        }
        // The start is aligned to ALIGN and the length is a multiple of the size; only a type
        // with a larger alignment could fail here.
        let full = ArenaFull { wanted: values.len(), left: self.left() };
        bytemuck::try_cast_slice_mut(values).map_err(|_| full)
    }

    /// Compiled once for all types.
    #[inline(never)]
    fn take_bytes(&mut self, count: usize, size: usize) -> Result<&'a mut [u8], ArenaFull> {
        let full = |wanted: usize, left: usize| ArenaFull { wanted, left };
        let left = self.left();
        let bytes = count.checked_mul(size).ok_or(full(usize::MAX, left))?;
        let padded = bytes.checked_next_multiple_of(ALIGN).ok_or(full(usize::MAX, left))?;
        let used = self.used.checked_add(padded).ok_or(full(usize::MAX, left))?;
        if padded > left {
            return Err(full(padded, left));
        }
        let Some(free) = self.free.take() else {
            self.used = used;
            self.peak = self.peak.max(used);
            return Ok(&mut []);
        };
        let (taken, rest) = free.split_at_mut_checked(padded).unwrap_or_default();
        self.free = Some(rest);
        self.used = used;
        self.peak = self.peak.max(used);
        taken.fill(0);
        let (values, _) = taken.split_at_mut_checked(bytes).ok_or(full(padded, left))?;
        Ok(values)
    }

    /// Lends all that is left until the returned arena is dropped. What it carved is then free
    /// again; [`peak`](Self::peak) remembers it only if [`note_peak`](Self::note_peak) is told.
    #[must_use]
    pub fn scratch(&mut self) -> Arena<'_> {
        Arena { free: self.free.as_deref_mut(), used: self.used, peak: self.peak }
    }

    /// Bytes carved so far, padding included.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    /// The most bytes ever carved at one time, as far as it was told.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.peak
    }

    /// Raises the peak to `used`, the figure of a scratch arena that has ended.
    pub fn note_peak(&mut self, used: usize) {
        self.peak = self.peak.max(used);
    }

    /// Bytes still free; `usize::MAX` when measuring.
    #[must_use]
    pub fn left(&self) -> usize {
        self.free.as_ref().map_or(usize::MAX, |free| free.len())
    }
}

/// The arena is too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ArenaFull {
    /// Bytes that the next slice needs.
    pub wanted: usize,
    /// Bytes that are left.
    pub left: usize,
}

impl fmt::Display for ArenaFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, left } = self;
        write!(
            f,
            "arena too small: {wanted} more bytes wanted, {left} left; lend a larger one or lower context, window or prompt size"
        )
    }
}

impl core::error::Error for ArenaFull {}

#[cfg(test)]
mod tests {
    use super::*;

    fn carve(arena: &mut Arena<'_>) -> Result<(), ArenaFull> {
        arena.take::<f32>(3)?;
        arena.take::<u8>(17)?;
        arena.take::<u64>(0)?;
        arena.take::<u64>(2)?;
        Ok(())
    }

    #[test]
    fn measures_what_it_carves() {
        let mut measure = Arena::measure();
        carve(&mut measure).unwrap();
        assert_eq!(measure.used(), 16 + 32 + 16);

        let mut memory = Aligned([0; 64]);
        let mut arena = Arena::new(&mut memory.0);
        carve(&mut arena).unwrap();
        assert_eq!((arena.used(), arena.left()), (64, 0));

        let mut small = Aligned([0; 63]);
        let error = carve(&mut Arena::new(&mut small.0)).unwrap_err();
        assert_eq!(error, ArenaFull { wanted: 16, left: 15 });
    }

    #[test]
    fn what_does_not_fit_takes_nothing() {
        let mut memory = Aligned([0; 64]);
        let mut arena = Arena::new(&mut memory.0);
        assert_eq!(arena.take::<u8>(65), Err(ArenaFull { wanted: 80, left: 64 }));
        assert_eq!(arena.left(), 64);
        assert_eq!(arena.take::<u32>(16).unwrap().len(), 16);
    }

    #[test]
    fn misaligned_memory_and_overflow() {
        let mut memory = Aligned([0; 65]);
        let mut arena = Arena::new(&mut memory.0[1..]);
        assert_eq!(arena.left(), 49);
        assert!(arena.take::<u64>(6).is_ok());
        assert!(arena.take::<u64>(usize::MAX / 4).is_err());
        assert!(Arena::measure().take::<u64>(usize::MAX / 8).is_err());
    }

    #[test]
    fn scratch_is_given_back() {
        let mut memory = Aligned([0; 64]);
        let mut arena = Arena::new(&mut memory.0);
        arena.take::<u8>(16).unwrap();
        let mut scratch = arena.scratch();
        scratch.take::<u8>(48).unwrap();
        let peak = scratch.used();
        arena.note_peak(peak);
        assert_eq!((arena.used(), arena.peak(), arena.left()), (16, 64, 48));
    }
}
