//! How deep the stack went: its memory is painted at start, and what is no longer paint was used.

use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};

/// RAM for the stack. NEON's kernels keep more on it than those of small cores.
pub const STACK_BYTES: usize = if usize::BITS == 64 { 64 << 10 } else { 32 << 10 };

const PAINT: u32 = 0xC0DE_D00D;
/// The stack of [`paint`] itself, and of what an interrupt may put there meanwhile.
const MARGIN: usize = 512;

static BOTTOM: AtomicUsize = AtomicUsize::new(0);

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

/// The most bytes of stack that were ever in use.
pub(crate) fn high_water() -> usize {
    let bottom = BOTTOM.load(Ordering::Relaxed);
    let words = STACK_BYTES / 4;
    let painted = (0..words).take_while(|word| {
        // SAFETY: inside the stack's memory; frames above the paint may be read as well.
        unsafe { ((bottom + 4 * word) as *const u32).read_volatile() == PAINT }
    });
    STACK_BYTES - 4 * painted.count()
}
