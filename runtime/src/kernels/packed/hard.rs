//! f32 arithmetic where there is a floating-point unit.

pub(super) use ouro_quant::layout::from_f16;

/// `(scale * x) * f32(product)`.
#[inline(always)]
pub(super) fn product(scale: f32, x: f32, product: i32) -> f32 {
    (scale * x) * product as f32
}

/// `a * f32(b)`.
#[inline(always)]
pub(super) fn times_integer(a: f32, b: i32) -> f32 {
    a * b as f32
}

/// `a * b`.
#[inline(always)]
pub(super) fn times(a: f32, b: f32) -> f32 {
    a * b
}

/// `a + b`.
#[inline(always)]
pub(super) fn plus(a: f32, b: f32) -> f32 {
    a + b
}
