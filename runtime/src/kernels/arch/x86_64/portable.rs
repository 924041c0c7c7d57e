//! Portable code, compiled for AVX2 and for AVX-512.

use crate::kernels::halves::{Halves, LANES, Portable};
use core::arch::x86_64::*;
use half::f16;

/// Does the work with AVX2.
///
/// # Safety
/// The CPU has the instructions.
#[inline(never)]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn avx2<P: Portable>(work: P) {
    work.run(Ymm(()));
}

/// Does the work with AVX-512.
///
/// # Safety
/// The CPU has the instructions.
#[inline(never)]
#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn avx512<P: Portable>(work: P) {
    work.run(Zmm(()));
}

/// Eight values in a register. Exists only where [`avx2`] made it.
#[derive(Clone, Copy)]
struct Ymm(());

impl Halves for Ymm {
    type Lanes = [__m256; 2];

    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        // SAFETY: any address may be asked for.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> [__m256; 2] {
        // SAFETY: both sides are 16 numbers, of which any bits are valid.
        unsafe { core::mem::transmute::<[f32; LANES], [__m256; 2]>(*values) }
    }

    #[inline(always)]
    fn store(self, lanes: [__m256; 2]) -> [f32; LANES] {
        // SAFETY: both sides are 16 numbers, of which any bits are valid.
        unsafe { core::mem::transmute::<[__m256; 2], [f32; LANES]>(lanes) }
    }

    #[inline(always)]
    fn widen(self, halves: &[f16; LANES]) -> [__m256; 2] {
        let from = halves.as_ptr().cast::<__m128i>();
        // SAFETY: the pointer is to 32 bytes, and whoever has a value of this type has the
        // instructions.
        unsafe { [_mm256_cvtph_ps(_mm_loadu_si128(from)), _mm256_cvtph_ps(_mm_loadu_si128(from.add(1)))] }
    }

    #[inline(always)]
    fn integers(self, levels: &[i8; LANES]) -> [__m256; 2] {
        // SAFETY: the pointer is to 16 bytes, and whoever has a value of this type has the
        // instructions.
        unsafe {
            let levels = _mm_loadu_si128(levels.as_ptr().cast());
            let upper = _mm_unpackhi_epi64(levels, levels);
            [
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(levels)),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(upper)),
            ]
        }
    }

    #[inline(always)]
    fn add(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: whoever has a value of this type has the instructions.
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: whoever has a value of this type has the instructions.
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn scale(self, a: [__m256; 2], b: f32) -> [__m256; 2] {
        // SAFETY: whoever has a value of this type has the instructions.
        self.mul(a, [unsafe { _mm256_set1_ps(b) }; 2])
    }

    #[inline(always)]
    fn sum(self, [first, second]: [__m256; 2]) -> f32 {
        // SAFETY: whoever has a value of this type has the instructions.
        unsafe {
            let eight = _mm256_add_ps(first, second);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn sums(self, lanes: [[__m256; 2]; 4]) -> [f32; 4] {
        // SAFETY: whoever has a value of this type has the instructions; the last two types are of four
        // numbers each, of which any bits are valid.
        unsafe {
            let [a, b, c, d] = lanes.map(|[first, second]| _mm256_add_ps(first, second));
            // What is left of one in each half.
            let four = |a, b| {
                let (low, high) =
                    (_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b));
                _mm256_add_ps(low, high)
            };
            let (ab, cd) = (four(a, b), four(c, d));
            let low = _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd);
            let two = _mm256_add_ps(low, _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd));
            let one = _mm256_add_ps(two, _mm256_movehdup_ps(two));
            let (ac, bd) = (_mm256_castps256_ps128(one), _mm256_extractf128_ps::<1>(one));
            let acbd = _mm_shuffle_ps::<0b10_00_10_00>(ac, bd);
            core::mem::transmute::<__m128, [f32; 4]>(_mm_permute_ps::<0b11_01_10_00>(acbd))
        }
    }

    #[inline(always)]
    fn call<P: Portable>(self, work: P) {
        // SAFETY: whoever has a value of this type has the instructions.
        unsafe { avx2(work) };
    }
}

/// Sixteen values in a register. Exists only where [`avx512`] made it.
#[derive(Clone, Copy)]
struct Zmm(());

impl Halves for Zmm {
    const MANY_SUMS: bool = true;

    type Lanes = __m512;

    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        Ymm(()).prefetch(address);
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> __m512 {
        // SAFETY: the pointer is to 16 numbers, and whoever has a value of this type has the
        // instructions.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, lanes: __m512) -> [f32; LANES] {
        // SAFETY: both sides are 16 numbers, of which any bits are valid.
        unsafe { core::mem::transmute::<__m512, [f32; LANES]>(lanes) }
    }

    #[inline(always)]
    fn widen(self, halves: &[f16; LANES]) -> __m512 {
        // SAFETY: the pointer is to 32 bytes, and whoever has a value of this type has the
        // instructions.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(halves.as_ptr().cast())) }
    }

    #[inline(always)]
    fn integers(self, levels: &[i8; LANES]) -> __m512 {
        // SAFETY: the pointer is to 16 bytes, and whoever has a value of this type has the
        // instructions.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(levels.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: whoever has a value of this type has the instructions.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: whoever has a value of this type has the instructions.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn scale(self, a: __m512, b: f32) -> __m512 {
        // SAFETY: whoever has a value of this type has the instructions.
        unsafe { _mm512_mul_ps(a, _mm512_set1_ps(b)) }
    }

    #[inline(always)]
    fn sum(self, lanes: __m512) -> f32 {
        // SAFETY: whoever has a value of this type has the instructions.
        let (first, second) = unsafe {
            let lanes = _mm512_castps_pd(lanes);
            (_mm512_castpd512_pd256(lanes), _mm512_extractf64x4_pd::<1>(lanes))
        };
        // SAFETY: as above; what has AVX-512 has AVX2.
        Ymm(()).sum(unsafe { [_mm256_castpd_ps(first), _mm256_castpd_ps(second)] })
    }

    #[inline(always)]
    fn sums(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        // SAFETY: whoever has a value of this type has the instructions; the last two types are of four
        // numbers each, of which any bits are valid.
        unsafe {
            let eight = |a, b| {
                let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
                _mm512_add_ps(low, _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b))
            };
            let (ab, cd) = (eight(a, b), eight(c, d));
            // What is left of one in each quarter.
            let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab, cd);
            let four = _mm512_add_ps(low, _mm512_shuffle_f32x4::<0b11_01_11_01>(ab, cd));
            let two = _mm512_add_ps(four, _mm512_permute_ps::<0b11_10_11_10>(four));
            let one = _mm512_add_ps(two, _mm512_movehdup_ps(two));
            let firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
            let sums = _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, one));
            core::mem::transmute::<__m128, [f32; 4]>(sums)
        }
    }

    #[inline(always)]
    fn call<P: Portable>(self, work: P) {
        // SAFETY: whoever has a value of this type has the instructions.
        unsafe { avx512(work) };
    }
}
