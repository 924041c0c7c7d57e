//! Activations as eight-bit integers: `README.md`, "Activations".

use super::Backend;
use super::halves::{Halves, Portable};
use super::workers::{Workers, share};
use bytemuck::{Pod, Zeroable};

/// Values that share a scale. Every block length of an integer format is a multiple of it.
pub const GROUP: usize = 32;

/// [`GROUP`] activations: each is about `scale * level`.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Group {
    /// The largest magnitude over 127.
    pub scale: f32,
    /// `scale` times the sum of all levels.
    pub scaled_sum: f32,
    /// Sums of the first 16 levels and of the others.
    pub sums: [i16; 2],
    /// From -127 to 127.
    pub levels: [[i8; 16]; 2],
}

/// Groups whose largest magnitude is below this, 2^-100, count as zero: so no scale is subnormal,
/// which some vector units flush to zero.
const SMALLEST: f32 = f32::from_bits((127 - 100) << 23);

/// Quantizes `x` into as many groups as it has; `x` is a whole number of groups.
pub fn quantize(x: &[f32], groups: &mut [Group]) {
    quantize_groups(x, groups);
}

/// [`quantize`], by several threads and with a back end's registers.
pub fn quantize_with(backend: Backend, workers: &dyn Workers, x: &[f32], groups: &mut [Group]) {
    share(workers, groups, |smallest| smallest.groups, &|first, groups| {
        backend.run(Quantize { x: x.get(first * GROUP..).unwrap_or_default(), groups });
    });
}

struct Quantize<'a> {
    x: &'a [f32],
    groups: &'a mut [Group],
}

impl Portable for Quantize<'_> {
    #[inline(always)]
    fn run<H: Halves>(self, _: H) {
        if H::COMPACT {
            return quantize(self.x, self.groups);
        }
        quantize_groups(self.x, self.groups);
    }
}

#[inline(always)]
fn quantize_groups(x: &[f32], groups: &mut [Group]) {
    let (chunks, _) = x.as_chunks::<GROUP>();
    for (group, x) in groups.iter_mut().zip(chunks) {
        *group = quantize_group(x);
    }
}

#[inline(always)]
fn quantize_group(x: &[f32; GROUP]) -> Group {
    // As integers, magnitudes are ordered as the numbers are, with infinity and NaN on top.
    let largest = x.iter().fold(0, |max: u32, x| max.max(x.to_bits() & 0x7fff_ffff));
    let largest = f32::from_bits(largest);
    if !largest.is_finite() {
        return Group { scale: f32::NAN, scaled_sum: f32::NAN, ..Group::zeroed() };
    }
    if largest < SMALLEST {
        return Group::zeroed();
    }
    let scale = largest / 127.0;
    let per_level = 127.0 / largest;
    // Loops, as what `map` calls is not inlined, and so not compiled for a back end's registers.
    let mut levels = [0i8; GROUP];
    for (level, x) in levels.iter_mut().zip(x) {
        *level = round_even(x * per_level);
    }
    let levels: [[i8; 16]; 2] = bytemuck::must_cast(levels);
    let mut sums = [0; 2];
    for (sum, half) in sums.iter_mut().zip(&levels) {
        *sum = half.iter().map(|level| i16::from(*level)).sum::<i16>();
    }
    let [first, second] = sums;
    let scaled_sum = scale * f32::from(first + second);
    Group { scale, scaled_sum, sums, levels }
}

/// The integer nearest to `x`, ties to even, for magnitudes up to 127.
#[inline(always)]
fn round_even(x: f32) -> i8 {
    // Above 1.5 * 2^23 a unit in the last place is one, and the low bits are the integer.
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC).to_bits() as i8
}

#[cfg(test)]
mod tests {
    use super::super::workers::tests::Backwards;
    use super::*;

    /// By the definition, as by each back end and several workers.
    fn one(x: [f32; GROUP]) -> Group {
        let mut group = [Group::zeroed()];
        quantize(&x, &mut group);
        for backend in Backend::available() {
            // The group is first, in the middle and last, among others.
            let mut many = [[0.3; GROUP]; 7];
            (many[0], many[3], many[6]) = (x, x, x);
            let mut found = [Group::zeroed(); 7];
            quantize_with(backend, &Backwards(3), many.as_flattened(), &mut found);
            for i in [0, 3, 6] {
                let (found, expected) = (bytemuck::bytes_of(&found[i]), bytemuck::bytes_of(&group[0]));
                assert_eq!(found, expected, "{backend}, group {i} of {x:?}");
            }
        }
        group[0]
    }

    #[test]
    fn levels_are_the_nearest_ties_to_even() {
        // A largest magnitude of 127 makes the scale 1.
        let mut x = [0.0; GROUP];
        x[..9].copy_from_slice(&[127.0, 0.5, 1.5, -0.5, -2.5, 0.49, -126.6, 63.5, -127.0]);
        let Group { scale, scaled_sum, sums, levels } = one(x);
        assert_eq!(scale, 1.0);
        assert_eq!(levels[0][..9], [127, 0, 2, 0, -2, 0, -127, 64, -127]);
        assert_eq!((sums, scaled_sum), ([-63, 0], -63.0));
    }

    #[test]
    fn every_level_of_every_scale() {
        for exponent in [-99, -20, 0, 60, 126] {
            let unit = f32::from_bits(((127 + exponent) as u32) << 23) / 128.0;
            for level in 0..=127 {
                let mut x = [0.0; GROUP];
                (x[3], x[31]) = (-127.0 * unit, f32::from(level as i8) * unit);
                let group = one(x);
                assert_eq!(group.levels[1][15], level as i8, "2^{exponent}");
                assert_eq!(group.levels[0][3], -127, "2^{exponent}");
            }
        }
    }

    #[test]
    fn zero_and_small() {
        for largest in [0.0, f32::MIN_POSITIVE, 1e-45, SMALLEST.next_down()] {
            assert_eq!(one([largest; GROUP]), Group::zeroed(), "{largest}");
        }
        assert_eq!(one([-SMALLEST; GROUP]).levels, [[-127; 16]; 2]);
        assert_eq!(one([f32::MAX; GROUP]).levels, [[127; 16]; 2]);
    }

    #[test]
    fn not_finite() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [1.0; GROUP];
            x[17] = bad;
            let group = one(x);
            assert!(group.scale.is_nan() && group.scaled_sum.is_nan());
            assert_eq!((group.levels, group.sums), ([[0; 16]; 2], [0; 2]));
        }
    }
}
