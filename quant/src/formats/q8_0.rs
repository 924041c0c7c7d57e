use crate::block::{Block, Encode};
use crate::fit::largest;
use crate::float::{from_f16, recip_or_zero, round_away, to_f16};
use bytemuck::{Pod, Zeroable};

/// 32 values of 8 bits and a scale.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q8_0 {
    /// The scale, an f16.
    pub scale: [u8; 2],
    /// The values divided by the scale.
    pub levels: [i8; 32],
}

impl Block for Q8_0 {
    type Values = [f32; 32];

    /// The value of largest magnitude becomes level 127 or -127.
    const ENCODE: Option<Encode<Self>> = Some(|values, _| {
        let scale = largest(values).abs() / 127.0;
        let per_level = recip_or_zero(scale);
        let levels = values.map(|x| round_away(x * per_level));
        Some(Self { scale: to_f16(scale)?, levels })
    });

    #[inline]
    fn decode(&self, values: &mut [f32; 32]) {
        let scale = from_f16(self.scale);
        for (value, &level) in values.iter_mut().zip(&self.levels) {
            *value = f32::from(level) * scale;
        }
    }
}
