//! Work that other threads, or other cores, may join while it lasts.

#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What is done together: called by all who take part, each until nothing is left to do.
type Work<'w> = dyn Fn() + Sync + 'w;

/// Set while work can be joined; the bits above, up to [`ROUND`], count who has joined.
const OPEN: usize = 1;
const JOINED: usize = 2;
/// The bits from here on count what has been offered.
const ROUND: usize = 1 << 16;

/// A place where one thread offers work and others look for some. Whoever offers works too and
/// waits for those alone who have joined: one who is late is not waited for, so a hand-off never
/// costs more than it is worth. It makes a pool of threads that stay awake, or of the second core of
/// a microcontroller, where each has a [`Helper`] look for work over and over. Nothing here sleeps or
/// allocates. It needs atomic instructions, which Cortex-M0+ lacks, and a core for each: who offers
/// from an interrupt waits for ever for a helper that it has interrupted.
pub struct Handoff {
    state: AtomicUsize,
    /// Whether somebody offers.
    taken: AtomicBool,
    /// Of a caller of `offer`, as long as somebody can join or has joined.
    work: UnsafeCell<Option<*const Work<'static>>>,
}

// SAFETY: `work` is written by whoever has `taken` while nobody can join, and read by those who
// have joined; the work itself can be shared between threads.
unsafe impl Sync for Handoff {}
// SAFETY: nothing in it belongs to a thread.
unsafe impl Send for Handoff {}

impl Handoff {
    /// With nothing to do.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: AtomicUsize::new(0), taken: AtomicBool::new(false), work: UnsafeCell::new(None) }
    }

    /// Calls `work`, which others can join meanwhile, and returns when all who have joined are done;
    /// as long as that takes it calls `relax`. If somebody else offers work here, this is done alone.
    pub fn offer(&self, work: &Work<'_>, relax: impl Fn()) {
        if self.taken.swap(true, Ordering::Acquire) {
            return work();
        }
        // SAFETY: only the lifetime changes. `Offered` lets nobody join and waits for those who have
        // before `work` ends, even if it panics.
        let forever = unsafe { core::mem::transmute::<&Work<'_>, &Work<'static>>(work) };
        // SAFETY: whoever reads it has joined, and nobody can before the state says so.
        unsafe { *self.work.get() = Some(forever) };
        let round = self.state.load(Ordering::Relaxed).wrapping_add(ROUND) & !(ROUND - 1);
        self.state.store(round | OPEN, Ordering::Release);
        let offered = Offered { handoff: self, relax };
        work();
        drop(offered);
    }

    /// One who looks for work.
    pub const fn helper(&self) -> Helper<'_> {
        Helper { handoff: self, round: 0 }
    }
}

/// One who looks for work that is offered.
#[derive(Debug)]
pub struct Helper<'h> {
    handoff: &'h Handoff,
    /// What was joined last: there is nothing left of it, and looking again would disturb others.
    round: usize,
}

impl Helper<'_> {
    /// Joins work that is offered, if it is not what was joined last, and does a share of it; whether
    /// there was any. A panic in that share is its own thread's: who offered the work does not hear of it.
    pub fn help(&mut self) -> bool {
        let Handoff { state, work, .. } = self.handoff;
        let seen = state.load(Ordering::Relaxed);
        let round = seen & !(ROUND - 1);
        let full = seen.wrapping_add(JOINED) & (ROUND - 1) < JOINED;
        if seen & OPEN == 0 || round == self.round || full {
            return false;
        }
        let joined = seen.wrapping_add(JOINED);
        if state.compare_exchange(seen, joined, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return false;
        }
        self.round = round;
        let _joined = Joined(state);
        // SAFETY: joined, so it was written before the state said `OPEN` and stays until this leaves.
        match unsafe { *work.get() } {
            // SAFETY: the same: whoever offers it waits.
            Some(work) => unsafe { (*work)() },
            None => return false,
        }
        true
    }
}

impl Default for Handoff {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Handoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handoff").field("state", &self.state).finish_non_exhaustive()
    }
}

/// Work that others can join until this is dropped.
struct Offered<'h, R: Fn()> {
    handoff: &'h Handoff,
    relax: R,
}

impl<R: Fn()> Drop for Offered<'_, R> {
    fn drop(&mut self) {
        self.handoff.state.fetch_and(!OPEN, Ordering::Relaxed);
        let all_left = AllLeft(self.handoff);
        while all_left.is_someone_there() {
            (self.relax)();
        }
    }
}

/// Ends when all who have joined are done, even if whoever waits for them panics.
struct AllLeft<'h>(&'h Handoff);

impl AllLeft<'_> {
    fn is_someone_there(&self) -> bool {
        self.0.state.load(Ordering::Acquire) & (ROUND - 1) != 0
    }
}

impl Drop for AllLeft<'_> {
    fn drop(&mut self) {
        while self.is_someone_there() {
            core::hint::spin_loop();
        }
        self.0.taken.store(false, Ordering::Release);
    }
}

/// One who has joined, until this is dropped.
struct Joined<'h>(&'h AtomicUsize);

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(JOINED, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;
    use std::thread;
    use std::vec::Vec;

    /// Offers `rounds` of `pieces` while others help; how often each piece was done, in all.
    fn rounds(helpers: usize, rounds: usize, pieces: usize) -> Vec<usize> {
        let handoff = Handoff::new();
        let over = AtomicBool::new(false);
        let done: Vec<_> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
        thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|| {
                    let mut helper = handoff.helper();
                    while !over.load(Ordering::Relaxed) {
                        if !helper.help() {
                            thread::yield_now();
                        }
                    }
                });
            }
            for _ in 0..rounds {
                // On the stack, and gone after each round: what a helper must not outlive.
                let next = AtomicUsize::new(0);
                handoff.offer(
                    &|| {
                        while let Some(piece) = done.get(next.fetch_add(1, Ordering::Relaxed)) {
                            piece.fetch_add(1, Ordering::Relaxed);
                        }
                    },
                    thread::yield_now,
                );
                assert!(next.load(Ordering::Relaxed) >= pieces);
            }
            over.store(true, Ordering::Relaxed);
        });
        done.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn each_piece_is_done_once_a_round() {
        for helpers in [0, 1, 2, 5] {
            assert_eq!(rounds(helpers, 2000, 7), [2000; 7], "{helpers} helpers");
        }
    }

    #[test]
    fn one_helps_once_with_what_is_offered_and_not_before_or_after() {
        let handoff = Handoff::new();
        let helper = Mutex::new(handoff.helper());
        let help = || helper.try_lock().is_ok_and(|mut helper| helper.help());
        assert!(!help());
        for _ in 0..3 {
            let helped = AtomicUsize::new(0);
            // Called once more by the helper, which is then busy.
            let work = || _ = helped.fetch_add(usize::from(help()) + usize::from(help()), Ordering::Relaxed);
            handoff.offer(&work, || ());
            assert_eq!(helped.into_inner(), 1);
            assert!(!help());
        }
    }

    #[test]
    fn work_offered_within_work_is_done_alone() {
        let handoff = Handoff::new();
        let done = AtomicUsize::new(0);
        let inner = || _ = done.fetch_add(1, Ordering::Relaxed);
        handoff.offer(&|| handoff.offer(&inner, || ()), || ());
        assert_eq!(done.into_inner(), 1);
    }

    #[test]
    fn who_has_joined_is_waited_for_even_if_waiting_panics() {
        let handoff = Handoff::new();
        let [joined, waited_for, left] = [false; 3].map(AtomicBool::new);
        let until = |flag: &AtomicBool| {
            while !flag.load(Ordering::Relaxed) {
                thread::yield_now();
            }
        };
        thread::scope(|scope| {
            let this = thread::current().id();
            scope.spawn(|| {
                let mut helper = handoff.helper();
                while !helper.help() {
                    core::hint::spin_loop();
                }
            });
            let work = || {
                if thread::current().id() == this {
                    until(&joined);
                } else {
                    joined.store(true, Ordering::Relaxed);
                    until(&waited_for);
                    thread::sleep(core::time::Duration::from_millis(50));
                    left.store(true, Ordering::Relaxed);
                }
            };
            let relax = || {
                waited_for.store(true, Ordering::Relaxed);
                panic!("as the test wants");
            };
            let offer = || handoff.offer(&work, relax);
            assert!(catch_unwind(AssertUnwindSafe(offer)).is_err());
            assert!(left.load(Ordering::Relaxed));
        });
    }

    #[test]
    fn a_panic_leaves_it_usable() {
        let handoff = Handoff::new();
        let panics = || handoff.offer(&|| panic!("as the test wants"), || ());
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert!(!handoff.helper().help());
        let done = AtomicBool::new(false);
        handoff.offer(&|| done.store(true, Ordering::Relaxed), || ());
        assert!(done.into_inner());
    }
}
