//! f16 to f32 and back, and the compilation of portable code for an instruction set.

use super::reduce::pairwise;
use half::f16;

/// Values at a time.
pub(crate) const LANES: usize = 16;

/// Arithmetic with [`LANES`] values, lane by lane, and what converts f16, which not every instruction
/// set can do in one instruction. A value of a type with this trait exists only where the CPU has its
/// instructions.
pub(crate) trait Halves: Copy {
    /// Whether to compile code once rather than for each type of data: where no vector unit makes
    /// up for it, and flash is what there is least of.
    const COMPACT: bool = false;

    /// Whether sixteen sums of [`LANES`] values stay in registers, with what they are made of.
    const MANY_SUMS: bool = false;

    /// [`LANES`] values in registers. An array will do where the compiler makes vectors of it, which
    /// it does not always.
    type Lanes: Copy;

    /// Asks for the cache line at an address, which need not exist, where there is an instruction for it.
    #[inline(always)]
    fn prefetch(self, _: *const u8) {}

    fn load(self, values: &[f32; LANES]) -> Self::Lanes;
    fn store(self, lanes: Self::Lanes) -> [f32; LANES];
    /// The same numbers, exactly.
    fn widen(self, halves: &[f16; LANES]) -> Self::Lanes;
    /// The same numbers.
    fn integers(self, levels: &[i8; LANES]) -> Self::Lanes;
    /// `a + b`.
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// `a * b`.
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// `a * b` with the same `b` for all.
    fn scale(self, a: Self::Lanes, b: f32) -> Self::Lanes;
    /// The sum of all lanes, added pairwise: lane `i + 8` to lane `i`, then `i + 4`, `i + 2`, `i + 1`.
    fn sum(self, lanes: Self::Lanes) -> f32;
    /// The [`sum`](Self::sum) of each.
    #[inline(always)]
    fn sums(self, [a, b, c, d]: [Self::Lanes; 4]) -> [f32; 4] {
        [self.sum(a), self.sum(b), self.sum(c), self.sum(d)]
    }

    /// Does work in a function of its own, with the same instruction set: what is large compiles faster in pieces.
    fn call<P: Portable>(self, work: P);
}

/// Work in portable code, without branches in its inner loops and with all sums in a fixed order:
/// compiled for each instruction set, it gives the same bits with wider registers. What
/// computes within [`run`](Self::run) must be `#[inline(always)]`, as instructions are enabled outside.
pub(crate) trait Portable {
    /// Does the work.
    fn run<H: Halves>(self, halves: H);
}

/// Integer instructions, which every CPU has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Software;

impl Halves for Software {
    const COMPACT: bool =
        cfg!(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "wasm32")));

    type Lanes = [f32; LANES];

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> [f32; LANES] {
        *values
    }

    #[inline(always)]
    fn store(self, lanes: [f32; LANES]) -> [f32; LANES] {
        lanes
    }

    #[inline(always)]
    fn widen(self, halves: &[f16; LANES]) -> [f32; LANES] {
        halves.map(widen)
    }

    #[inline(always)]
    fn integers(self, levels: &[i8; LANES]) -> [f32; LANES] {
        levels.map(f32::from)
    }

    #[inline(always)]
    fn add(self, mut a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        for (a, b) in a.iter_mut().zip(b) {
            *a += b;
        }
        a
    }

    #[inline(always)]
    fn mul(self, mut a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        for (a, b) in a.iter_mut().zip(b) {
            *a *= b;
        }
        a
    }

    #[inline(always)]
    fn scale(self, mut a: [f32; LANES], b: f32) -> [f32; LANES] {
        for a in &mut a {
            *a *= b;
        }
        a
    }

    #[inline(always)]
    fn sum(self, lanes: [f32; LANES]) -> f32 {
        pairwise(lanes)
    }

    #[inline(never)]
    fn call<P: Portable>(self, work: P) {
        work.run(self);
    }
}

#[inline(always)]
fn widen(half: f16) -> f32 {
    let bits = u32::from(half.to_bits());
    let magnitude = bits & 0x7fff;
    // Exponents count from 127, not 15, and the largest stands for infinity and NaN in both.
    let special = if magnitude >= 0x7c00 { 112 << 23 } else { 0 };
    let normal = f32::from_bits((magnitude << 13) + (112 << 23) + special);
    // Subnormal: a multiple of 2^-24.
    let small = magnitude.cast_signed() as f32 * f32::from_bits((127 - 24) << 23);
    let widened = if magnitude < 0x400 { small } else { normal };
    f32::from_bits(widened.to_bits() | (bits & 0x8000) << 16)
}

/// The nearest f16, ties to even.
#[inline(always)]
pub(crate) fn narrow(x: f32) -> f16 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    // Below 2^-14 the sum with 1/2 has 2^-24 as its last place, which rounds as it should.
    let small = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    let even = magnitude >> 13 & 1;
    let normal = magnitude.wrapping_add(0xfff + even).wrapping_sub(112 << 23) >> 13;
    let narrowed = if magnitude < 0x3880_0000 { small } else { normal };
    let narrowed = if magnitude >= 0x4780_0000 { 0x7c00 } else { narrowed };
    let narrowed = if magnitude > 0x7f80_0000 { 0x7e00 } else { narrowed };
    f16::from_bits((narrowed | bits >> 16 & 0x8000) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_widens_as_the_half_crate_has_it() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (widen(f16::from_bits(bits)), f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{bits:#x}");
        }
    }

    #[test]
    fn narrows_as_the_half_crate_has_it() {
        let near = |bits: u32| (0..16).map(move |low| bits.wrapping_add(low).wrapping_sub(8));
        // Around each tie and each half, and everywhere in between.
        let numbers = (0..=u32::MAX >> 12).flat_map(|high| near(high << 12));
        for x in numbers.chain((0..=u32::MAX).step_by(4999)).map(f32::from_bits) {
            let (ours, theirs) = (narrow(x), f16::from_f32(x));
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{x}");
        }
    }
}
