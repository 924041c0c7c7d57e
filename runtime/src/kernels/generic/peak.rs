//! Integer products and nothing else: how many of them a CPU can do.

use super::vector::{Dot, Vector};
use core::hint::black_box;

/// Groups of 32 levels that are multiplied in a round.
const GROUPS: usize = 4;

/// Multiplies what stays in registers and in the first-level cache, `rounds` times. Gives back the
/// number of products.
///
/// # Safety
/// The caller's CPU has the instructions of `V` and `D`.
#[inline(always)]
pub(crate) unsafe fn peak<V: Vector, D: Dot<V>>(rounds: usize) -> u64 {
    let levels = [1i8; 32 * GROUPS];
    // SAFETY: the caller vouches for the instructions, and there are as many levels as are read.
    unsafe {
        let weights = [V::splat(0x0102_0304); 8];
        let mut sums = [V::splat(0); GROUPS];
        for _ in 0..rounds {
            // Where the compiler knew the levels, it would multiply once and add that up.
            let x = black_box(levels.as_ptr());
            for group in 0..GROUPS {
                sums[group] = sums[group].add(D::unsigned::<8, 15>(&weights, x.add(32 * group)));
            }
        }
        let mut out = [0.0f32; 16];
        for sum in sums {
            V::store_floats(out.as_mut_ptr(), sum.to_float());
            black_box(&mut out);
        }
    }
    (rounds * GROUPS * 32 * V::LANES) as u64
}
