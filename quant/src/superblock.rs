//! What Q4_K and Q5_K share: 256 values in eight groups of 32, each with a 6-bit scale and a
//! 6-bit minimum, which are multiples of the block's own two.

use crate::fit::{self, FINE, Steps, extent};
use crate::float::{from_f16, level, to_f16};
use bytemuck::{Pod, Zeroable, must_cast};

/// Eight scales and eight minimums of six bits each. The first four of both are the low six bits
/// of bytes 0..4 and 4..8. The others have their low halves in bytes 8..12, scale below minimum,
/// and their upper two bits on top of those bytes.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(transparent)]
pub struct Scales([[u8; 4]; 3]);

impl Scales {
    /// For each pair of groups and each of the two: scale and minimum.
    #[inline]
    #[must_use]
    pub fn times(self, scale: f32, minimum: f32) -> [[[f32; 2]; 2]; 4] {
        let [scales, minimums] = self.unpack();
        let mut groups = [[0.0; 2]; 8];
        for ((group, s), m) in groups.iter_mut().zip(scales).zip(minimums) {
            *group = [scale * f32::from(s), minimum * f32::from(m)];
        }
        must_cast(groups)
    }

    /// Scales and minimums, as multiples.
    #[inline]
    #[must_use]
    pub fn unpack(self) -> [[u8; 8]; 2] {
        const LOW_SIX: u32 = 0x3f3f_3f3f;
        const LOW_FOUR: u32 = 0x0f0f_0f0f;
        let [scales, minimums, both] = self.0.map(u32::from_le_bytes);
        let upper = |word: u32| (word >> 6 & 0x0303_0303) << 4;
        let words = [
            [scales & LOW_SIX, both & LOW_FOUR | upper(scales)],
            [minimums & LOW_SIX, both >> 4 & LOW_FOUR | upper(minimums)],
        ];
        words.map(|words| must_cast(words.map(u32::to_le_bytes)))
    }

    fn pack(scales: [u8; 8], minimums: [u8; 8]) -> Self {
        let [[s, s4], [m, m4]] = [scales, minimums].map(|six_bits| {
            let words: [[u8; 4]; 2] = must_cast(six_bits);
            words.map(u32::from_le_bytes)
        });
        let upper = |word: u32| (word >> 4 & 0x0303_0303) << 6;
        let both = s4 & 0x0f0f_0f0f | (m4 & 0x0f0f_0f0f) << 4;
        Self([s | upper(s4), m | upper(m4), both].map(u32::to_le_bytes))
    }
}

/// How many levels there are, and which scales are worth trying without importance weights.
pub(crate) struct Precision {
    top: f32,
    steps: Steps,
}

pub(crate) const FOUR_BITS: Precision =
    Precision { top: 15.0, steps: Steps { first: -1.0, width: 0.1, last: 20 } };
pub(crate) const FIVE_BITS: Precision =
    Precision { top: 31.0, steps: Steps { first: -0.5, width: 0.1, last: 15 } };

/// A block but for the packing of its levels.
pub(crate) struct Superblock {
    pub(crate) scale: [u8; 2],
    pub(crate) minimum: [u8; 2],
    pub(crate) scales: Scales,
    /// Of the groups of 32 in pairs.
    pub(crate) levels: [[[u8; 32]; 2]; 4],
}

/// The scales and minimums of the groups, before and after they are cut to six bits.
struct Groups {
    scale: f32,
    minimum: f32,
    scales: [u8; 8],
    minimums: [u8; 8],
}

/// Fits scale and minimum to each group, stores them in six bits and rounds to the result.
pub(crate) fn encode(
    values: &[[f32; 32]; 8],
    columns: Option<&[[f32; 32]; 8]>,
    precision: &Precision,
) -> Option<Superblock> {
    let groups = match columns {
        None => fit_plain(values, precision),
        Some(columns) => fit_important(values, columns, precision.top),
    };
    let (scale, minimum) = (to_f16(groups.scale)?, to_f16(groups.minimum)?);
    let scales = Scales::pack(groups.scales, groups.minimums);

    let stored: [[f32; 2]; 8] = must_cast(scales.times(from_f16(scale), from_f16(minimum)));
    let mut levels = [[0; 32]; 8];
    for ((levels, values), [scale, minimum]) in levels.iter_mut().zip(values).zip(stored) {
        *levels = values.map(|x| level((x + minimum) / scale, 0.0, precision.top) as u8);
    }
    Some(Superblock { scale, minimum, scales, levels: must_cast(levels) })
}

/// Larger values count for more; the largest scale and the largest minimum become 63.
fn fit_plain(values: &[[f32; 32]; 8], precision: &Precision) -> Groups {
    let (mut scales, mut minimums) = ([0.0; 8], [0.0; 8]);
    for ((values, scale), minimum) in values.iter().zip(&mut scales).zip(&mut minimums) {
        let root_mean_square = libm::sqrtf(sum_of_squares(values) / 32.0);
        let weights = values.map(|x| root_mean_square + x.abs());
        let fit = fit::affine(values, &weights, precision.top, precision.steps);
        (*scale, *minimum) = (fit.scale, -fit.minimum);
    }
    let (scale, scales) = to_largest(&scales);
    let (minimum, minimums) = to_largest(&minimums);
    Groups { scale, minimum, scales, minimums }
}

/// The scale that takes the largest value to 63, and the levels.
fn to_largest(values: &[f32; 8]) -> (f32, [u8; 8]) {
    let (_, largest) = extent(values);
    if largest <= 0.0 {
        return (0.0, [0; 8]);
    }
    let per_level = 63.0 / largest;
    (largest / 63.0, values.map(|x| level(per_level * x, 0.0, 63.0) as u8))
}

/// Columns count by their importance, groups by the sum of it.
fn fit_important(values: &[[f32; 32]; 8], columns: &[[f32; 32]; 8], top: f32) -> Groups {
    let mean_square = 2.0 * sum_of_squares(values.as_flattened()) / 256.0;
    let (mut scales, mut minimums, mut group_weights) = ([0.0; 8], [0.0; 8], [0.0; 8]);
    let groups = values.iter().zip(columns).zip(&mut scales).zip(&mut minimums).zip(&mut group_weights);
    for ((((values, columns), scale), minimum), group_weight) in groups {
        let weights = fit::weights(values, columns, mean_square);
        let fit = fit::affine(values, &weights, top, FINE);
        (*scale, *minimum) = (fit.scale, -fit.minimum);
        *group_weight = weights.iter().sum();
    }
    let (scale, scales) = fit::positive(&scales, &group_weights, 63.0);
    let (minimum, minimums) = fit::positive(&minimums, &group_weights, 63.0);
    Groups { scale, minimum, scales, minimums }
}

fn sum_of_squares(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |sum, x| sum + x * x)
}
