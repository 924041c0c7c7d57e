//! Formats whose block is one value.

use crate::block::{Block, Encode};
use crate::float::from_f16;
use bytemuck::{Pod, Zeroable};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct F32([u8; 4]);

impl Block for F32 {
    type Values = f32;

    const ENCODE: Option<Encode<Self>> = Some(|value, _| Some(Self(value.to_le_bytes())));

    #[inline]
    fn decode(&self, value: &mut f32) {
        *value = f32::from_le_bytes(self.0);
    }
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct F16([u8; 2]);

impl Block for F16 {
    type Values = f32;

    const ENCODE: Option<Encode<Self>> =
        Some(|value, _| Some(Self(half::f16::from_f32(*value).to_le_bytes())));

    #[inline]
    fn decode(&self, value: &mut f32) {
        *value = from_f16(self.0);
    }
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BF16([u8; 2]);

impl Block for BF16 {
    type Values = f32;

    const ENCODE: Option<Encode<Self>> =
        Some(|value, _| Some(Self(half::bf16::from_f32(*value).to_le_bytes())));

    #[inline]
    fn decode(&self, value: &mut f32) {
        // Not half's conversion, which changes signalling NaNs.
        *value = f32::from_bits(u32::from(u16::from_le_bytes(self.0)) << 16);
    }
}
