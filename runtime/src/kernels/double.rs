//! Double precision for the few functions that need it. Where size counts and the core has none, the
//! compiler's routines for it are 2.5 kilobytes; these, of 0.7, give the same bits for what those functions
//! compute with: zero and normal numbers, never infinities.

/// A number of double precision.
#[cfg(not(ouro_soft_double))]
pub(crate) type Double = f64;
#[cfg(ouro_soft_double)]
pub(crate) use integers::Double;

/// Rounded to single precision.
#[cfg(not(ouro_soft_double))]
#[inline(always)]
pub(crate) fn single(x: Double) -> f32 {
    x as f32
}
#[cfg(ouro_soft_double)]
pub(crate) use integers::single;

#[cfg(any(test, ouro_soft_double))]
mod integers {
    use core::ops::{Add, Mul, Neg, Sub};

    const SIGN: u64 = 1 << 63;
    /// Bits of the fraction.
    const FRACTION: i32 = 52;
    /// What an exponent of single precision is less by.
    const NARROWER: i32 = 1023 - 127;

    /// Its bits.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Double(u64);

    impl Double {
        pub(crate) fn from_bits(bits: u64) -> Self {
            Self(bits)
        }

        pub(crate) fn to_bits(self) -> u64 {
            self.0
        }

        /// The exponent as stored, and the significand with its leading bit; of zero, zeros.
        fn parts(self) -> (i32, u64) {
            let exponent = (self.0 >> FRACTION) as i32 & 0x7ff;
            let leading = u64::from(exponent != 0) << FRACTION;
            (exponent, self.0 & ((1 << FRACTION) - 1) | leading)
        }

        /// `significand`, in which bit 63 would have this stored exponent, rounded, ties to even.
        #[inline(never)]
        fn rounded(sign: u64, exponent: i32, significand: u64) -> Self {
            let up = significand.leading_zeros();
            if up == 64 {
                return Self(sign);
            }
            let significand = significand << up;
            // The leading bit adds one to the exponent, and so does a carry out of the fraction.
            let below = (exponent - up as i32 - 1) as u64;
            Self(sign | ((below << FRACTION).wrapping_add(nearest(significand, 63 - FRACTION as u32))))
        }
    }

    /// `significand / 2^bits`, rounded, ties to even; `bits` is 1 to 63.
    #[inline(always)]
    fn nearest(significand: u64, bits: u32) -> u64 {
        let (kept, rest) = (significand >> bits, significand << (64 - bits));
        kept + u64::from(rest > SIGN || rest == SIGN && kept & 1 == 1)
    }

    impl From<f32> for Double {
        fn from(x: f32) -> Self {
            let bits = x.to_bits();
            let exponent = (bits >> 23) as i32 & 0xff;
            let significand = bits & 0x7f_ffff | u32::from(exponent != 0) << 23;
            let sign = u64::from(bits >> 31) << 63;
            Self::rounded(sign, exponent.max(1) + NARROWER + 63 - 23, significand.into())
        }
    }

    impl From<f64> for Double {
        #[inline(always)]
        fn from(x: f64) -> Self {
            Self(x.to_bits())
        }
    }

    /// Rounded to single precision.
    #[inline(never)]
    pub(crate) fn single(x: Double) -> f32 {
        let (exponent, significand) = x.parts();
        let exponent = exponent - NARROWER;
        let sign = (x.0 >> 32) as u32 & 1 << 31;
        if exponent >= 255 {
            return f32::from_bits(sign | f32::INFINITY.to_bits());
        }
        // Subnormal numbers keep fewer bits.
        let bits = (FRACTION - 23 + (1 - exponent).max(0)).min(63);
        let below = ((exponent - 1).max(0) as u32) << 23;
        f32::from_bits(sign | below.wrapping_add(nearest(significand, bits as u32) as u32))
    }

    impl Neg for Double {
        type Output = Self;
        fn neg(self) -> Self {
            Self(self.0 ^ SIGN)
        }
    }

    impl Add for Double {
        type Output = Self;
        #[inline(never)]
        fn add(self, other: Self) -> Self {
            let (large, small) = if self.0 & !SIGN < other.0 & !SIGN { (other, self) } else { (self, other) };
            let sign = large.0 & SIGN;
            let ((exponent, large_bits), (lower, small_bits)) = (large.parts(), small.parts());
            // One bit above for a carry, ten below: the last of them for all that is shifted out.
            let (whole, down) = (small_bits << 10, ((exponent - lower) as u32).min(63));
            let part = whole >> down;
            let part = part | u64::from(part << down != whole);
            let sum = large_bits << 10;
            let sum = if sign == small.0 & SIGN { sum + part } else { sum.wrapping_sub(part) };
            let sign = if sum == 0 { sign & small.0 } else { sign };
            Self::rounded(sign, exponent + 1, sum)
        }
    }

    impl Sub for Double {
        type Output = Self;
        fn sub(self, other: Self) -> Self {
            self + -other
        }
    }

    impl Mul for Double {
        type Output = Self;
        #[inline(never)]
        fn mul(self, other: Self) -> Self {
            let ((a_exponent, a), (b_exponent, b)) = (self.parts(), other.parts());
            let halves = |x: u64| [x << 11 & 0xffff_ffff, x >> 21];
            let ([a_low, a_high], [b_low, b_high]) = (halves(a), halves(b));
            let (low, cross, crossed) = (a_low * b_low, a_low * b_high, a_high * b_low);
            let middle = (low >> 32) + (cross & 0xffff_ffff) + (crossed & 0xffff_ffff);
            let high = a_high * b_high + (cross >> 32) + (crossed >> 32) + (middle >> 32);
            let rest = low as u32 | middle as u32;
            let exponent = a_exponent + b_exponent - 1022;
            Self::rounded((self.0 ^ other.0) & SIGN, exponent, high | u64::from(rest != 0))
        }
    }

    /// With constants on either side.
    macro_rules! with_constants {
        ($($trait:ident $name:ident),*) => {
            $(
                impl $trait<f64> for Double {
                    type Output = Self;
                    #[inline(always)]
                    fn $name(self, other: f64) -> Self {
                        $trait::$name(self, Self::from(other))
                    }
                }

                impl $trait<Double> for f64 {
                    type Output = Double;
                    #[inline(always)]
                    fn $name(self, other: Double) -> Double {
                        $trait::$name(Double::from(self), other)
                    }
                }
            )*
        };
    }

    with_constants!(Add add, Sub sub, Mul mul);
}

#[cfg(test)]
mod tests {
    use super::integers::{self, Double};

    /// Bit for bit what the host computes, for numbers of exponents near to each other and far.
    #[test]
    fn integers_compute_what_doubles_do() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            state ^ state >> 29
        };
        let special = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 1.0 + f64::EPSILON, 6_755_399_441_055_744.0];
        for round in 0..400_000 {
            let mut number = || {
                let bits = random();
                let exponent = 1023 + (bits >> 52 & 0x7f) as i64 - 64;
                // Fractions of few bits too: ties.
                let fraction =
                    (bits & ((1 << 52) - 1)) >> (random() % 53) << (random() % 53) & ((1 << 52) - 1);
                match bits >> 59 & 0x1f {
                    0 => special[(random() % 8) as usize],
                    _ => f64::from_bits(bits & 1 << 63 | (exponent as u64) << 52 | fraction),
                }
            };
            let (a, b) = (number(), number());
            let (soft_a, soft_b) = (Double::from_bits(a.to_bits()), Double::from_bits(b.to_bits()));
            for (name, found, expected) in [
                ("+", soft_a + soft_b, a + b),
                ("-", soft_a - soft_b, a - b),
                ("*", soft_a * soft_b, a * b),
                ("1 -", 1.0 - soft_a, 1.0 - a),
            ] {
                assert_eq!(found.to_bits(), expected.to_bits(), "{round}: {a:?} {name} {b:?} = {expected:?}");
            }
        }
        // Of every exponent, subnormal numbers and what overflows among them.
        for _ in 0..400_000 {
            let bits = random();
            let x = f32::from_bits(bits as u32);
            if x.is_finite() {
                assert_eq!(Double::from(x).to_bits(), f64::from(x).to_bits(), "{x:?}");
            }
            let fraction = random() >> 12 >> (random() % 53) << (random() % 53) & ((1 << 52) - 1);
            let x = f64::from_bits(bits & 1 << 63 | (1023 - 160 + (bits >> 52) % 300) << 52 | fraction);
            assert_eq!(integers::single(x.into()).to_bits(), (x as f32).to_bits(), "{x:?}");
        }
    }
}
