//! NEON with dot products: four products and their sum in one instruction.

use super::neon::Quad;
use crate::kernels::generic::{Dot, Vector, unit};
use core::arch::aarch64::*;
use core::arch::asm;

unit!(Dotprod: "neon,dotprod", Quad, Quads);

/// Sums of four products, exact (`sdot`).
pub(super) struct Quads;

impl Dot<Quad> for Quads {
    #[inline(always)]
    unsafe fn unsigned<const N: usize, const MAX: i32>(weights: &[Quad; N], x: *const i8) -> Quad {
        // SAFETY: as the caller says; no weight is above 127, so they may be signed.
        unsafe { products(weights, x) }
    }

    #[inline(always)]
    unsafe fn signed<const N: usize>(weights: &[Quad; N], x: *const i8, _sums: &[i16; 2]) -> Quad {
        // SAFETY: as the caller says.
        unsafe { products(weights, x) }
    }
}

#[inline(always)]
unsafe fn products<const N: usize>(weights: &[Quad; N], x: *const i8) -> Quad {
    // SAFETY: the caller vouches for 4 * N levels, N a multiple of 4, and for the instructions.
    unsafe {
        let mut sums = Quad::splat(0).0;
        for i in 0..N / 4 {
            let levels = vld1q_s8(x.add(16 * i));
            sums = add::<0>(sums, weights[4 * i], levels);
            sums = add::<1>(sums, weights[4 * i + 1], levels);
            sums = add::<2>(sums, weights[4 * i + 2], levels);
            sums = add::<3>(sums, weights[4 * i + 3], levels);
        }
        Quad(sums)
    }
}

/// Adds products with the four levels of one lane. The intrinsic is not stable yet.
#[inline(always)]
unsafe fn add<const LANE: usize>(mut sums: int32x4_t, weights: Quad, levels: int8x16_t) -> int32x4_t {
    // SAFETY: the caller vouches for the instruction, which touches registers only.
    unsafe {
        asm!(
            "sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[{lane}]",
            inlateout(vreg) sums,
            in(vreg) weights.0,
            in(vreg) levels,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}
