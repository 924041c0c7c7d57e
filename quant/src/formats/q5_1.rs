use crate::block::Block;
use crate::float::from_f16;
use bytemuck::{Pod, Zeroable};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q5_1 {
    scale: [u8; 2],
    minimum: [u8; 2],
    /// Bit i is the fifth bit of value i.
    fifth: [u8; 4],
    /// Value i in the low half of byte i, value i + 16 in the high half.
    levels: [u8; 16],
}

impl Block for Q5_1 {
    type Values = [[f32; 16]; 2];

    #[inline]
    fn decode(&self, [first, second]: &mut Self::Values) {
        let (scale, minimum) = (from_f16(self.scale), from_f16(self.minimum));
        let fifth = u32::from_le_bytes(self.fifth);
        for (i, ((low, high), &byte)) in first.iter_mut().zip(second).zip(&self.levels).enumerate() {
            let low_level = u32::from(byte & 15) | (fifth >> i & 1) << 4;
            let high_level = u32::from(byte >> 4) | (fifth >> (i + 16) & 1) << 4;
            *low = low_level as i32 as f32 * scale + minimum;
            *high = high_level as i32 as f32 * scale + minimum;
        }
    }
}
