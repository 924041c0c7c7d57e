use crate::block::{Block, Encode, Importance, pack_nibbles};
use crate::fit::{self, largest};
use crate::float::{from_f16, recip_or_zero, to_f16};
use bytemuck::{Pod, Zeroable, must_cast, must_cast_ref};

/// 32 values of 4 bits and a scale.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q4_0 {
    /// The scale, an f16.
    pub scale: [u8; 2],
    /// Value i in the low half of byte i, value i + 16 in the high half; 8 means 0.
    pub levels: [u8; 16],
}

type Values = [[f32; 16]; 2];

impl Block for Q4_0 {
    type Values = Values;

    const ENCODE: Option<Encode<Self>> = Some(|values, importance| match importance {
        None => to_extreme(values),
        Some(importance) => fitted(values, importance),
    });

    #[inline]
    fn decode(&self, [first, second]: &mut Values) {
        let scale = from_f16(self.scale);
        for ((low, high), &byte) in first.iter_mut().zip(second).zip(&self.levels) {
            *low = (i32::from(byte & 15) - 8) as f32 * scale;
            *high = (i32::from(byte >> 4) - 8) as f32 * scale;
        }
    }
}

/// The value of largest magnitude becomes level -8.
fn to_extreme(values: &Values) -> Option<Q4_0> {
    let scale = largest(values.as_flattened()) / -8.0;
    let per_level = recip_or_zero(scale);
    let [first, second] = values.map(|half| half.map(|x| ((x * per_level + 8.5) as u8).min(15)));
    Some(Q4_0 { scale: to_f16(scale)?, levels: pack_nibbles(&first, &second) })
}

/// The scale of least weighted error.
fn fitted(values: &Values, importance: &Importance<'_, Values>) -> Option<Q4_0> {
    let values: &[f32; 32] = must_cast_ref(values);
    let weights = fit::weights(values, must_cast_ref(importance.columns), importance.row_mean_square);
    let fit::Symmetric { scale, levels } = fit::symmetric(values, &weights, 8.0);
    let [first, second]: [[u8; 16]; 2] = must_cast(levels);
    Some(Q4_0 { scale: to_f16(scale)?, levels: pack_nibbles(&first, &second) })
}
