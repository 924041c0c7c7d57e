//! AVX2: eight rows side by side, sums of products in 16 bits while they fit.

use crate::kernels::generic::{Dot, Vector, unit};
use core::arch::asm;
use core::arch::x86_64::*;

unit!(Avx2: "avx2,f16c", Ymm, Pairs);

/// A 256-bit register.
#[derive(Clone, Copy)]
pub(super) struct Ymm(pub(super) __m256i);

impl Vector for Ymm {
    type Float = __m256;
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn load_rows(from: *const u8, stride: usize) -> [Self; 4] {
        // SAFETY: the caller vouches for 16 bytes of each row and for the instructions.
        unsafe {
            // Rows i and i + 4 in the two halves, then a transposition within each half.
            let a = rows(from, stride);
            let b = rows(from.add(stride), stride);
            let c = rows(from.add(2 * stride), stride);
            let d = rows(from.add(3 * stride), stride);
            let ab = [_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b)];
            let cd = [_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d)];
            [
                Self(_mm256_unpacklo_epi64(ab[0], cd[0])),
                Self(_mm256_unpackhi_epi64(ab[0], cd[0])),
                Self(_mm256_unpacklo_epi64(ab[1], cd[1])),
                Self(_mm256_unpackhi_epi64(ab[1], cd[1])),
            ]
        }
    }

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(_mm256_set1_epi32(value)) }
    }

    #[inline(always)]
    unsafe fn splat_pair(pair: &[i16; 2], first: i16, second: i16) -> Self {
        let factors = i32::from(second) << 16 | i32::from(first.cast_unsigned());
        // SAFETY: the caller vouches for the instructions; two 16-bit numbers are 32 bits.
        unsafe {
            let pair = Self::splat(pair.as_ptr().cast::<i32>().read_unaligned());
            Self(_mm256_madd_epi16(pair.0, _mm256_set1_epi32(factors)))
        }
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(_mm256_and_si256(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(_mm256_or_si256(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(_mm256_add_epi32(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn shift_right<const BITS: i32>(self) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(_mm256_srli_epi32::<BITS>(self.0)) }
    }

    #[inline(always)]
    unsafe fn shift_right_signed<const BITS: i32>(self) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(_mm256_srai_epi32::<BITS>(self.0)) }
    }

    #[inline(always)]
    unsafe fn shift_left<const BITS: i32>(self) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(_mm256_slli_epi32::<BITS>(self.0)) }
    }

    #[inline(always)]
    unsafe fn to_float(self) -> __m256 {
        // SAFETY: the caller vouches for the instructions.
        unsafe { _mm256_cvtepi32_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn half_to_float(self) -> __m256 {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let halves = _mm256_and_si256(self.0, _mm256_set1_epi32(0xffff));
            let packed = _mm256_packus_epi32(halves, halves);
            // The first and the third quarter hold all eight.
            let packed = _mm256_permute4x64_epi64::<0b10_00>(packed);
            _mm256_cvtph_ps(_mm256_castsi256_si128(packed))
        }
    }

    #[inline(always)]
    unsafe fn splat_float(value: f32) -> __m256 {
        // SAFETY: the caller vouches for the instructions.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const f32) -> __m256 {
        // SAFETY: the caller vouches for the instructions and for eight numbers.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store_floats(to: *mut f32, value: __m256) {
        // SAFETY: the caller vouches for the instructions and for eight numbers.
        unsafe { _mm256_storeu_ps(to, value) }
    }

    #[inline(always)]
    unsafe fn add_floats(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller vouches for the instructions.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_floats(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller vouches for the instructions.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn negate_floats(a: __m256) -> __m256 {
        // SAFETY: the caller vouches for the instructions.
        unsafe { _mm256_xor_ps(a, _mm256_set1_ps(-0.0)) }
    }

    #[inline(always)]
    #[allow(clippy::pointers_in_nomem_asm_block)] // it is the address that counts
    unsafe fn untracked(rows: *const u8, stride: usize) -> (*const u8, usize) {
        let (mut rows, mut stride) = (rows, stride);
        // SAFETY: nothing is executed, and nothing that the pointer points to is touched.
        unsafe {
            asm!("/* {0} {1} */", inout(reg) rows, inout(reg) stride, options(pure, nomem, nostack, preserves_flags));
        }
        (rows, stride)
    }

    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        // SAFETY: any address may be asked for.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }
}

/// 16 bytes of this row and of the fourth after it.
#[inline(always)]
unsafe fn rows(from: *const u8, stride: usize) -> __m256i {
    // SAFETY: the caller vouches for both rows and for the instructions.
    unsafe {
        let low = _mm_loadu_si128(from.cast());
        let high = _mm_loadu_si128(from.add(4 * stride).cast());
        _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high)
    }
}

/// Four levels in all lanes.
#[inline(always)]
pub(super) unsafe fn levels(x: *const i8, vector: usize) -> __m256i {
    // SAFETY: the caller vouches for the levels and for the instructions.
    unsafe { _mm256_set1_epi32(x.cast::<i32>().add(vector).read_unaligned()) }
}

/// Sums of two products in 16 bits (`vpmaddubsw`), which saturates: never with these numbers.
pub(super) struct Pairs;

impl Dot<Ymm> for Pairs {
    #[inline(always)]
    unsafe fn unsigned<const N: usize, const MAX: i32>(weights: &[Ymm; N], x: *const i8) -> Ymm {
        // So many sums of two products fit into 16 bits.
        let fit = (i16::MAX as i32 / (2 * MAX * 127)) as usize;
        // SAFETY: the caller vouches for 4 * N levels and for the instructions.
        unsafe {
            let ones = _mm256_set1_epi16(1);
            let mut sum = _mm256_setzero_si256();
            let mut pairs = _mm256_setzero_si256();
            for i in 0..N {
                let product = _mm256_maddubs_epi16(weights[i].0, levels(x, i));
                pairs = if i % fit == 0 { product } else { _mm256_add_epi16(pairs, product) };
                if i % fit == fit - 1 || i == N - 1 {
                    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
                }
            }
            Ymm(sum)
        }
    }

    #[inline(always)]
    unsafe fn signed<const N: usize>(weights: &[Ymm; N], x: *const i8, _sums: &[i16; 2]) -> Ymm {
        // SAFETY: the caller vouches for 4 * N levels and for the instructions.
        unsafe {
            let ones = _mm256_set1_epi16(1);
            let mut sum = _mm256_setzero_si256();
            for i in 0..N {
                // |w| * (x with w's sign): up to 128 * 127, so that two of them fit. No level is
                // -128, so it can be negated.
                let weight = weights[i].0;
                let level = _mm256_sign_epi8(levels(x, i), weight);
                let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weight), level);
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
            }
            Ymm(sum)
        }
    }
}
