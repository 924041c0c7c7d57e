//! NEON: four rows side by side, products added up in 16 bits while they fit.

use crate::kernels::generic::{Dot, Vector, unit};
use core::arch::aarch64::*;
use core::arch::asm;

unit!(Neon: "neon", Quad, Products);

/// A 128-bit register.
#[derive(Clone, Copy)]
pub(super) struct Quad(pub(super) int32x4_t);

impl Vector for Quad {
    type Float = float32x4_t;
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn load_rows(from: *const u8, stride: usize) -> [Self; 4] {
        // SAFETY: the caller vouches for 16 bytes of each row and for the instructions.
        unsafe {
            // A transposition: pairs of 32 bits, then of 64.
            let [ab_low, ab_high] = zip(row(from), row(from.add(stride)));
            let [cd_low, cd_high] = zip(row(from.add(2 * stride)), row(from.add(3 * stride)));
            [
                Self(vreinterpretq_s32_s64(vzip1q_s64(ab_low, cd_low))),
                Self(vreinterpretq_s32_s64(vzip2q_s64(ab_low, cd_low))),
                Self(vreinterpretq_s32_s64(vzip1q_s64(ab_high, cd_high))),
                Self(vreinterpretq_s32_s64(vzip2q_s64(ab_high, cd_high))),
            ]
        }
    }

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(vdupq_n_s32(value)) }
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(vandq_s32(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(vorrq_s32(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(vaddq_s32(self.0, other.0)) }
    }

    // By a register: the instructions with the number inside know no shift by 0. The compiler
    // takes them where it can.
    #[inline(always)]
    unsafe fn shift_right<const BITS: i32>(self) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let shifted = vshlq_u32(vreinterpretq_u32_s32(self.0), vdupq_n_s32(-BITS));
            Self(vreinterpretq_s32_u32(shifted))
        }
    }

    #[inline(always)]
    unsafe fn shift_right_signed<const BITS: i32>(self) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(vshlq_s32(self.0, vdupq_n_s32(-BITS))) }
    }

    #[inline(always)]
    unsafe fn shift_left<const BITS: i32>(self) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self(vshlq_s32(self.0, vdupq_n_s32(BITS))) }
    }

    #[inline(always)]
    unsafe fn to_float(self) -> float32x4_t {
        // SAFETY: the caller vouches for the instructions.
        unsafe { vcvtq_f32_s32(self.0) }
    }

    /// Integers need one conversion instead of two.
    #[inline(always)]
    unsafe fn weighted_sum(values: [Self; 2], factors: [Self; 2]) -> float32x4_t {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let first = vmulq_s32(values[0].0, factors[0].0);
            Self(vmlaq_s32(first, values[1].0, factors[1].0)).to_float()
        }
    }

    #[inline(always)]
    unsafe fn half_to_float(self) -> float32x4_t {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let halves = vmovn_u32(vreinterpretq_u32_s32(self.0));
            vcvt_f32_f16(vreinterpret_f16_u16(halves))
        }
    }

    #[inline(always)]
    unsafe fn splat_float(value: f32) -> float32x4_t {
        // SAFETY: the caller vouches for the instructions.
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const f32) -> float32x4_t {
        // SAFETY: the caller vouches for the instructions and for four numbers.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store_floats(to: *mut f32, value: float32x4_t) {
        // SAFETY: the caller vouches for the instructions and for four numbers.
        unsafe { vst1q_f32(to, value) }
    }

    #[inline(always)]
    unsafe fn add_floats(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the caller vouches for the instructions.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_floats(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the caller vouches for the instructions.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    unsafe fn negate_floats(a: float32x4_t) -> float32x4_t {
        // SAFETY: the caller vouches for the instructions.
        unsafe { vnegq_f32(a) }
    }

    /// There are registers enough for a few multiples of the stride.
    #[inline(always)]
    #[allow(clippy::pointers_in_nomem_asm_block)] // it is the address that counts
    unsafe fn untracked(rows: *const u8, stride: usize) -> (*const u8, usize) {
        let mut rows = rows;
        // SAFETY: nothing is executed, and nothing that the pointer points to is touched.
        unsafe { asm!("/* {0} */", inout(reg) rows, options(pure, nomem, nostack, preserves_flags)) };
        (rows, stride)
    }

    #[inline(always)]
    #[allow(clippy::pointers_in_nomem_asm_block)] // nothing is read that the program could notice
    unsafe fn prefetch(address: *const u8) {
        // SAFETY: any address may be asked for.
        unsafe { asm!("prfm pldl2keep, [{0}]", in(reg) address, options(nomem, nostack, preserves_flags)) };
    }
}

/// 16 bytes of a row.
#[inline(always)]
unsafe fn row(from: *const u8) -> int32x4_t {
    // SAFETY: the caller vouches for the bytes and for the instructions.
    unsafe { vreinterpretq_s32_u8(vld1q_u8(from)) }
}

/// The lanes of two registers in turn.
#[inline(always)]
unsafe fn zip(a: int32x4_t, b: int32x4_t) -> [int64x2_t; 2] {
    // SAFETY: the caller vouches for the instructions.
    unsafe { [vreinterpretq_s64_s32(vzip1q_s32(a, b)), vreinterpretq_s64_s32(vzip2q_s32(a, b))] }
}

/// Products in 16 bits (`smull`, `smlal`), of which as many are added up as fit.
struct Products;

impl Dot<Quad> for Products {
    const EIGHT: bool = false;

    #[inline(always)]
    unsafe fn unsigned<const N: usize, const MAX: i32>(weights: &[Quad; N], x: *const i8) -> Quad {
        // SAFETY: as the caller says; no weight is above 127, so they may be signed.
        unsafe { products::<N, MAX>(weights, x) }
    }

    #[inline(always)]
    unsafe fn signed<const N: usize>(weights: &[Quad; N], x: *const i8, _sums: &[i16; 2]) -> Quad {
        // SAFETY: as the caller says.
        unsafe { products::<N, 128>(weights, x) }
    }
}

/// The exact sums of products of signed weights of magnitudes up to `MAX`.
#[inline(always)]
unsafe fn products<const N: usize, const MAX: i32>(weights: &[Quad; N], x: *const i8) -> Quad {
    let fit = (i16::MAX as i32 / (MAX * 127)) as usize;
    // SAFETY: the caller vouches for 4 * N levels and for the instructions.
    unsafe {
        // Rows 0 and 1 in the first sum, rows 2 and 3 in the second.
        let mut sums = [vdupq_n_s32(0); 2];
        let mut products = [vdupq_n_s16(0); 2];
        for i in 0..N {
            let weight = vreinterpretq_s8_s32(weights[i].0);
            let level = vreinterpretq_s8_s32(vdupq_n_s32(x.cast::<i32>().add(i).read_unaligned()));
            products = if i % fit == 0 {
                [vmull_s8(vget_low_s8(weight), vget_low_s8(level)), vmull_high_s8(weight, level)]
            } else {
                let first = vmlal_s8(products[0], vget_low_s8(weight), vget_low_s8(level));
                [first, vmlal_high_s8(products[1], weight, level)]
            };
            if i % fit == fit - 1 || i == N - 1 {
                sums = [vpadalq_s16(sums[0], products[0]), vpadalq_s16(sums[1], products[1])];
            }
        }
        Quad(vpaddq_s32(sums[0], sums[1]))
    }
}
