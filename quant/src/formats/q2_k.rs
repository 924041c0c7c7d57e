use crate::block::Block;
use crate::float::from_f16;
use bytemuck::{Pod, Zeroable};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q2_K {
    /// For each 16 values, their scale in the low half and their minimum in the high half.
    scales: [[[u8; 2]; 4]; 2],
    /// For each half of the block, four layers of two bits.
    levels: [[[u8; 16]; 2]; 2],
    scale: [u8; 2],
    minimum: [u8; 2],
}

impl Block for Q2_K {
    /// Two halves of four layers of two groups of 16.
    type Values = [[[[f32; 16]; 2]; 4]; 2];

    #[inline]
    fn decode(&self, values: &mut Self::Values) {
        let (block_scale, block_minimum) = (from_f16(self.scale), from_f16(self.minimum));
        for ((half, scales), levels) in values.iter_mut().zip(&self.scales).zip(&self.levels) {
            for (layer, (groups, scales)) in half.iter_mut().zip(scales).enumerate() {
                for ((group, &packed), bytes) in groups.iter_mut().zip(scales).zip(levels) {
                    let scale = block_scale * f32::from(packed & 15);
                    let minimum = block_minimum * f32::from(packed >> 4);
                    for (value, byte) in group.iter_mut().zip(bytes) {
                        *value = scale * f32::from(byte >> (2 * layer) & 3) - minimum;
                    }
                }
            }
        }
    }
}
