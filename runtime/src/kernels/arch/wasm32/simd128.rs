//! simd128: four rows side by side, products of 16-bit numbers added up in pairs.

use crate::kernels::generic::{Dot, Vector, unit};
use core::arch::wasm32::*;

unit!(Simd128: "simd128", Quad, Pairs);

/// A 128-bit value.
#[derive(Clone, Copy)]
struct Quad(v128);

impl Vector for Quad {
    type Float = v128;
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn load_rows(from: *const u8, stride: usize) -> [Self; 4] {
        // SAFETY: the caller vouches for 16 bytes of each row, which may lie at any address.
        unsafe {
            // A transposition: pairs of 32 bits, then of 64.
            let [a, b] = [v128_load(from.cast()), v128_load(from.add(stride).cast())];
            let [c, d] = [v128_load(from.add(2 * stride).cast()), v128_load(from.add(3 * stride).cast())];
            let ab = [i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b)];
            let cd = [i32x4_shuffle::<0, 4, 1, 5>(c, d), i32x4_shuffle::<2, 6, 3, 7>(c, d)];
            [
                Self(i64x2_shuffle::<0, 2>(ab[0], cd[0])),
                Self(i64x2_shuffle::<1, 3>(ab[0], cd[0])),
                Self(i64x2_shuffle::<0, 2>(ab[1], cd[1])),
                Self(i64x2_shuffle::<1, 3>(ab[1], cd[1])),
            ]
        }
    }

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        Self(i32x4_splat(value))
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        Self(v128_and(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        Self(v128_or(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(i32x4_add(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn shift_right<const BITS: i32>(self) -> Self {
        Self(u32x4_shr(self.0, BITS.cast_unsigned()))
    }

    #[inline(always)]
    unsafe fn shift_right_signed<const BITS: i32>(self) -> Self {
        Self(i32x4_shr(self.0, BITS.cast_unsigned()))
    }

    #[inline(always)]
    unsafe fn shift_left<const BITS: i32>(self) -> Self {
        Self(i32x4_shl(self.0, BITS.cast_unsigned()))
    }

    #[inline(always)]
    unsafe fn to_float(self) -> v128 {
        f32x4_convert_i32x4(self.0)
    }

    #[inline(always)]
    unsafe fn half_to_float(self) -> v128 {
        // There is no instruction for it. An f16 without its sign, moved to where an f32 has its
        // exponent and fraction, is 2^-112 times what it means, whether normal or not: f32 has
        // subnormal numbers too, and the product is exact. Infinities and NaNs then still lack
        // the upper bits of their exponent.
        let magnitude = v128_and(self.0, i32x4_splat(0x7fff));
        let scaled = f32x4_mul(i32x4_shl(magnitude, 13), f32x4_splat(f32::from_bits((127 + 112) << 23)));
        let not_finite = i32x4_gt(magnitude, i32x4_splat(0x7bff));
        let exponent = v128_and(not_finite, i32x4_splat(0x7f80_0000));
        let sign = v128_and(i32x4_shl(self.0, 16), i32x4_splat(i32::MIN));
        v128_or(v128_or(scaled, exponent), sign)
    }

    #[inline(always)]
    unsafe fn splat_float(value: f32) -> v128 {
        f32x4_splat(value)
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const f32) -> v128 {
        // SAFETY: the caller vouches for four numbers, which may lie at any address.
        unsafe { v128_load(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_floats(to: *mut f32, value: v128) {
        // SAFETY: the caller vouches for four numbers, which may lie at any address.
        unsafe { v128_store(to.cast(), value) }
    }

    #[inline(always)]
    unsafe fn add_floats(a: v128, b: v128) -> v128 {
        f32x4_add(a, b)
    }

    #[inline(always)]
    unsafe fn mul_floats(a: v128, b: v128) -> v128 {
        f32x4_mul(a, b)
    }

    #[inline(always)]
    unsafe fn negate_floats(a: v128) -> v128 {
        f32x4_neg(a)
    }

    /// Addresses are no registers here.
    #[inline(always)]
    unsafe fn untracked(rows: *const u8, stride: usize) -> (*const u8, usize) {
        (rows, stride)
    }

    /// There is no such instruction.
    #[inline(always)]
    unsafe fn prefetch(_address: *const u8) {}
}

/// Sums of two products of 16-bit numbers, exact (`i32x4.dot_i16x8_s`).
struct Pairs;

impl Dot<Quad> for Pairs {
    const EIGHT: bool = false;

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
    // Two sums for each of rows 0 and 1, and of rows 2 and 3.
    let mut sums = [i32x4_splat(0); 2];
    for i in 0..N {
        // SAFETY: the caller vouches for 4 * N levels.
        let levels = unsafe { v128_load32_splat(x.add(4 * i).cast()) };
        let levels = i16x8_extend_low_i8x16(levels);
        let weight = weights[i].0;
        let [low, high] = [i16x8_extend_low_i8x16(weight), i16x8_extend_high_i8x16(weight)];
        sums[0] = i32x4_add(sums[0], i32x4_dot_i16x8(low, levels));
        sums[1] = i32x4_add(sums[1], i32x4_dot_i16x8(high, levels));
    }
    let [a, b] = sums;
    Quad(i32x4_add(i32x4_shuffle::<0, 2, 4, 6>(a, b), i32x4_shuffle::<1, 3, 5, 7>(a, b)))
}
