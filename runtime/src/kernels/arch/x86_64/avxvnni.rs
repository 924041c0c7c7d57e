//! AVX-VNNI: eight rows side by side, four products and their sum in one instruction.

use super::avx2::{Ymm, levels};
use crate::kernels::generic::{Dot, Vector, unit};
use core::arch::x86_64::*;

unit!(AvxVnni: "avx2,f16c,avxvnni", Ymm, Quads);

/// Sums of four products, exact (`vpdpbusd`).
struct Quads;

impl Dot<Ymm> for Quads {
    const BYTES: bool = true;

    #[inline(always)]
    unsafe fn unsigned<const N: usize, const MAX: i32>(weights: &[Ymm; N], x: *const i8) -> Ymm {
        // SAFETY: the caller vouches for 4 * N levels and for the instructions.
        unsafe {
            // Two sums, as each instruction waits for the one before.
            let mut sums = [_mm256_setzero_si256(); 2];
            for i in 0..N {
                sums[i % 2] = _mm256_dpbusd_avx_epi32(sums[i % 2], weights[i].0, levels(x, i));
            }
            Ymm(_mm256_add_epi32(sums[0], sums[1]))
        }
    }

    #[inline(always)]
    unsafe fn add_unsigned<const N: usize, const MAX: i32>(
        sum: Ymm,
        weights: &[Ymm; N],
        x: *const i8,
    ) -> Ymm {
        let mut sum = sum.0;
        for i in 0..N {
            // SAFETY: the caller vouches for 4 * N levels and for the instructions.
            sum = unsafe { _mm256_dpbusd_avx_epi32(sum, weights[i].0, levels(x, i)) };
        }
        Ymm(sum)
    }

    #[inline(always)]
    unsafe fn signed<const N: usize>(weights: &[Ymm; N], x: *const i8, sums: &[i16; 2]) -> Ymm {
        // SAFETY: the caller vouches for 4 * N levels and for the instructions.
        unsafe {
            // w + 128 is unsigned, and 128 times the sum of the levels too much.
            let sign = _mm256_set1_epi8(i8::MIN);
            let mut products = [Ymm::splat_pair(sums, -128, -128).0, _mm256_setzero_si256()];
            for i in 0..N {
                let weight = _mm256_xor_si256(weights[i].0, sign);
                products[i % 2] = _mm256_dpbusd_avx_epi32(products[i % 2], weight, levels(x, i));
            }
            Ymm(_mm256_add_epi32(products[0], products[1]))
        }
    }
}
