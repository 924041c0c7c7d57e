//! Who does the work: one core, or several.

use core::fmt::Debug;
use core::marker::PhantomData;

/// Runs pieces of work that do not depend on each other. On the host this is a pool of threads;
/// no result depends on which piece runs where or when.
pub trait Workers: Debug + Sync {
    /// How many pieces can run at the same time.
    fn count(&self) -> usize;

    /// Calls `work` once with each of `0..pieces`, and returns when all calls have.
    fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync));

    /// What is worth a worker of its own here.
    fn smallest_piece(&self) -> SmallestPiece {
        SmallestPiece::MEASURED
    }
}

/// How large a piece of work is at least, unless it is all there is. Handing over a smaller one costs about
/// what it saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmallestPiece {
    /// Integer products of a matrix.
    pub matrix: usize,
    /// f32 products of attention.
    pub attention: usize,
    /// Groups of activations that are quantized.
    pub groups: usize,
    /// Values of SiLU.
    pub silu: usize,
}

impl SmallestPiece {
    /// For threads that are awake, on a workstation: `README.md`, "Threads".
    pub const MEASURED: Self = Self { matrix: 1 << 16, attention: 1 << 15, groups: 1 << 7, silu: 1 << 16 };
}

/// Into how many pieces so much is divided, each of at least `smallest`.
pub(super) fn pieces(workers: &dyn Workers, all: usize, smallest: usize) -> usize {
    (all / smallest.max(1)).clamp(1, workers.count().max(1))
}

/// Calls `work` exactly once with each of `0..pieces`, whatever `workers` does: what writes to
/// places that only one piece may touch can rely on it. Whoever is free takes the next piece: nobody
/// waits for a worker that is late.
pub(super) fn deal(workers: &dyn Workers, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
    #[cfg(target_has_atomic = "ptr")]
    if pieces > 1 {
        use core::sync::atomic::{AtomicUsize, Ordering};
        let dealt = AtomicUsize::new(0);
        let rest = |_| {
            let next = || Some(dealt.fetch_add(1, Ordering::Relaxed)).filter(|piece| *piece < pieces);
            while let Some(piece) = next() {
                work(piece);
            }
        };
        workers.run(pieces.min(workers.count()), &rest);
        // What was not asked for.
        rest(0);
        return;
    }
    // Cores without atomic instructions are alone.
    let _ = workers;
    (0..pieces).for_each(work);
}

/// Calls `work` with all of `places` in parts, each with the index of its first place: at most as many as there
/// are workers, and none but the last has fewer places than `smallest` says.
#[allow(unsafe_code)] // threads write to different parts of one slice
pub(super) fn share<T: Send>(
    workers: &dyn Workers,
    places: &mut [T],
    smallest: impl Fn(SmallestPiece) -> usize,
    work: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    if cfg!(ouro_size) {
        return work(0, places);
    }
    let pieces = pieces(workers, places.len(), smallest(workers.smallest_piece()));
    let part = places.len().div_ceil(pieces.max(1)).max(1);
    let parts = Parts(places, PhantomData);
    deal(workers, pieces, &|piece| {
        let start = piece.saturating_mul(part);
        // SAFETY: parts share no places, and `deal` calls this once for each.
        work(start, unsafe { parts.get(start, part) });
    });
}

/// Places that threads share, each a part of them.
struct Parts<'a, T>(*mut [T], PhantomData<&'a mut [T]>);

// SAFETY: no two threads use the same place, as callers of `get` promise, and what is there may be used by other
// threads than its owner's.
#[allow(unsafe_code)]
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    /// `len` places from `start` on, or as many as there are.
    ///
    /// # Safety
    /// Nobody else uses these places as long as they are borrowed.
    #[allow(unsafe_code)]
    unsafe fn get(&self, start: usize, len: usize) -> &'a mut [T] {
        let start = start.min(self.0.len());
        let len = len.min(self.0.len() - start);
        // SAFETY: within the slice; the rest as the caller says.
        unsafe { core::slice::from_raw_parts_mut(self.0.cast::<T>().add(start), len) }
    }
}

/// The calling thread alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Workers for Alone {
    fn count(&self) -> usize {
        1
    }

    fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..pieces).for_each(work);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use core::sync::atomic::{AtomicUsize, Ordering};

    /// So many that call in another order, and some of them twice, and share what has ten places.
    #[derive(Debug)]
    pub(in super::super) struct Backwards(pub(in super::super) usize);

    impl Workers for Backwards {
        fn count(&self) -> usize {
            self.0
        }

        fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
            (0..pieces).rev().chain(0..pieces / 2).for_each(work);
        }

        fn smallest_piece(&self) -> SmallestPiece {
            SmallestPiece { matrix: 1, attention: 1, groups: 1, silu: 10 }
        }
    }

    #[test]
    fn each_place_is_in_one_part() {
        for workers in [0, 1, 2, 3, 7] {
            for len in [0, 1, 9, 10, 19, 20, 64, 71] {
                let mut places = std::vec![0; len];
                let parts = AtomicUsize::new(0);
                share(&Backwards(workers), &mut places, |smallest| smallest.silu, &|first, part| {
                    parts.fetch_add(1, Ordering::Relaxed);
                    assert!(part.len() >= 10 || first + part.len() == len);
                    for (i, place) in part.iter_mut().enumerate() {
                        *place += first + i + 1;
                    }
                });
                let expected: std::vec::Vec<_> = (1..=len).collect();
                assert_eq!(places, expected, "{workers} workers, {len} places");
                assert_eq!(parts.into_inner(), (len / 10).clamp(1, workers.max(1)));
            }
        }
    }
}
