//! Conversions and roundings, the same on every target and without branches.

use half::f16;

/// The value of a little-endian f16.
#[inline]
#[must_use]
pub fn from_f16(bytes: [u8; 2]) -> f32 {
    let bits = u32::from(u16::from_le_bytes(bytes));
    let sign = (bits & 0x8000) << 16;
    let magnitude = bits & 0x7fff;
    // Exponent biases are 15 and 127; infinity and NaN go on to the top exponent.
    let rebias = (127 - 15) << 23;
    let normal = (magnitude << 13) + rebias;
    let quiet = if magnitude > 0x7c00 { 1 << 22 } else { 0 };
    let special = (normal + rebias) | quiet;
    let subnormal = (magnitude as f32 * f32::from_bits((127 - 24) << 23)).to_bits();
    let finite = if magnitude < 0x0400 { subnormal } else { normal };
    f32::from_bits(sign | if magnitude < 0x7c00 { finite } else { special })
}

/// `value` rounded to a little-endian f16, or `None` if that is not finite.
#[inline]
pub(crate) fn to_f16(value: f32) -> Option<[u8; 2]> {
    let rounded = f16::from_f32(value);
    rounded.is_finite().then(|| rounded.to_le_bytes())
}

/// The integer nearest to `x`, ties to even, for magnitudes below 2^22. Larger ones lose their
/// lowest bits and NaN stays NaN.
#[inline]
pub(crate) fn round_even(x: f32) -> f32 {
    // 1.5 * 2^23: above it a unit in the last place is one.
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC) - MAGIC
}

/// The integer nearest to `x`, ties to even, within `low..=high`; `low` for NaN.
#[inline]
pub(crate) fn level(x: f32, low: f32, high: f32) -> f32 {
    // Clamped first, so that rounding is exact; not `clamp`, which can panic.
    let x = if x > low { x } else { low };
    round_even(if x < high { x } else { high })
}

/// The integer nearest to `x`, ties away from zero, within the range of an `i8`; 0 for NaN.
#[inline]
pub(crate) fn round_away(x: f32) -> i8 {
    // The largest number below one half: one half itself would carry 0.49999997 over.
    (x + 0.499_999_97_f32.copysign(x)) as i8
}

/// `1 / x`, or 0 for 0.
#[inline]
pub(crate) fn recip_or_zero(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_is_what_half_says() {
        for bits in 0..=u16::MAX {
            let expected = f16::from_bits(bits).to_f32();
            assert_eq!(from_f16(bits.to_le_bytes()).to_bits(), expected.to_bits(), "{bits:#06x}");
        }
    }

    #[test]
    fn roundings_are_what_std_says() {
        // Every float around each tie, and a coarse walk over the rest.
        let ties = (-256..=256).map(|i| i as f32 * 0.5);
        let near = ties.flat_map(|x| [x, x.next_up(), x.next_down()]);
        let walk = (0..1_000_000).map(|i| (i - 500_000) as f32 * 0.000_301);
        for x in near.chain(walk) {
            assert_eq!(round_even(x), x.round_ties_even(), "{x:?}");
            assert_eq!(round_away(x), x.round() as i8, "{x:?}");
        }
    }

    #[test]
    fn levels_stay_in_range() {
        for (x, expected) in [
            (f32::NAN, -4.0),
            (f32::INFINITY, 3.0),
            (f32::NEG_INFINITY, -4.0),
            (f32::MAX, 3.0),
            (-4.5, -4.0),
            (0.5, 0.0),
            (1.5, 2.0),
        ] {
            assert_eq!(level(x, -4.0, 3.0), expected, "{x}");
        }
    }

    #[test]
    fn scales_beyond_f16_are_refused() {
        assert_eq!(to_f16(65504.0), Some(f16::MAX.to_le_bytes()));
        for x in [65520.0, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            assert_eq!(to_f16(x), None, "{x}");
        }
    }
}
