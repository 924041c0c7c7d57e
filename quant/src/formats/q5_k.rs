use crate::block::{Block, Encode};
use crate::float::from_f16;
use crate::superblock::{self, Scales};
use bytemuck::{Pod, Zeroable, must_cast_ref};

/// 256 values of 5 bits in eight groups of 32.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q5_K {
    /// The unit of the scales, an f16.
    pub scale: [u8; 2],
    /// The unit of the minimums, an f16.
    pub minimum: [u8; 2],
    /// Scales and minimums of the groups.
    pub scales: Scales,
    /// Bit g of byte i is the fifth bit of value i of group g.
    pub fifth: [u8; 32],
    /// The groups of 32 in pairs, the first in the low halves.
    pub levels: [[u8; 32]; 4],
}

impl Block for Q5_K {
    /// Four pairs of groups of 32.
    type Values = [[[f32; 32]; 2]; 4];

    const ENCODE: Option<Encode<Self>> = Some(|values, importance| {
        let columns = importance.map(|importance| must_cast_ref(importance.columns));
        let block = superblock::encode(must_cast_ref(values), columns, &superblock::FIVE_BITS)?;
        let (mut levels, mut fifth) = ([[0; 32]; 4], [0; 32]);
        for (pair, (bytes, [first, second])) in levels.iter_mut().zip(&block.levels).enumerate() {
            for (((byte, fifth), low), high) in bytes.iter_mut().zip(&mut fifth).zip(first).zip(second) {
                *byte = low & 15 | high << 4;
                *fifth |= (low >> 4 | high >> 4 << 1) << (2 * pair);
            }
        }
        Some(Self { scale: block.scale, minimum: block.minimum, scales: block.scales, fifth, levels })
    });

    #[inline]
    fn decode(&self, values: &mut Self::Values) {
        let groups = self.scales.times(from_f16(self.scale), from_f16(self.minimum));
        let pairs = values.iter_mut().zip(groups).zip(&self.levels).enumerate();
        for (pair, (([first, second], [[s0, m0], [s1, m1]]), bytes)) in pairs {
            for (((low, high), byte), fifth) in first.iter_mut().zip(second).zip(bytes).zip(&self.fifth) {
                let fifth = fifth >> (2 * pair);
                *low = s0 * f32::from(byte & 15 | (fifth & 1) << 4) - m0;
                *high = s1 * f32::from(byte >> 4 | (fifth >> 1 & 1) << 4) - m1;
            }
        }
    }
}
