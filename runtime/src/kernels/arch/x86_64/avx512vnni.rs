//! AVX-512 VNNI: sixteen rows side by side, four products and their sum in one instruction.

use crate::kernels::generic::{Dot, Vector, unit};
use core::arch::asm;
use core::arch::x86_64::*;

unit!(Avx512Vnni: "avx512f,avx512bw,avx512vl,avx512vnni", Zmm, Quads);

/// A 512-bit register.
#[derive(Clone, Copy)]
struct Zmm(__m512i);

impl Vector for Zmm {
    type Float = __m512;
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn load_rows(from: *const u8, stride: usize) -> [Self; 4] {
        // SAFETY: the caller vouches for 16 bytes of each row and for the instructions.
        unsafe {
            // Rows i, i + 4, i + 8 and i + 12 in the quarters, then a transposition within each.
            let a = rows(from, stride);
            let b = rows(from.add(stride), stride);
            let c = rows(from.add(2 * stride), stride);
            let d = rows(from.add(3 * stride), stride);
            let ab = [_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)];
            let cd = [_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d)];
            [
                Self(_mm512_unpacklo_epi64(ab[0], cd[0])),
                Self(_mm512_unpackhi_epi64(ab[0], cd[0])),
                Self(_mm512_unpacklo_epi64(ab[1], cd[1])),
                Self(_mm512_unpackhi_epi64(ab[1], cd[1])),
            ]
        }
    }

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(_mm512_set1_epi32(value)) }
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(_mm512_and_si512(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(_mm512_or_si512(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(_mm512_add_epi32(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn shift_right<const BITS: i32>(self) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(_mm512_srlv_epi32(self.0, _mm512_set1_epi32(BITS))) }
    }

    #[inline(always)]
    unsafe fn shift_right_signed<const BITS: i32>(self) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(_mm512_srav_epi32(self.0, _mm512_set1_epi32(BITS))) }
    }

    #[inline(always)]
    unsafe fn shift_left<const BITS: i32>(self) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(_mm512_sllv_epi32(self.0, _mm512_set1_epi32(BITS))) }
    }

    #[inline(always)]
    unsafe fn to_float(self) -> __m512 {
        // SAFETY: the caller vouches for the instructions.
        unsafe { _mm512_cvtepi32_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn half_to_float(self) -> __m512 {
        // SAFETY: the caller vouches for the instructions.
        unsafe { _mm512_cvtph_ps(_mm512_cvtepi32_epi16(self.0)) }
    }

    #[inline(always)]
    unsafe fn splat_float(value: f32) -> __m512 {
        // SAFETY: the caller vouches for the instructions.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const f32) -> __m512 {
        // SAFETY: the caller vouches for the instructions and for sixteen numbers.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store_floats(to: *mut f32, value: __m512) {
        // SAFETY: the caller vouches for the instructions and for sixteen numbers.
        unsafe { _mm512_storeu_ps(to, value) }
    }

    #[inline(always)]
    unsafe fn add_floats(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller vouches for the instructions.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_floats(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller vouches for the instructions.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn negate_floats(a: __m512) -> __m512 {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let sign = _mm512_set1_epi32(i32::MIN);
            _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(a), sign))
        }
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

/// 16 bytes of this row and of the fourth, eighth and twelfth after it.
#[inline(always)]
unsafe fn rows(from: *const u8, stride: usize) -> __m512i {
    // SAFETY: the caller vouches for the four rows and for the instructions.
    unsafe {
        // Masked broadcasts, as the compiler makes cheaper instructions of them than of insertions.
        let row = |n| _mm_loadu_si128(from.add(n * stride).cast());
        let quarters = _mm512_broadcast_i32x4(row(0));
        let quarters = _mm512_mask_broadcast_i32x4(quarters, 0x00f0, row(4));
        let quarters = _mm512_mask_broadcast_i32x4(quarters, 0x0f00, row(8));
        _mm512_mask_broadcast_i32x4(quarters, 0xf000, row(12))
    }
}

/// Four levels in all lanes.
#[inline(always)]
unsafe fn levels(x: *const i8, vector: usize) -> __m512i {
    // SAFETY: the caller vouches for the levels and for the instructions.
    unsafe { _mm512_set1_epi32(x.cast::<i32>().add(vector).read_unaligned()) }
}

/// Sums of four products, exact (`vpdpbusd`).
struct Quads;

impl Dot<Zmm> for Quads {
    const BYTES: bool = true;

    #[inline(always)]
    unsafe fn unsigned<const N: usize, const MAX: i32>(weights: &[Zmm; N], x: *const i8) -> Zmm {
        // SAFETY: the caller vouches for 4 * N levels and for the instructions.
        unsafe {
            // Two sums, as each instruction waits for the one before.
            let mut sums = [_mm512_setzero_si512(); 2];
            for i in 0..N {
                sums[i % 2] = _mm512_dpbusd_epi32(sums[i % 2], weights[i].0, levels(x, i));
            }
            Zmm(_mm512_add_epi32(sums[0], sums[1]))
        }
    }

    #[inline(always)]
    unsafe fn add_unsigned<const N: usize, const MAX: i32>(
        sum: Zmm,
        weights: &[Zmm; N],
        x: *const i8,
    ) -> Zmm {
        let mut sum = sum.0;
        for i in 0..N {
            // SAFETY: the caller vouches for 4 * N levels and for the instructions.
            sum = unsafe { _mm512_dpbusd_epi32(sum, weights[i].0, levels(x, i)) };
        }
        Zmm(sum)
    }

    #[inline(always)]
    unsafe fn signed<const N: usize>(weights: &[Zmm; N], x: *const i8, sums: &[i16; 2]) -> Zmm {
        // SAFETY: the caller vouches for 4 * N levels and for the instructions.
        unsafe {
            // w + 128 is unsigned, and 128 times the sum of the levels too much.
            let sign = _mm512_set1_epi8(i8::MIN);
            let mut products = [Zmm::splat_pair(sums, -128, -128).0, _mm512_setzero_si512()];
            for i in 0..N {
                let weight = _mm512_xor_si512(weights[i].0, sign);
                products[i % 2] = _mm512_dpbusd_epi32(products[i % 2], weight, levels(x, i));
            }
            Zmm(_mm512_add_epi32(products[0], products[1]))
        }
    }
}
