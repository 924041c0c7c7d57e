//! Portable code, compiled for AVX2 and for AVX-512.

use crate::kernels::halves::{Halves, LANES, Portable};
use core::arch::x86_64::*;
use half::f16;

/// Does the work with AVX2.
///
/// # Safety
/// The CPU has the instructions.
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn avx2<P: Portable>(work: P) {
    work.run(Ymm(()));
}

/// Does the work with AVX-512.
///
/// # Safety
/// The CPU has the instructions.
#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn avx512<P: Portable>(work: P) {
    work.run(Zmm(()));
}

/// Eight conversions at a time. Exists only where [`avx2`] made it.
#[derive(Clone, Copy)]
struct Ymm(());

impl Halves for Ymm {
    #[inline(always)]
    fn widen(self, halves: &[f16; LANES]) -> [f32; LANES] {
        let from = halves.as_ptr().cast::<__m128i>();
        // SAFETY: the pointer is to 32 bytes, and whoever has a value of this type has the
        // instructions.
        unsafe {
            let wide =
                [_mm256_cvtph_ps(_mm_loadu_si128(from)), _mm256_cvtph_ps(_mm_loadu_si128(from.add(1)))];
            core::mem::transmute::<[__m256; 2], [f32; LANES]>(wide)
        }
    }
}

/// Sixteen conversions at a time. Exists only where [`avx512`] made it.
#[derive(Clone, Copy)]
struct Zmm(());

impl Halves for Zmm {
    #[inline(always)]
    fn widen(self, halves: &[f16; LANES]) -> [f32; LANES] {
        // SAFETY: the pointer is to 32 bytes, and whoever has a value of this type has the
        // instructions.
        unsafe {
            let wide = _mm512_cvtph_ps(_mm256_loadu_si256(halves.as_ptr().cast()));
            core::mem::transmute::<__m512, [f32; LANES]>(wide)
        }
    }
}
