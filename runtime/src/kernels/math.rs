//! Functions of one number, each with one definition in IEEE's basic operations, so that the bits
//! are the same everywhere: nothing is fused, and nothing comes from the platform. Their errors
//! stand in `README.md`, "Functions", and are measured by `tests/tests/math.rs`.
//!
//! [`exp`] and what is made of it have no branches, so that loops over them become vectors.

use super::double::{Double, single};

/// 1.5 * 2^23: adding it rounds to an integer, ties to even, which the low bits then hold.
const ROUND: f32 = 12_582_912.0;

/// e^x. Zero below -86.6, so that no result is subnormal; infinite above
/// 88.73.
#[must_use]
#[cfg_attr(not(ouro_size), inline(always))]
#[cfg_attr(ouro_size, inline(never))]
pub fn exp(x: f32) -> f32 {
    // ln 2 in two parts: products of the first with an exponent are exact.
    #[allow(clippy::excessive_precision)] // exactly this number
    const LN_2: [f32; 2] = [0.693_359_375, -2.121_944_4e-4];
    // 2^-125: below it the power of two would be subnormal.
    const LOWEST: f32 = -86.643_39;
    const HIGHEST: f32 = 89.0;
    // x = n ln 2 + r, |r| <= ln 2 / 2. A NaN stays one.
    let clamped = if x < LOWEST { LOWEST } else { x };
    let clamped = if clamped > HIGHEST { HIGHEST } else { clamped };
    let rounded = clamped * core::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (clamped - n * LN_2[0]) - n * LN_2[1];
    // (e^r - 1 - r) / r^2, minimax: relative error of e^r 4e-9.
    let tail =
        0.499_999_94 + r * (0.166_665_2 + r * (0.041_668_393 + r * (0.008_368_78 + r * 0.001_381_445_9)));
    let e = 1.0 + (r + r * r * tail);
    // Times 2^(n - 1), then 2: n may be 128.
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(126 << 23));
    let e = e * power * 2.0;
    if x < LOWEST { 0.0 } else { e }
}

/// The logistic function, `1 / (1 + exp(-x))`.
#[must_use]
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x * sigmoid(x)`, in one division.
#[must_use]
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `1 / sqrt(x)`, both correctly rounded.
#[must_use]
#[inline(always)]
pub fn rsqrt(x: f32) -> f32 {
    1.0 / sqrt(x)
}

/// The square root, correctly rounded: by the instruction on Arm's small cores, where `libm` would
/// compute it in integers.
#[must_use]
#[inline(always)]
pub fn sqrt(x: f32) -> f32 {
    #[cfg(ouro_vsqrt)]
    return unit::sqrt(x);
    #[cfg(not(ouro_vsqrt))]
    libm::sqrtf(x)
}

/// What the floating-point unit of Arm's small cores does.
#[cfg(ouro_vsqrt)]
#[allow(unsafe_code)]
mod unit {
    // A function, since stable Rust knows none of the unit's registers on these targets.
    core::arch::global_asm!(
        ".section .text.ouro_vsqrt, \"ax\", %progbits",
        ".globl ouro_vsqrt",
        ".hidden ouro_vsqrt",
        ".type ouro_vsqrt, %function",
        ".thumb_func",
        "ouro_vsqrt:",
        ".inst.w 0xeeb10ac0", // vsqrt.f32 s0, s0, which assembly outside of functions does not know on all targets
        "bx lr",
        ".text",
    );

    unsafe extern "C" {
        #[link_name = "ouro_vsqrt"]
        pub(super) safe fn sqrt(x: f32) -> f32;
    }
}

/// The largest angle that [`sin_cos`] is made for: 2^28, far beyond the positions of any context.
const LARGEST_ANGLE: f32 = 268_435_456.0;

/// Sine and cosine of an angle up to 2^28; not a number beyond.
#[must_use]
pub fn sin_cos(angle: f32) -> [f32; 2] {
    // pi / 2 in two parts: products of the first with up to 2^28 quarters are exact.
    const QUARTER: [f64; 2] = [1.570_796_310_901_641_8, 1.589_325_477_352_819_6e-8];
    // 1.5 * 2^52, as `ROUND`.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    if !(-LARGEST_ANGLE..=LARGEST_ANGLE).contains(&angle) {
        return [f32::NAN; 2];
    }
    let x = Double::from(angle);
    let rounded = x * core::f64::consts::FRAC_2_PI + ROUND;
    let quarters = rounded - ROUND;
    let r = (x - quarters * QUARTER[0]) - quarters * QUARTER[1];
    // Taylor's series up to the terms that are below 2^-36 at pi / 4.
    let z = r * r;
    let sin = r - r
        * z
        * (1.0 / 6.0
            - z * (1.0 / 120.0 - z * (1.0 / 5040.0 - z * (1.0 / 362_880.0 - z * (1.0 / 39_916_800.0)))));
    let cos = 1.0
        - z * (0.5
            - z * (1.0 / 24.0
                - z * (1.0 / 720.0
                    - z * (1.0 / 40_320.0 - z * (1.0 / 3_628_800.0 - z * (1.0 / 479_001_600.0))))));
    let (sin, cos) = (single(sin), single(cos));
    match rounded.to_bits() & 3 {
        0 => [sin, cos],
        1 => [cos, -sin],
        2 => [-sin, -cos],
        _ => [-cos, sin],
    }
}

/// `1 / x`, to within 2^-51 of it, for magnitudes of a normal f32. Without the division of f64, which
/// is a kilobyte of code where integers have to do it.
pub(crate) fn reciprocal(x: Double) -> Double {
    // Newton's method: each step squares the error, 2^-23 to begin with.
    let step = |guess: Double| guess * (2.0 - x * guess);
    step(step(Double::from(1.0 / single(x))))
}

/// The natural logarithm of a positive number, in f64: for the frequencies of RoPE.
pub(crate) fn ln(x: f32) -> Double {
    let bits = Double::from(x).to_bits();
    let (exponent, fraction) = ((bits >> 52) as i32 - 1023, bits & ((1 << 52) - 1));
    // From half the square root of 2 up to the square root.
    let half = u64::from(1023 << 52 | fraction > core::f64::consts::SQRT_2.to_bits());
    let mantissa = Double::from_bits((1023 - half) << 52 | fraction);
    let exponent = exponent + half as i32;
    // ln m = 2 artanh s, |s| <= 0.1716: terms up to that which is below 2^-60.
    const TERMS: [f64; 12] = [
        1.0,
        1.0 / 3.0,
        1.0 / 5.0,
        1.0 / 7.0,
        1.0 / 9.0,
        1.0 / 11.0,
        1.0 / 13.0,
        1.0 / 15.0,
        1.0 / 17.0,
        1.0 / 19.0,
        1.0 / 21.0,
        1.0 / 23.0,
    ];
    let s = (mantissa - 1.0) * reciprocal(mantissa + 1.0);
    let series = TERMS.iter().rev().fold(Double::from(0.0f32), |sum, term| sum * (s * s) + *term);
    Double::from(exponent as f32) * core::f64::consts::LN_2 + 2.0 * s * series
}

/// e^x in f64, for magnitudes up to 700.
pub(crate) fn exp_f64(x: Double) -> Double {
    // 1.5 * 2^52, as `ROUND`.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    // ln 2 in two parts: products of the first with exponents are exact.
    const LN_2: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];
    let rounded = x * core::f64::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * LN_2[0]) - n * LN_2[1];
    // Taylor's series up to the term that is below 2^-57 at ln 2 / 2.
    const TERMS: [f64; 15] = [
        1.0,
        1.0,
        1.0 / 2.0,
        1.0 / 6.0,
        1.0 / 24.0,
        1.0 / 120.0,
        1.0 / 720.0,
        1.0 / 5_040.0,
        1.0 / 40_320.0,
        1.0 / 362_880.0,
        1.0 / 3_628_800.0,
        1.0 / 39_916_800.0,
        1.0 / 479_001_600.0,
        1.0 / 6_227_020_800.0,
        1.0 / 87_178_291_200.0,
    ];
    let e = TERMS.iter().rev().fold(Double::from(0.0f32), |sum, term| sum * r + *term);
    e * Double::from_bits((rounded.to_bits() << 52).wrapping_add(1023 << 52))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RoPE's frequencies, rounded to f32, are those of the standard library's power.
    #[test]
    fn powers_are_what_std_says() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let random = core::iter::from_fn(|| {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            Some(f32::from_bits((seed >> 33) as u32)).filter(|theta| theta.is_normal())
        });
        let known = [1e4, 5e5, 1e6, 8e6, 1.0, 1.5, 0.5, f32::MAX, f32::MIN_POSITIVE, 1e-45];
        for theta in known.into_iter().chain(random.take(300)) {
            for head_dim in [2, 16, 48, 64, 80, 96, 128, 256] {
                for i in 0..head_dim / 2 {
                    let power = -f64::from(2 * i) / f64::from(head_dim);
                    let expected = f64::from(theta).powf(power) as f32;
                    let found =
                        exp_f64(f64::from(i) * (-2.0 * reciprocal(head_dim.into()) * ln(theta))) as f32;
                    assert_eq!(found.to_bits(), expected.to_bits(), "{theta}^{power}: {found}, {expected}");
                }
            }
        }
    }

    #[test]
    fn exp_at_the_ends() {
        for (x, expected) in [
            (0.0, 1.0),
            (-0.0, 1.0),
            (f32::NEG_INFINITY, 0.0),
            (f32::MIN, 0.0),
            (-86.65, 0.0),
            (f32::INFINITY, f32::INFINITY),
            (f32::MAX, f32::INFINITY),
            (88.73, f32::INFINITY),
            (1e-30, 1.0),
        ] {
            assert_eq!(exp(x).to_bits(), f32::to_bits(expected), "{x}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(88.72).is_finite() && exp(-86.6) >= f32::MIN_POSITIVE);
    }

    #[test]
    fn sigmoid_and_silu_at_the_ends() {
        for (x, [expected, times_x]) in [
            (0.0, [0.5, 0.0]),
            (200.0, [1.0, 200.0]),
            (-200.0, [0.0, -0.0]),
            (f32::INFINITY, [1.0, f32::INFINITY]),
        ] {
            assert_eq!([sigmoid(x), silu(x)], [expected, times_x], "{x}");
        }
        assert!(sigmoid(f32::NAN).is_nan() && silu(f32::NAN).is_nan());
    }

    #[test]
    fn angles_beyond_the_domain() {
        for angle in [f32::NAN, f32::INFINITY, -f32::INFINITY, 3e8] {
            assert!(sin_cos(angle).iter().all(|x| x.is_nan()), "{angle}");
        }
        assert_eq!(sin_cos(0.0), [0.0, 1.0]);
    }
}
