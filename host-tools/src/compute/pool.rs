//! Threads of rayon that stay awake between matrices.
//!
//! A token is hundreds of products of a few microseconds each, with less than that between them.
//! A thread that falls asleep in between wakes too late to help, so each goes on looking for work
//! until none has come for [`LINGER`], and only then rests.

use crate::error::Error;
use ouro_runtime::kernels::{Handoff, Workers};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a thread looks for work before it rests: longer than anything that one thread does
/// alone within a token, short beside what a person notices.
const LINGER: Duration = Duration::from_millis(1);
/// Looks between two moments in which others may run on the same core.
const LOOKS: usize = 64;

/// Threads that wait for work, besides the one that hands it out.
#[derive(Debug)]
pub(super) struct Pool {
    others: ThreadPool,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    handoff: Handoff,
    /// How many of the others look for work, or are about to.
    awake: AtomicUsize,
}

impl Pool {
    /// `threads` in all, at least 2.
    pub(super) fn new(threads: usize) -> Result<Self, Error> {
        let builder =
            ThreadPoolBuilder::new().num_threads(threads - 1).thread_name(|n| format!("kernels {n}"));
        let others = builder.build().map_err(|error| Error::Other(error.into()))?;
        let shared = Shared { handoff: Handoff::new(), awake: AtomicUsize::new(0) };
        Ok(Self { others, shared: Arc::new(shared) })
    }

    fn wake(&self) {
        let threads = self.others.current_num_threads();
        let one_more = |awake| (awake < threads).then_some(awake + 1);
        while self.shared.awake.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok() {
            let shared = self.shared.clone();
            self.others.spawn(move || {
                look_for_work(&shared.handoff);
                shared.awake.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }
}

/// Helps until there has been nothing to do for [`LINGER`].
fn look_for_work(handoff: &Handoff) {
    let mut helper = handoff.helper();
    let mut last = Instant::now();
    while last.elapsed() < LINGER {
        for _ in 0..LOOKS {
            if helper.help() {
                last = Instant::now();
            }
            spin_loop();
        }
        thread::yield_now();
    }
}

impl Workers for Pool {
    fn count(&self) -> usize {
        self.others.current_num_threads() + 1
    }

    fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        self.wake();
        let next = AtomicUsize::new(0);
        let share = || {
            let next = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|piece| *piece < pieces);
            while let Some(piece) = next() {
                work(piece);
            }
        };
        let looks = AtomicUsize::new(0);
        self.shared.handoff.offer(&share, || match looks.fetch_add(1, Ordering::Relaxed) % LOOKS {
            0 => thread::yield_now(),
            _ => spin_loop(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_runs_once_awake_or_asleep() {
        for threads in [2, 3, 7] {
            let pool = Pool::new(threads).unwrap();
            for pause in [Duration::ZERO, LINGER * 3] {
                for pieces in 0..3 * threads {
                    thread::sleep(pause);
                    let runs: Vec<_> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
                    pool.run(pieces, &|piece| {
                        runs[piece].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1), "{threads} {pieces}");
                }
            }
        }
    }

    #[test]
    fn threads_rest_when_nothing_comes() {
        let pool = Pool::new(3).unwrap();
        pool.run(3, &|_| {});
        let begun = Instant::now();
        while pool.shared.awake.load(Ordering::Relaxed) > 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "still looking for work");
            thread::sleep(LINGER);
        }
    }
}
