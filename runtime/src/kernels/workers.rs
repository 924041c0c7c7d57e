//! Who does the work: one core, or several.

#![allow(unsafe_code)] // threads write to different parts of one slice

use core::fmt::Debug;

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
}

impl SmallestPiece {
    /// For threads that are awake, on a workstation: `README.md`, "Threads".
    pub const MEASURED: Self = Self { matrix: 1 << 16, attention: 1 << 15 };
}

/// Into how many pieces so many products are divided, each of at least `smallest`.
pub(super) fn pieces(workers: &dyn Workers, products: usize, smallest: usize) -> usize {
    (products / smallest.max(1)).clamp(1, workers.count().max(1))
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

/// Calls `work` with all of `values` in parts, each with the index of its first value: as many parts as
/// there are workers, if none has fewer than `smallest` values.
pub(super) fn share<T: Send>(
    workers: &dyn Workers,
    values: &mut [T],
    smallest: usize,
    work: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    let pieces = pieces(workers, values.len(), smallest);
    let part = values.len().div_ceil(pieces).max(1);
    let parts = Parts(values);
    deal(workers, pieces, &|piece| {
        let start = piece.saturating_mul(part);
        // SAFETY: parts share no values, and `deal` calls this once for each.
        work(start, unsafe { parts.get(start, part) });
    });
}

/// Values that threads share, each a part of them.
struct Parts<T>(*mut [T]);

// SAFETY: no two threads use the same value, as callers of `get` promise, and values may be used by other
// threads than their owner's.
unsafe impl<T: Send> Sync for Parts<T> {}

impl<T> Parts<T> {
    /// `len` values from `start` on, or as many as there are.
    ///
    /// # Safety
    /// Nobody else uses these values.
    #[allow(clippy::mut_from_ref)]
    unsafe fn get(&self, start: usize, len: usize) -> &mut [T] {
        let start = start.min(self.0.len());
        let len = len.min(self.0.len() - start);
        // SAFETY: within the values, which are borrowed as long as this; the rest as the caller says.
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
mod tests {
    use super::*;

    /// Calls in another order, and some of them twice.
    #[derive(Debug)]
    struct Backwards(usize);

    impl Workers for Backwards {
        fn count(&self) -> usize {
            self.0
        }

        fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
            (0..pieces).rev().chain(0..pieces / 2).for_each(work);
        }
    }

    #[test]
    fn each_value_is_in_one_part() {
        for workers in [0, 1, 2, 3, 7] {
            for len in [0, 1, 9, 10, 19, 20, 64, 71] {
                let mut values = std::vec![0; len];
                share(&Backwards(workers), &mut values, 10, &|first, part| {
                    assert!(part.len() >= 10 || part.len() == len || first + part.len() == len);
                    for (i, value) in part.iter_mut().enumerate() {
                        *value += first + i + 1;
                    }
                });
                let expected: std::vec::Vec<_> = (1..=len).collect();
                assert_eq!(values, expected, "{workers} workers, {len} values");
            }
        }
    }
}
