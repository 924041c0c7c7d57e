//! The definition of the integer kernels, and what runs where there is no vector unit:
//! `README.md`, "Products". Every other back end gives these bits.

use super::activations::Group;
use bytemuck::Pod;
use ouro_quant::Format;
use ouro_quant::layout::{Q4_0, Q4_1, Q4_K, Q5_K, Q6_K, Q8_0, from_f16};

/// Whether the integer kernels know this format, and are built for it.
#[must_use]
pub const fn knows(format: Format) -> bool {
    use Format::{Q4_0, Q4_1, Q4_K, Q5_K, Q6_K, Q8_0};
    format.is_built() && matches!(format, Q4_0 | Q4_1 | Q8_0 | Q4_K | Q5_K | Q6_K)
}

/// The product of one row of weights with one position's activations; both have the same number
/// of values. 0 for a format that is not [known](knows).
#[must_use]
pub fn dot(format: Format, row: &[u8], x: &[Group]) -> f32 {
    match format {
        Format::Q4_0 if const { Format::Q4_0.is_built() } => blocks(row, x, q4_0),
        Format::Q4_1 if const { Format::Q4_1.is_built() } => blocks(row, x, q4_1),
        Format::Q8_0 if const { Format::Q8_0.is_built() } => blocks(row, x, q8_0),
        Format::Q4_K if const { Format::Q4_K.is_built() } => blocks(row, x, q4_k),
        Format::Q5_K if const { Format::Q5_K.is_built() } => blocks(row, x, q5_k),
        Format::Q6_K if const { Format::Q6_K.is_built() } => blocks(row, x, q6_k),
        _ => 0.0,
    }
}

/// Adds up a row, block after block; each of them meets `N` groups of activations.
fn blocks<B: Pod, const N: usize>(row: &[u8], x: &[Group], add: fn(f32, &B, &[Group; N]) -> f32) -> f32 {
    let blocks: &[B] = bytemuck::try_cast_slice(row).unwrap_or_default();
    blocks.iter().zip(x.as_chunks().0).fold(0.0, |sum, (block, x)| add(sum, block, x))
}

fn q4_0(sum: f32, block: &Q4_0, [x]: &[Group; 1]) -> f32 {
    let [low, high] = nibbles(block.levels);
    let product = integers(low, x.levels[0]) + integers(high, x.levels[1]) - 8 * total(x);
    sum + symmetric(from_f16(block.scale), product, x)
}

fn q4_1(sum: f32, block: &Q4_1, [x]: &[Group; 1]) -> f32 {
    let [low, high] = nibbles(block.levels);
    let product = integers(low, x.levels[0]) + integers(high, x.levels[1]);
    sum + affine(from_f16(block.scale), from_f16(block.minimum), product, x)
}

fn q8_0(sum: f32, block: &Q8_0, [x]: &[Group; 1]) -> f32 {
    let levels = x.levels.as_flattened().iter();
    let product = block.levels.iter().zip(levels).map(|(w, x)| i32::from(*w) * i32::from(*x)).sum();
    sum + symmetric(from_f16(block.scale), product, x)
}

fn q4_k(mut sum: f32, block: &Q4_K, x: &[Group; 8]) -> f32 {
    let groups = block.scales.times(from_f16(block.scale), from_f16(block.minimum));
    for ((x, scales), bytes) in x.as_chunks::<2>().0.iter().zip(groups).zip(&block.levels) {
        for ((x, [scale, minimum]), levels) in x.iter().zip(scales).zip(nibbles(*bytes)) {
            let product = halves(levels).zip(x.levels).map(|(w, x)| integers(w, x)).sum();
            sum += affine(scale, -minimum, product, x);
        }
    }
    sum
}

fn q5_k(mut sum: f32, block: &Q5_K, x: &[Group; 8]) -> f32 {
    let groups = block.scales.times(from_f16(block.scale), from_f16(block.minimum));
    let mut fifth = block.fifth;
    for ((x, scales), bytes) in x.as_chunks::<2>().0.iter().zip(groups).zip(&block.levels) {
        for ((x, [scale, minimum]), mut levels) in x.iter().zip(scales).zip(nibbles(*bytes)) {
            for (level, fifth) in levels.iter_mut().zip(&mut fifth) {
                *level |= (*fifth & 1) << 4;
                *fifth >>= 1;
            }
            let product = halves(levels).zip(x.levels).map(|(w, x)| integers(w, x)).sum();
            sum += affine(scale, -minimum, product, x);
        }
    }
    sum
}

fn q6_k(mut sum: f32, block: &Q6_K, x: &[Group; 8]) -> f32 {
    let scale = from_f16(block.scale);
    let halves = x.as_chunks::<4>().0.iter().zip(&block.levels).zip(&block.upper).zip(&block.scales);
    for (((x, [row0, row1]), upper), scales) in halves {
        let layers = x.iter().zip([row0, row1, row0, row1]).zip(scales).enumerate();
        for (layer, ((x, row), scales)) in layers {
            let mut product = 0;
            let sixteens = row.iter().zip(upper).zip(scales).zip(x.levels.iter().zip(x.sums));
            for (((bytes, upper), scale), (levels, total)) in sixteens {
                let mut weights = *bytes;
                for (byte, upper) in weights.iter_mut().zip(upper) {
                    *byte = *byte >> (layer / 2 * 4) & 15 | (upper >> (2 * layer) & 3) << 4;
                }
                product += i32::from(*scale) * (integers(weights, *levels) - 32 * i32::from(total));
            }
            sum += symmetric(scale, product, x);
        }
    }
    sum
}

/// What a group adds to its row: weights are `scale` times integers.
#[inline(always)]
fn symmetric(scale: f32, product: i32, x: &Group) -> f32 {
    (scale * x.scale) * product as f32
}

/// What a group adds to its row: weights are `scale` times integers plus `minimum`.
#[inline(always)]
fn affine(scale: f32, minimum: f32, product: i32, x: &Group) -> f32 {
    (scale * x.scale) * product as f32 + minimum * x.scaled_sum
}

/// The exact sum of products.
#[inline(always)]
fn integers<const N: usize>(weights: [u8; N], levels: [i8; N]) -> i32 {
    weights.into_iter().zip(levels).map(|(w, x)| i32::from(w) * i32::from(x)).sum()
}

/// The sum of a group's levels.
#[inline(always)]
fn total(x: &Group) -> i32 {
    x.sums.iter().map(|sum| i32::from(*sum)).sum()
}

/// The low and the high halves of bytes.
#[inline(always)]
fn nibbles<const N: usize>(bytes: [u8; N]) -> [[u8; N]; 2] {
    [bytes.map(|byte| byte & 15), bytes.map(|byte| byte >> 4)]
}

#[inline(always)]
fn halves(levels: [u8; 32]) -> impl Iterator<Item = [u8; 16]> {
    let halves: [[u8; 16]; 2] = bytemuck::must_cast(levels);
    halves.into_iter()
}
