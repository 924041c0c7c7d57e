//! NEON with matrix products: eight products of two rows with two positions, and their sums, in
//! one instruction. A single position has nothing to gain from it.

use super::dotprod::Quads;
use super::neon::Quad;
use crate::kernels::generic::{Dot, Vector, unit};
use core::arch::aarch64::*;
use core::arch::asm;

unit!(I8mm: "neon,dotprod,i8mm", Quad, Tiles);

/// Sums of eight products, exact, for two rows and two positions (`smmla`).
struct Tiles;

impl Dot<Quad> for Tiles {
    const PAIRS: bool = true;

    #[inline(always)]
    unsafe fn unsigned<const N: usize, const MAX: i32>(weights: &[Quad; N], x: *const i8) -> Quad {
        // SAFETY: as the caller says.
        unsafe { Quads::unsigned::<N, MAX>(weights, x) }
    }

    #[inline(always)]
    unsafe fn signed<const N: usize>(weights: &[Quad; N], x: *const i8, sums: &[i16; 2]) -> Quad {
        // SAFETY: as the caller says.
        unsafe { Quads::signed(weights, x, sums) }
    }

    #[inline(always)]
    unsafe fn unsigned_pair<const N: usize, const MAX: i32>(
        weights: &[Quad; N],
        x: [*const i8; 2],
    ) -> [Quad; 2] {
        // SAFETY: as the caller says; no weight is above 127, so they may be signed.
        unsafe { products(weights, x) }
    }

    #[inline(always)]
    unsafe fn signed_pair<const N: usize>(
        weights: &[Quad; N],
        x: [*const i8; 2],
        _sums: [&[i16; 2]; 2],
    ) -> [Quad; 2] {
        // SAFETY: as the caller says.
        unsafe { products(weights, x) }
    }
}

#[inline(always)]
unsafe fn products<const N: usize>(weights: &[Quad; N], x: [*const i8; 2]) -> [Quad; 2] {
    // SAFETY: the caller vouches for 4 * N levels of each position, N a multiple of 4, and for the
    // instructions.
    unsafe {
        // Of rows 0 and 1, and of rows 2 and 3: the first row with both positions, then the second.
        let mut sums = [Quad::splat(0).0; 2];
        for i in 0..N / 4 {
            let first = vreinterpretq_s64_s8(vld1q_s8(x[0].add(16 * i)));
            let second = vreinterpretq_s64_s8(vld1q_s8(x[1].add(16 * i)));
            // Eight levels of one position, then of the other.
            let levels = [vzip1q_s64(first, second), vzip2q_s64(first, second)];
            for half in 0..2 {
                let [a, b] = [weights[4 * i + 2 * half].0, weights[4 * i + 2 * half + 1].0];
                // Eight weights of one row, then of the next.
                sums[0] = add(sums[0], vzip1q_s32(a, b), levels[half]);
                sums[1] = add(sums[1], vzip2q_s32(a, b), levels[half]);
            }
        }
        [Quad(vuzp1q_s32(sums[0], sums[1])), Quad(vuzp2q_s32(sums[0], sums[1]))]
    }
}

/// Adds a tile's products. The intrinsic is not stable yet.
#[inline(always)]
unsafe fn add(mut sums: int32x4_t, weights: int32x4_t, levels: int64x2_t) -> int32x4_t {
    // SAFETY: the caller vouches for the instruction, which touches registers only.
    unsafe {
        asm!(
            "smmla {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inlateout(vreg) sums,
            in(vreg) weights,
            in(vreg) levels,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}
