//! The scalar definition for cores without vector instructions: the same bits with fewer
//! instructions. Two rows at a time share what is read of the activations, levels of less than
//! eight bits are multiplied two at a time, and where there is no floating-point unit the f32 part
//! is done by [`soft`].
//!
//! Two at a time: of `(a + b << 16) * (y + x << 16)` the upper half is `a x + b y`, and the lower
//! one, `a y`, is in no one's way while sums of it stay within 16 bits. So must sums of the upper
//! half, which is why levels are counted from the middle of their range where that is needed.

// Rows and outputs of a job; arrays of fixed lengths, indexed by counters up to constants.
#![allow(unsafe_code, clippy::indexing_slicing)]

#[cfg(not(ouro_soft_float))]
mod hard;
#[cfg(any(test, ouro_soft_float))]
mod soft;

use super::activations::Group;
use super::job::Job;
use bytemuck::{Pod, Zeroable};
use core::hint::black_box;
use core::ops::Range;
use core::slice;
use ouro_quant::Format;
use ouro_quant::layout::Scales;

#[cfg(not(ouro_soft_float))]
use hard as float;
#[cfg(ouro_soft_float)]
use soft as float;

/// Groups of activations that are made ready at a time: half a kilobyte of stack.
const CHUNK: usize = 8;

/// Whether formats of 32 values have kernels in vector instructions anyway.
const VECTORS: bool = cfg!(any(ouro_dsp, ouro_helium, ouro_rvv));

/// Levels of a group, two in each number, the first in its upper half: of each four the even ones
/// and the odd ones, for the two halves of the group.
type Pairs = [[[i32; 2]; 4]; 2];

/// What the blocks of two rows add to the rows' sums.
type Add<B, const G: usize> = fn([f32; 2], [&B; 2], &[Group; G], &[Pairs; G]) -> [f32; 2];

/// Blocks of 32 levels, by halves of words.
type Q4_0 = [u16; 9];
type Q4_1 = [u16; 10];
type Q8_0 = [u16; 17];

/// 256 levels, as in `ouro_quant`, by halves of words.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Q4_K {
    steps: [u16; 8],
    levels: [[[u16; 2]; 8]; 4],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Q5_K {
    steps: [u16; 8],
    fifth: [[[u16; 2]; 4]; 2],
    levels: [[[[u16; 2]; 4]; 2]; 4],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Q6_K {
    levels: [[[[[u16; 2]; 4]; 2]; 2]; 2],
    upper: [[[[u16; 2]; 4]; 2]; 2],
    scales: [[[i8; 2]; 4]; 2],
    scale: u16,
}

/// Computes some rows of a job. False if it cannot: rows begin at odd addresses, or the format is
/// not known.
///
/// # Safety
/// The job has these rows, and nobody else computes them.
pub(super) unsafe fn matmul(job: &Job<'_>, rows: Range<usize>) -> bool {
    // SAFETY: as the caller says.
    unsafe {
        match job.format() {
            Format::Q4_0 | Format::Q4_1 | Format::Q8_0 if VECTORS => false,
            Format::Q4_0 if const { Format::Q4_0.is_built() } => chunks(job, rows, q4_0),
            Format::Q4_1 if const { Format::Q4_1.is_built() } => chunks(job, rows, q4_1),
            Format::Q8_0 if const { Format::Q8_0.is_built() } => chunks(job, rows, q8_0),
            Format::Q4_K if const { Format::Q4_K.is_built() } => chunks(job, rows, q4_k),
            Format::Q5_K if const { Format::Q5_K.is_built() } => chunks(job, rows, q5_k),
            Format::Q6_K if const { Format::Q6_K.is_built() } => chunks(job, rows, q6_k),
            _ => false,
        }
    }
}

/// All positions, one after the other, each chunk after chunk. Between chunks the rows' sums lie in
/// the output.
unsafe fn chunks<B: Pod, const G: usize>(job: &Job<'_>, rows: Range<usize>, add: Add<B, G>) -> bool {
    // SAFETY: the job has these rows.
    let bytes = |row: usize| unsafe { slice::from_raw_parts(job.row(row), job.row_bytes()) };
    let blocks = |row: usize| bytemuck::try_cast_slice::<u8, B>(bytes(row));
    if rows.clone().any(|row| blocks(row).is_err()) {
        return false;
    }
    for position in 0..job.positions() {
        // SAFETY: the job has this position, of as many groups.
        let x = unsafe { slice::from_raw_parts(job.x(position), job.groups()) };
        let mut pairs = [[[[0; 2]; 4]; 2]; CHUNK];
        for (chunk, x) in x.chunks(CHUNK).enumerate() {
            for (pairs, x) in pairs.iter_mut().zip(x) {
                *pairs = pair_up(x);
            }
            for row in rows.clone().step_by(2) {
                // An odd row at the end is computed twice.
                let both = [row, (row + 1).min(rows.end - 1)];
                let [a, b] = both.map(|row| blocks(row).unwrap_or_default().iter().skip(chunk * (CHUNK / G)));
                let out = both.map(|row| job.out(position, row));
                // SAFETY: the job has a place for each product, which nobody else writes to.
                let mut sums = if chunk == 0 { [0.0; 2] } else { out.map(|out| unsafe { *out }) };
                let groups = x.as_chunks().0.iter().zip(pairs.as_chunks().0);
                for ((a, b), (x, pairs)) in a.zip(b).zip(groups) {
                    sums = add(sums, [a, b], x, pairs);
                }
                for (out, sum) in out.into_iter().zip(sums) {
                    // SAFETY: as above.
                    unsafe { *out = sum };
                }
            }
        }
    }
    true
}

fn pair_up(x: &Group) -> Pairs {
    let fours: [[[i8; 4]; 4]; 2] = bytemuck::must_cast(x.levels);
    let pair = |first: i8, second: i8| (i32::from(first) << 16) + i32::from(second);
    fours.map(|half| half.map(|[a, b, c, d]| [pair(a, c), pair(b, d)]))
}

fn q4_0(sums: [f32; 2], [a, b]: [&Q4_0; 2], [x]: &[Group; 1], [pairs]: &[Pairs; 1]) -> [f32; 2] {
    let ([first, a @ ..], [second, b @ ..]) = (a, b);
    symmetric_both(sums, [*first, *second], nibbles([a, b], x, pairs), x)
}

fn q4_1(sums: [f32; 2], [a, b]: [&Q4_1; 2], [x]: &[Group; 1], [pairs]: &[Pairs; 1]) -> [f32; 2] {
    let ([s0, m0, a @ ..], [s1, m1, b @ ..]) = (a, b);
    let (first, second) = nibbles([a, b], x, pairs);
    let more = 8 * total(x);
    let [sum0, sum1] = sums;
    [
        affine(sum0, from_f16(*s0), from_f16(*m0), first + more, x),
        affine(sum1, from_f16(*s1), from_f16(*m1), second + more, x),
    ]
}

fn q8_0(sums: [f32; 2], [a, b]: [&Q8_0; 2], [x]: &[Group; 1], _: &[Pairs; 1]) -> [f32; 2] {
    let ([first, a @ ..], [second, b @ ..]) = (a, b);
    let levels = [bytemuck::must_cast_ref(a), bytemuck::must_cast_ref(b)];
    symmetric_both(sums, [*first, *second], bytes(levels, x), x)
}

fn q4_k(mut sums: [f32; 2], blocks: [&Q4_K; 2], x: &[Group; 8], pairs: &[Pairs; 8]) -> [f32; 2] {
    let steps = blocks.map(|block| Steps::new(block.steps));
    for (group, (x, pairs)) in x.iter().zip(pairs).enumerate() {
        let start = from_the_middle(8 * total(x));
        for ((block, steps), sum) in blocks.iter().zip(&steps).zip(&mut sums) {
            let words = block.levels[group / 2 % 4].iter().zip(pairs.as_flattened());
            let product = words.fold(start, |product, (word, pair)| {
                fours(product, join(word) >> (group % 2 * 4) & LOW_FOUR, pair)
            });
            *sum = steps.affine(*sum, group, (product >> 16) + 8 * total(x), x);
        }
    }
    sums
}

fn q5_k(mut sums: [f32; 2], blocks: [&Q5_K; 2], x: &[Group; 8], pairs: &[Pairs; 8]) -> [f32; 2] {
    let steps = blocks.map(|block| Steps::new(block.steps));
    for (group, (x, pairs)) in x.iter().zip(pairs).enumerate() {
        for ((block, steps), sum) in blocks.iter().zip(&steps).zip(&mut sums) {
            let halves = block.levels[group / 2 % 4].iter().zip(&block.fifth).zip(pairs).zip(x.sums);
            let mut product = 16 * total(x);
            for (((words, fifth), pairs), total) in halves {
                let mut half = from_the_middle(16 * i32::from(total));
                for ((word, fifth), pair) in words.iter().zip(fifth).zip(pairs) {
                    let low = join(word) >> (group % 2 * 4) & LOW_FOUR;
                    half = fours(half, low | (join(fifth) >> group & 0x0101_0101) << 4, pair);
                }
                product += half >> 16;
            }
            *sum = steps.affine(*sum, group, product, x);
        }
    }
    sums
}

fn q6_k(mut sums: [f32; 2], blocks: [&Q6_K; 2], x: &[Group; 8], pairs: &[Pairs; 8]) -> [f32; 2] {
    for (group, (x, pairs)) in x.iter().zip(pairs).enumerate() {
        let (half, layer) = (group / 4 % 2, group % 4);
        for (block, sum) in blocks.iter().zip(&mut sums) {
            let (levels, scales) = (&block.levels[half][layer % 2], block.scales[half][layer]);
            let sixteens = levels.iter().zip(&block.upper[half]).zip(pairs).zip(x.sums).zip(scales);
            let mut product = 0;
            for ((((words, upper), pairs), total), scale) in sixteens {
                let mut sixteen = -32 * i32::from(total);
                for ((word, upper), pair) in words.iter().zip(upper).zip(pairs) {
                    let low = join(word) >> (layer / 2 * 4) & LOW_FOUR;
                    let upper = (join(upper) >> (2 * layer) & 0x0303_0303) << 4;
                    sixteen += fours(from_the_middle(0), low | upper, pair) >> 16;
                }
                product += i32::from(scale) * sixteen;
            }
            *sum = symmetric(*sum, block.scale, product, x);
        }
    }
    sums
}

/// The scales and minimums of a block's groups.
struct Steps {
    scale: f32,
    minimum: f32,
    /// Of the groups, in multiples of those.
    steps: [[u8; 8]; 2],
}

impl Steps {
    fn new([scale, minimum, scales @ ..]: [u16; 8]) -> Self {
        let scales: Scales = bytemuck::must_cast(scales);
        Self { scale: from_f16(scale), minimum: from_f16(minimum), steps: scales.unpack() }
    }

    #[inline(always)]
    fn affine(&self, sum: f32, group: usize, product: i32, x: &Group) -> f32 {
        let [scales, minimums] = &self.steps;
        let scale = float::times_integer(self.scale, scales[group % 8].into());
        affine(sum, scale, -float::times_integer(self.minimum, minimums[group % 8].into()), product, x)
    }
}

/// Sums of `w l` of a group of two rows. Not inlined and not unrolled, or the compiler does one row
/// after the other, or all products before all sums, and keeps the rest on the stack.
#[inline(never)]
fn bytes([a, b]: [&[[i8; 8]; 4]; 2], x: &Group) -> (i32, i32) {
    let levels: &[[i8; 8]; 4] = bytemuck::must_cast_ref(&x.levels);
    let (mut first, mut second) = (0, 0);
    for ((a, b), x) in a.iter().zip(b).zip(levels).take(black_box(4)) {
        for ((a, b), x) in a.iter().zip(b).zip(x) {
            first += i32::from(*a) * i32::from(*x);
            second += i32::from(*b) * i32::from(*x);
        }
    }
    (first, second)
}

/// Sums of `(w - 8) l` of a group of two rows.
#[inline(never)]
fn nibbles([a, b]: [&[u16; 8]; 2], x: &Group, [low, high]: &Pairs) -> (i32, i32) {
    let (a, b) = (a.as_chunks().0, b.as_chunks().0);
    let mut first = from_the_middle(8 * total(x));
    let mut second = first;
    for (((a, b), low), high) in a.iter().zip(b).zip(low).zip(high).take(black_box(4)) {
        let (a, b) = (join(a), join(b));
        first = fours(first, a & LOW_FOUR, low);
        second = fours(second, b & LOW_FOUR, low);
        first = fours(first, a >> 4 & LOW_FOUR, high);
        second = fours(second, b >> 4 & LOW_FOUR, high);
    }
    (first >> 16, second >> 16)
}

const LOW_FOUR: u32 = 0x0f0f_0f0f;

/// Where a sum of [`fours`] begins whose upper half is to be less by something; its lower half is
/// then never below zero.
#[inline(always)]
fn from_the_middle(less: i32) -> i32 {
    0x8000_i32.wrapping_sub(less << 16)
}

/// Adds the products of four levels, a byte each.
#[inline(always)]
fn fours(sum: i32, levels: u32, [even, odd]: &[i32; 2]) -> i32 {
    let times = |two: u32, pair: i32| (two & 0x00ff_00ff).cast_signed().wrapping_mul(pair);
    sum.wrapping_add(times(levels, *even)).wrapping_add(times(levels >> 8, *odd))
}

#[inline(always)]
fn join([low, high]: &[u16; 2]) -> u32 {
    u32::from(u16::from_le(*high)) << 16 | u32::from(u16::from_le(*low))
}

/// The sum of a group's levels.
#[inline(always)]
fn total(x: &Group) -> i32 {
    i32::from(x.sums[0]) + i32::from(x.sums[1])
}

fn from_f16(half: u16) -> f32 {
    float::from_f16(half.to_ne_bytes())
}

fn symmetric_both(sums: [f32; 2], scales: [u16; 2], products: (i32, i32), x: &Group) -> [f32; 2] {
    let ([sum0, sum1], [scale0, scale1]) = (sums, scales);
    [symmetric(sum0, scale0, products.0, x), symmetric(sum1, scale1, products.1, x)]
}

#[cfg_attr(ouro_soft_float, inline(never))]
fn symmetric(sum: f32, scale: u16, product: i32, x: &Group) -> f32 {
    float::plus(sum, float::product(from_f16(scale), x.scale, product))
}

#[cfg_attr(ouro_soft_float, inline(never))]
fn affine(sum: f32, scale: f32, minimum: f32, product: i32, x: &Group) -> f32 {
    let levels = float::product(scale, x.scale, product);
    float::plus(sum, float::plus(levels, float::times(minimum, x.scaled_sum)))
}

#[cfg(test)]
mod tests;
