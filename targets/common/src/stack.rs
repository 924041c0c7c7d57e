//! How deep the stack went: its memory is painted at start, and what is no longer paint was used.

use crate::failure::Failure;
use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};

/// RAM for the stack. NEON's kernels keep more on it than those of small cores.
pub const STACK_BYTES: usize = if usize::BITS == 64 { 64 << 10 } else { 32 << 10 };

/// Memory below the stack in which a write is a fault, where the board can see to it: a page, as much as an
/// MPU can protect, more than most frames have, and little beside the heap.
pub const GUARD_BYTES: usize = 4 << 10;

const PAINT: u32 = 0xC0DE_D00D;
/// The stack of [`paint`] itself, and of what an interrupt may put there meanwhile.
const MARGIN: usize = 512;

static BOTTOM: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(STACK_BYTES);
/// Where the guard begins; 0 if there is none.
static GUARD: AtomicUsize = AtomicUsize::new(0);

/// Paints what is free below the caller's frame down to `bottom`.
#[inline(never)]
pub(crate) fn paint(bottom: usize) {
    let here = 0u32;
    let top = (&raw const *black_box(&here)).addr().saturating_sub(MARGIN);
    for word in (bottom..top & !3).step_by(4) {
        // SAFETY: between the bottom of the stack and this frame nothing is in use.
        unsafe { (word as *mut u32).write_volatile(PAINT) }
    }
    BOTTOM.store(bottom, Ordering::Relaxed);
}

/// There is a guard from this address on.
pub(crate) fn guarded(begin: usize) {
    GUARD.store(begin, Ordering::Relaxed);
}

/// Whether an access to this address is one to the guard below the stack.
pub fn in_guard(address: usize) -> bool {
    let begin = GUARD.load(Ordering::Relaxed);
    begin != 0 && (begin..begin + GUARD_BYTES).contains(&address)
}

/// Lets the stack be no deeper than this; at most [`STACK_BYTES`].
pub(crate) fn limit(bytes: usize) {
    LIMIT.store(bytes.min(STACK_BYTES), Ordering::Relaxed);
}

/// The most bytes of stack that were ever in use.
///
/// # Errors
/// [`Failure::Stack`] if they are not less than the limit.
pub(crate) fn check() -> Result<usize, Failure> {
    let (used, limit) = (high_water(), LIMIT.load(Ordering::Relaxed));
    if used < limit { Ok(used) } else { Err(Failure::Stack { used, limit }) }
}

fn high_water() -> usize {
    let bottom = BOTTOM.load(Ordering::Relaxed);
    let words = STACK_BYTES / 4;
    let painted = (0..words).take_while(|word| {
        // SAFETY: inside the stack's memory; frames above the paint may be read as well.
        unsafe { ((bottom + 4 * word) as *const u32).read_volatile() == PAINT }
    });
    STACK_BYTES - 4 * painted.count()
}

/// Needs more stack than there is: argument `overflow`.
#[inline(never)]
#[allow(unconditional_recursion)]
pub(crate) fn overflow(depth: u32) -> u32 {
    let frame = black_box([depth; 32]);
    overflow(depth.wrapping_add(1)).wrapping_add(black_box(frame)[0])
}
