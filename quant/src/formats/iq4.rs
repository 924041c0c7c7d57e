use crate::block::Block;
use crate::float::from_f16;
use bytemuck::{Pod, Zeroable};

/// The levels, closer to each other around 0, where most weights are. From llama.cpp
/// (`kvalues_iq4nl`): they are part of the format.
const LEVELS: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];

#[inline]
fn decode(scale: f32, bytes: &[u8; 16], [first, second]: &mut [[f32; 16]; 2]) {
    let value = |index: u8| scale * LEVELS.get(usize::from(index & 15)).unwrap_or(&0.0);
    for ((low, high), byte) in first.iter_mut().zip(second).zip(bytes) {
        *low = value(byte & 15);
        *high = value(byte >> 4);
    }
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct IQ4_NL {
    scale: [u8; 2],
    /// Value i in the low half of byte i, value i + 16 in the high half.
    indices: [u8; 16],
}

impl Block for IQ4_NL {
    type Values = [[f32; 16]; 2];

    #[inline]
    fn decode(&self, values: &mut Self::Values) {
        decode(from_f16(self.scale), &self.indices, values);
    }
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct IQ4_XS {
    scale: [u8; 2],
    /// The upper two bits of the eight groups' 6-bit scales.
    upper: [u8; 2],
    /// The lower four bits, two groups to a byte; 32 means 0.
    lower: [u8; 4],
    /// For each group as in [`IQ4_NL`].
    indices: [[u8; 16]; 8],
}

impl Block for IQ4_XS {
    /// Eight groups of 32.
    type Values = [[[f32; 16]; 2]; 8];

    #[inline]
    fn decode(&self, values: &mut Self::Values) {
        let block_scale = from_f16(self.scale);
        let upper = u16::from_le_bytes(self.upper);
        let lower = u32::from_le_bytes(self.lower);
        for (group, (values, indices)) in values.iter_mut().zip(&self.indices).enumerate() {
            let scale = lower >> (4 * group) & 15 | (u32::from(upper) >> (2 * group) & 3) << 4;
            decode(block_scale * (scale as i32 - 32) as f32, indices, values);
        }
    }
}
