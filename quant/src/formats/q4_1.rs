use crate::block::{Block, Encode, Importance, pack_nibbles};
use crate::fit::{self, Affine, extent};
use crate::float::{from_f16, recip_or_zero, to_f16};
use bytemuck::{Pod, Zeroable, must_cast, must_cast_ref};

/// 32 values of 4 bits, a scale and a minimum.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q4_1 {
    /// The scale, an f16.
    pub scale: [u8; 2],
    /// The minimum, an f16.
    pub minimum: [u8; 2],
    /// Value i in the low half of byte i, value i + 16 in the high half.
    pub levels: [u8; 16],
}

type Values = [[f32; 16]; 2];

impl Block for Q4_1 {
    type Values = Values;

    const ENCODE: Option<Encode<Self>> = Some(|values, importance| match importance {
        None => to_extent(values),
        Some(importance) => fitted(values, importance),
    });

    #[inline]
    fn decode(&self, [first, second]: &mut Values) {
        let (scale, minimum) = (from_f16(self.scale), from_f16(self.minimum));
        for ((low, high), &byte) in first.iter_mut().zip(second).zip(&self.levels) {
            *low = f32::from(byte & 15) * scale + minimum;
            *high = f32::from(byte >> 4) * scale + minimum;
        }
    }
}

/// The smallest value becomes level 0, the largest level 15.
fn to_extent(values: &Values) -> Option<Q4_1> {
    let (minimum, maximum) = extent(values.as_flattened());
    let scale = (maximum - minimum) / 15.0;
    let per_level = recip_or_zero(scale);
    let [first, second] = values.map(|half| half.map(|x| (((x - minimum) * per_level + 0.5) as u8).min(15)));
    Some(Q4_1 { scale: to_f16(scale)?, minimum: to_f16(minimum)?, levels: pack_nibbles(&first, &second) })
}

/// The scale and minimum of least weighted error.
fn fitted(values: &Values, importance: &Importance<'_, Values>) -> Option<Q4_1> {
    let values: &[f32; 32] = must_cast_ref(values);
    let weights = fit::weights(values, must_cast_ref(importance.columns), importance.row_mean_square);
    let Affine { scale, minimum, levels } = fit::affine(values, &weights, 15.0, fit::FINE);
    let [first, second]: [[u8; 16]; 2] = must_cast(levels);
    Some(Q4_1 { scale: to_f16(scale)?, minimum: to_f16(minimum)?, levels: pack_nibbles(&first, &second) })
}
