use crate::block::{Block, Encode, pack_nibbles};
use crate::float::from_f16;
use crate::superblock::{self, Scales};
use bytemuck::{Pod, Zeroable, must_cast_ref};

/// 256 values of 4 bits in eight groups of 32.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q4_K {
    /// The unit of the scales, an f16.
    pub scale: [u8; 2],
    /// The unit of the minimums, an f16.
    pub minimum: [u8; 2],
    /// Scales and minimums of the groups.
    pub scales: Scales,
    /// The groups of 32 in pairs, the first in the low halves.
    pub levels: [[u8; 32]; 4],
}

impl Block for Q4_K {
    /// Four pairs of groups of 32.
    type Values = [[[f32; 32]; 2]; 4];

    const ENCODE: Option<Encode<Self>> = Some(|values, importance| {
        let columns = importance.map(|importance| must_cast_ref(importance.columns));
        let block = superblock::encode(must_cast_ref(values), columns, &superblock::FOUR_BITS)?;
        let levels = block.levels.map(|[first, second]| pack_nibbles(&first, &second));
        Some(Self { scale: block.scale, minimum: block.minimum, scales: block.scales, levels })
    });

    #[inline]
    fn decode(&self, values: &mut Self::Values) {
        let groups = self.scales.times(from_f16(self.scale), from_f16(self.minimum));
        for (([first, second], [[s0, m0], [s1, m1]]), bytes) in
            values.iter_mut().zip(groups).zip(&self.levels)
        {
            for ((low, high), byte) in first.iter_mut().zip(second).zip(bytes) {
                *low = s0 * f32::from(byte & 15) - m0;
                *high = s1 * f32::from(byte >> 4) - m1;
            }
        }
    }
}
