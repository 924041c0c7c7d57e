//! Sums and largest values of a register's lanes, in the one order that all back ends keep.

// Indexed by counters up to constants, or modulo the length: no index reaches the end.
#![allow(clippy::indexing_slicing, clippy::needless_range_loop)]

use super::halves::LANES;

/// The sum of all lanes, halving their number each time.
#[cfg_attr(not(ouro_size), inline(always))]
#[cfg_attr(ouro_size, inline(never))]
pub(super) fn pairwise(lanes: [f32; LANES]) -> f32 {
    let mut eight = [0.0; 8];
    for i in 0..8 {
        eight[i] = lanes[i] + lanes[i + 8];
    }
    let mut four = [0.0; 4];
    for i in 0..4 {
        four[i] = eight[i] + eight[i + 4];
    }
    (four[0] + four[2]) + (four[1] + four[3])
}

/// The largest, halving the number of candidates each time.
#[inline(always)]
pub(super) fn largest(scores: &[f32; 2 * LANES]) -> f32 {
    let mut lanes = [0.0; LANES];
    for i in 0..LANES {
        lanes[i] = larger(scores[i], scores[i + LANES]);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = larger(lanes[i], lanes[(i + width) % LANES]);
        }
        width /= 2;
    }
    lanes[0]
}

/// The second if they are equal or not ordered.
#[inline(always)]
pub(super) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}
