use crate::block::Block;
use crate::float::from_f16;
use bytemuck::{Pod, Zeroable, must_cast};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q3_K {
    /// Bit 4 h + l is the third bit of the values of half h and layer l.
    third: [[u8; 16]; 2],
    /// For each half of the block, four layers of two bits.
    levels: [[[u8; 16]; 2]; 2],
    /// Sixteen 6-bit scales: eight bytes of low halves, then four bytes of upper two bits.
    scales: [[u8; 4]; 3],
    scale: [u8; 2],
}

impl Q3_K {
    /// The scales of the groups of 16 values, from -32 to 31.
    #[inline]
    fn unpacked_scales(&self) -> [[[i8; 2]; 4]; 2] {
        let [a, b, upper] = self.scales.map(u32::from_le_bytes);
        let halves = [a, b, a >> 4, b >> 4];
        let mut words = [[0; 4]; 4];
        for (i, (word, half)) in words.iter_mut().zip(halves).enumerate() {
            *word = (half & 0x0f0f_0f0f | (upper >> (2 * i) & 0x0303_0303) << 4).to_le_bytes();
        }
        must_cast(words.map(|word| word.map(|scale| scale as i8 - 32)))
    }
}

impl Block for Q3_K {
    /// Two halves of four layers of two groups of 16.
    type Values = [[[[f32; 16]; 2]; 4]; 2];

    #[inline]
    fn decode(&self, values: &mut Self::Values) {
        let block_scale = from_f16(self.scale);
        let scales = self.unpacked_scales();
        for (h, ((half, scales), levels)) in values.iter_mut().zip(&scales).zip(&self.levels).enumerate() {
            for (layer, (groups, scales)) in half.iter_mut().zip(scales).enumerate() {
                let groups = groups.iter_mut().zip(scales).zip(levels).zip(&self.third);
                for (((group, &scale), bytes), third) in groups {
                    let scale = block_scale * f32::from(scale);
                    for ((value, byte), third) in group.iter_mut().zip(bytes).zip(third) {
                        let level = byte >> (2 * layer) & 3 | (third >> (4 * h + layer) & 1) << 2;
                        *value = scale * f32::from(level as i8 - 4);
                    }
                }
            }
        }
    }
}
