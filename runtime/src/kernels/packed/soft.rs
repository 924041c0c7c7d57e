//! f32 arithmetic in integers, for cores without a floating-point unit: what products of matrices
//! need, for the numbers that they meet. Everything else (zeros, subnormal numbers, infinities, NaN,
//! results out of range) goes to the compiler's own functions. The bits are those of IEEE arithmetic.

use ouro_quant::layout;

/// The exponents' bias.
const BIAS: u32 = 127;

/// As [`layout::from_f16`].
#[inline(always)]
pub(super) fn from_f16(bytes: [u8; 2]) -> f32 {
    let bits = u32::from(u16::from_le_bytes(bytes));
    if (bits >> 10 & 31).wrapping_sub(1) >= 30 {
        return rare_f16(bytes);
    }
    let magnitude = ((bits & 0x7fff) << 13) + ((BIAS - 15) << 23);
    f32::from_bits((bits & 0x8000) << 16 | magnitude)
}

#[cold]
#[inline(never)]
fn rare_f16(bytes: [u8; 2]) -> f32 {
    layout::from_f16(bytes)
}

/// `(scale * x) * f32(product)`.
#[inline(always)]
pub(super) fn product(scale: f32, x: f32, product: i32) -> f32 {
    let parts = (Parts::of(scale), Parts::of(x), Parts::of_integer(product));
    let (Some(scale_parts), Some(x_parts), Some(product_parts)) = parts else {
        return rare_product(scale, x, product);
    };
    if let Some(result) = scale_parts.times(x_parts).and_then(|scaled| scaled.times(product_parts)) {
        // An integer adds less than 24 to the exponent, so the first product's is normal too.
        if result.exponent.wrapping_sub(25) < 254 - 25 {
            return result.pack();
        }
    }
    rare_product(scale, x, product)
}

#[cold]
#[inline(never)]
fn rare_product(scale: f32, x: f32, product: i32) -> f32 {
    (scale * x) * product as f32
}

/// `a * f32(b)`.
#[inline(always)]
pub(super) fn times_integer(a: f32, b: i32) -> f32 {
    if let (Some(x), Some(y)) = (Parts::of(a), Parts::of_integer(b))
        && let Some(result) = x.times(y)
        && is_normal(result.exponent)
    {
        return result.pack();
    }
    a * b as f32
}

/// `a * b`.
#[inline(always)]
pub(super) fn times(a: f32, b: f32) -> f32 {
    if let (Some(x), Some(y)) = (Parts::of(a), Parts::of(b))
        && let Some(result) = x.times(y)
        && is_normal(result.exponent)
    {
        return result.pack();
    }
    a * b
}

/// `a + b`.
#[inline(always)]
pub(super) fn plus(a: f32, b: f32) -> f32 {
    let (x, y) = (a.to_bits(), b.to_bits());
    let (large, small) = if x << 1 >= y << 1 { (x, y) } else { (y, x) };
    let (Some(larger), Some(smaller)) = (Parts::of_bits(large), Parts::of_bits(small)) else { return a + b };
    // From here on the leading bit is bit 30, with seven bits below the mantissa's last.
    let apart = (larger.exponent - smaller.exponent).min(31);
    let all = smaller.mantissa >> 1;
    let shifted = all >> apart;
    let shifted = shifted | u32::from(shifted << apart != all);
    let mut exponent = larger.exponent;
    let mut sum;
    if (large ^ small) >> 31 == 0 {
        sum = (larger.mantissa >> 1) + shifted;
        if sum >> 31 != 0 {
            sum = sum >> 1 | sum & 1;
            exponent += 1;
        }
    } else {
        sum = (larger.mantissa >> 1) - shifted;
        if sum == 0 {
            return 0.0;
        }
        while sum >> 30 == 0 {
            sum <<= 1;
            exponent = exponent.wrapping_sub(1);
        }
    }
    let rounded = sum + 0x3f + (sum >> 7 & 1);
    if is_normal(exponent) { pack(large, exponent, rounded >> 7) } else { a + b }
}

/// A normal number.
#[derive(Clone, Copy)]
struct Parts {
    /// Its highest bit.
    sign: u32,
    /// With its bias; wraps.
    exponent: u32,
    /// The leading bit is bit 31. The lowest eight bits are zero.
    mantissa: u32,
}

impl Parts {
    /// `None` if it is none.
    #[inline(always)]
    fn of(x: f32) -> Option<Self> {
        Self::of_bits(x.to_bits())
    }

    #[inline(always)]
    fn of_bits(bits: u32) -> Option<Self> {
        let exponent = bits >> 23 & 0xff;
        let parts = Self { sign: bits, exponent, mantissa: bits << 8 | 1 << 31 };
        (exponent.wrapping_sub(1) < 254).then_some(parts)
    }

    /// An integer other than zero, of at most 24 bits.
    #[inline(always)]
    fn of_integer(x: i32) -> Option<Self> {
        let magnitude = x.unsigned_abs();
        let zeros = if magnitude >> 8 == 0 {
            24 + zeros(magnitude)
        } else if magnitude >> 16 == 0 {
            16 + zeros(magnitude >> 8)
        } else {
            8 + zeros(magnitude >> 16)
        };
        let parts = Self {
            sign: x.cast_unsigned(),
            exponent: BIAS + 31 - zeros,
            mantissa: magnitude << (zeros & 31),
        };
        (magnitude.wrapping_sub(1) < (1 << 24) - 1).then_some(parts)
    }

    #[inline(always)]
    fn pack(self) -> f32 {
        pack(self.sign, self.exponent, self.mantissa >> 8)
    }

    /// The product, rounded; its exponent may be out of range. `None` if rounding carries to it, which
    /// is rare.
    #[inline(always)]
    fn times(self, other: Self) -> Option<Self> {
        let mut bits = high(self.mantissa, other.mantissa);
        let mut exponent = self.exponent.wrapping_add(other.exponent).wrapping_sub(BIAS - 1);
        if bits >> 31 == 0 {
            bits <<= 1;
            exponent = exponent.wrapping_sub(1);
        }
        let rounded = bits.checked_add(0x7f + (bits >> 8 & 1))?;
        Some(Self { sign: self.sign ^ other.sign, exponent, mantissa: rounded & !0xff })
    }
}

/// Leading zeros of a byte. Cores without a floating-point unit seldom have an instruction for it.
#[inline(always)]
fn zeros(byte: u32) -> u32 {
    const ZEROS: [u8; 256] = {
        let mut zeros = [8; 256];
        let mut byte = 1;
        while byte < 256 {
            zeros[byte] = (byte as u8).leading_zeros() as u8;
            byte += 1;
        }
        zeros
    };
    u32::from(ZEROS[byte as usize & 0xff])
}

/// Whether it is that of a normal number, with room for what rounding may carry.
#[inline(always)]
fn is_normal(exponent: u32) -> bool {
    exponent.wrapping_sub(1) < 253
}

/// The leading bit of the mantissa's 24 is added to the exponent, and so is what rounding carried.
#[inline(always)]
fn pack(sign: u32, exponent: u32, mantissa: u32) -> f32 {
    f32::from_bits((sign & 1 << 31) + ((exponent - 1) << 23) + mantissa)
}

/// The upper half of a product; its lowest bit is also set if anything of the lower half is. The
/// lowest eight bits of the factors are zero.
#[inline(always)]
fn high(a: u32, b: u32) -> u32 {
    if cfg!(ouro_short_multiply) { high_by_parts(a, b) } else { high_of_long(a, b) }
}

/// [`high`] where there is a product of 64 bits.
#[inline(always)]
pub(super) fn high_of_long(a: u32, b: u32) -> u32 {
    let product = u64::from(a) * u64::from(b);
    (product >> 32) as u32 | u32::from(product as u32 != 0)
}

/// [`high`] where products have 32 bits.
#[inline(always)]
pub(super) fn high_by_parts(a: u32, b: u32) -> u32 {
    let (a1, a0) = (a >> 20, a >> 8 & 0xfff);
    let (b1, b0) = (b >> 20, b >> 8 & 0xfff);
    let low = a0 * b0;
    let middle = a1 * b0 + a0 * b1 + (low >> 12);
    let high = ((a1 * b1) << 8) + (middle >> 4);
    high | u32::from((middle & 0xf) | (low & 0xfff) != 0)
}
