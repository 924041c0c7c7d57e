use crate::block::{Block, Encode};
use crate::fit::{self, EPSILON, largest};
use crate::float::{from_f16, level, to_f16};
use bytemuck::{Pod, Zeroable, must_cast, must_cast_ref};

/// 256 values of 6 bits in sixteen groups of 16.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q6_K {
    /// For each half of the block, two rows of two groups of 16 bytes. Layers 0 and 1 are in
    /// the low halves of rows 0 and 1, layers 2 and 3 in the high halves; 32 means 0.
    pub levels: [[[[u8; 16]; 2]; 2]; 2],
    /// For each half of the block, the upper two bits of its four layers.
    pub upper: [[[u8; 16]; 2]; 2],
    /// A scale for each group of 16: halves, layers, groups.
    pub scales: [[[i8; 2]; 4]; 2],
    /// The unit of the scales, an f16.
    pub scale: [u8; 2],
}

/// Two halves of four layers of two groups of 16.
type Grid<T> = [[[[T; 16]; 2]; 4]; 2];

impl Block for Q6_K {
    type Values = Grid<f32>;

    const ENCODE: Option<Encode<Self>> = Some(|values, importance| {
        encode(must_cast_ref(values), importance.map(|importance| must_cast_ref(importance.columns)))
    });

    #[inline]
    fn decode(&self, values: &mut Self::Values) {
        let block_scale = from_f16(self.scale);
        let halves = values.iter_mut().zip(&self.scales).zip(&self.levels).zip(&self.upper);
        for (((half, scales), [row0, row1]), upper) in halves {
            let layers = half.iter_mut().zip(scales).zip([row0, row1, row0, row1]).enumerate();
            for (layer, ((groups, scales), row)) in layers {
                for (((group, &scale), bytes), upper) in groups.iter_mut().zip(scales).zip(row).zip(upper) {
                    let scale = block_scale * f32::from(scale);
                    for ((value, byte), upper) in group.iter_mut().zip(bytes).zip(upper) {
                        let level = byte >> (layer / 2 * 4) & 15 | (upper >> (2 * layer) & 3) << 4;
                        *value = scale * f32::from(level as i8 - 32);
                    }
                }
            }
        }
    }
}

/// Fits a scale to each group of 16, stores the scales in eight bits and rounds to the result.
fn encode(groups: &[[f32; 16]; 16], columns: Option<&[[f32; 16]; 16]>) -> Option<Q6_K> {
    let mut fitted = [0.0; 16];
    let mut columns = columns.into_iter().flatten();
    for (scale, group) in fitted.iter_mut().zip(groups) {
        let squares = group.map(|x| x * x);
        *scale = fit::symmetric(group, columns.next().unwrap_or(&squares), 32.0).scale;
    }

    // The scale of largest magnitude becomes -128.
    let extreme = largest(&fitted);
    if extreme.abs() < EPSILON {
        return Some(Q6_K::zeroed());
    }
    let per_step = -128.0 / extreme;
    let scale = to_f16(1.0 / per_step)?;
    let scales = fitted.map(|fitted| level(per_step * fitted, -128.0, 127.0) as i8);

    let mut levels = [[0; 16]; 16];
    for ((levels, group), &group_scale) in levels.iter_mut().zip(groups).zip(&scales) {
        let group_scale = from_f16(scale) * f32::from(group_scale);
        *levels = group.map(|x| (level(x / group_scale, -32.0, 31.0) + 32.0) as u8);
    }
    Some(pack(&must_cast(levels), must_cast(scales), scale))
}

fn pack(grid: &Grid<u8>, scales: [[[i8; 2]; 4]; 2], scale: [u8; 2]) -> Q6_K {
    let mut block = Q6_K { scales, scale, ..Q6_K::zeroed() };
    for ((layers, rows), upper) in grid.iter().zip(&mut block.levels).zip(&mut block.upper) {
        for (layer, groups) in layers.iter().enumerate() {
            let [row0, row1] = &mut *rows;
            let row = if layer % 2 == 0 { row0 } else { row1 };
            for ((group, bytes), upper) in groups.iter().zip(row).zip(&mut *upper) {
                for ((level, byte), upper) in group.iter().zip(bytes).zip(upper) {
                    *byte |= (level & 15) << (layer / 2 * 4);
                    *upper |= level >> 4 << (2 * layer);
                }
            }
        }
    }
    block
}
