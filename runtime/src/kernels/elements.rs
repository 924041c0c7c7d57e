//! How K and V are stored: `README.md`, "KV cache".
//!
//! A head's vector is a row of [`UNIT`]s of 32 values, the last one filled up with zeros, and a
//! scale where the type has one.

// Arrays of fixed lengths, indexed by counters up to constants.
#![allow(clippy::indexing_slicing, clippy::needless_range_loop)]

use super::halves::{Halves, LANES, narrow};
use bytemuck::{Pod, Zeroable};
use half::f16;

/// Values of a unit.
pub(crate) const UNIT: usize = 2 * LANES;

/// 32 stored values.
pub(crate) trait Element: Pod {
    /// Whether vectors have a scale, which multiplies what is stored.
    const SCALED: bool;
    /// Whether what is stored are Hadamard transforms of vectors.
    const TRANSFORMED: bool = false;

    /// The scale for the vector `x`; 1 if there is none.
    fn scale(x: &[f32]) -> f32;
    /// The stored form of values of a vector with this scale.
    fn narrow(x: &[f32; UNIT], scale: f32) -> Self;
    /// The first or the second half of the values, yet to be multiplied by the scale.
    fn widen<H: Halves>(&self, halves: H, half: usize) -> H::Lanes;
}

/// One head's vectors of consecutive positions, as attention reads them.
pub(crate) trait Source: Copy {
    /// How many vectors there are of `units` units each.
    fn positions(self, units: usize) -> usize;
    /// The scale of a position's vector, if it has one.
    fn scale(self, position: usize) -> Option<f32>;
    /// A position's vector alone, of `units` units, without its scale.
    fn vector(self, position: usize, units: usize) -> Option<Self>;
    /// Half of a unit, all positions' units being counted; zeros if there is none.
    fn widen<H: Halves>(self, halves: H, unit: usize, half: usize) -> H::Lanes;
    /// The same where there is one.
    #[inline(always)]
    fn unit<H: Halves>(self, halves: H, unit: usize, half: usize) -> Option<H::Lanes> {
        Some(self.widen(halves, unit, half))
    }
}

impl Element for [f32; UNIT] {
    const SCALED: bool = false;

    fn scale(_: &[f32]) -> f32 {
        1.0
    }

    fn narrow(x: &[f32; UNIT], _: f32) -> Self {
        *x
    }

    #[inline(always)]
    fn widen<H: Halves>(&self, halves: H, half: usize) -> H::Lanes {
        let both: &[[f32; LANES]; 2] = bytemuck::must_cast_ref(self);
        halves.load(&both[half % 2])
    }
}

impl Element for [f16; UNIT] {
    const SCALED: bool = false;

    fn scale(_: &[f32]) -> f32 {
        1.0
    }

    fn narrow(x: &[f32; UNIT], _: f32) -> Self {
        let mut halves = [f16::ZERO; UNIT];
        for (half, x) in halves.iter_mut().zip(x) {
            *half = narrow(*x); // `map` would not be inlined, so no vectors would come of it
        }
        halves
    }

    #[inline(always)]
    fn widen<H: Halves>(&self, halves: H, half: usize) -> H::Lanes {
        let both: &[[f16; LANES]; 2] = bytemuck::must_cast_ref(self);
        halves.widen(&both[half % 2])
    }
}

impl Element for [i8; UNIT] {
    const SCALED: bool = true;

    fn scale(x: &[f32]) -> f32 {
        scale(x, 127.0)
    }

    fn narrow(x: &[f32; UNIT], scale: f32) -> Self {
        let per_level = inverse(scale);
        x.map(|x| level(x * per_level, 127.0) as i8)
    }

    #[inline(always)]
    fn widen<H: Halves>(&self, halves: H, half: usize) -> H::Lanes {
        let both: &[[i8; LANES]; 2] = bytemuck::must_cast_ref(self);
        halves.integers(&both[half % 2])
    }
}

/// 32 levels from -7 to 7, each 8 more in four bits: the first 16 in the low halves of bytes.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct Nibbles([u8; LANES]);

impl Element for Nibbles {
    const SCALED: bool = true;
    const TRANSFORMED: bool = true;

    fn scale(x: &[f32]) -> f32 {
        scale(x, 7.0)
    }

    fn narrow(x: &[f32; UNIT], scale: f32) -> Self {
        let per_level = inverse(scale);
        let levels = x.map(|x| (level(x * per_level, 7.0) + 8) as u8);
        let [low, high]: [[u8; LANES]; 2] = bytemuck::must_cast(levels);
        let mut bytes = [0; LANES];
        for i in 0..LANES {
            bytes[i] = low[i] | high[i] << 4;
        }
        Self(bytes)
    }

    #[inline(always)]
    fn widen<H: Halves>(&self, halves: H, half: usize) -> H::Lanes {
        let mut levels = [0; LANES];
        for i in 0..LANES {
            levels[i] = (self.0[i] >> (4 * (half % 2)) & 15) as i8 - 8;
        }
        halves.integers(&levels)
    }
}

/// Vectors whose largest magnitude is below this, 2^-100, count as zero, as activations do.
const SMALLEST: f32 = f32::from_bits((127 - 100) << 23);

/// The largest magnitude over the largest level; 0 if it counts as zero, and not a number if it is
/// not finite.
fn scale(x: &[f32], levels: f32) -> f32 {
    // As integers, magnitudes are ordered as the numbers are, with infinity and NaN on top.
    let largest = f32::from_bits(x.iter().fold(0, |max: u32, x| max.max(x.to_bits() & 0x7fff_ffff)));
    match largest {
        _ if !largest.is_finite() => f32::NAN,
        _ if largest < SMALLEST => 0.0,
        _ => largest / levels,
    }
}

fn inverse(scale: f32) -> f32 {
    if scale > 0.0 { 1.0 / scale } else { 0.0 }
}

/// The integer nearest to `x`, ties to even, within `-largest..=largest`; 0 for what is no number.
fn level(x: f32, largest: f32) -> i32 {
    // Above 1.5 * 2^23 a unit in the last place is one, and the low bits are the integer.
    const MAGIC: f32 = 12_582_912.0;
    let x = if x.is_nan() { 0.0 } else { x.clamp(-largest, largest) };
    (x + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits()).cast_signed()
}
