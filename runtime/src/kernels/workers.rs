//! Who does the work: one core, or several.

use core::fmt::Debug;

/// Runs pieces of work that do not depend on each other. On the host this is a pool of threads;
/// no result depends on which piece runs where or when.
pub trait Workers: Debug + Sync {
    /// How many pieces can run at the same time.
    fn count(&self) -> usize;

    /// Calls `work` once with each of `0..pieces`, and returns when all calls have.
    fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync));
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
