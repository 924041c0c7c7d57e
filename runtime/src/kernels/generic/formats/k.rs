//! Blocks of eight groups.

use super::{
    Extra, How, Layout, Sink, Weights, add_unsigned, affine, first_half, high, high_for, join, low, nibbles,
    raise, scaled, second_half, unsigned,
};
use crate::kernels::activations::Group;
use crate::kernels::generic::vector::{Dot, Vector};
use core::mem::offset_of;
use ouro_quant::layout::{Q4_K, Q5_K, Q6_K};

/// Scales and minimums of a Q4_K or Q5_K block, ready for use.
struct Superblock<V: Vector> {
    scale: V::Float,
    minimum: V::Float,
    /// Those of groups 0 to 3 and 4 to 7, a byte each.
    scales: [V; 2],
    minimums: [V; 2],
}

impl<V: Vector> Superblock<V> {
    /// From the block's first 16 bytes.
    #[inline(always)]
    unsafe fn load(block: *const u8, stride: usize) -> Self {
        // SAFETY: a block is longer than 16 bytes; the caller vouches for the rest.
        unsafe {
            let [head, scales, minimums, both] = V::load_rows(block, stride);
            let (low_six, low_four, upper) =
                (V::splat(0x3f3f_3f3f), V::splat(0x0f0f_0f0f), V::splat(0x3030_3030));
            let upper_scales = scales.shift_right::<2>().and(upper);
            let upper_minimums = minimums.shift_right::<2>().and(upper);
            Self {
                scale: head.half_to_float(),
                minimum: V::negate_floats(head.shift_right::<16>().half_to_float()),
                scales: [scales.and(low_six), both.and(low_four).or(upper_scales)],
                minimums: [minimums.and(low_six), both.shift_right::<4>().and(low_four).or(upper_minimums)],
            }
        }
    }

    /// The next group's weights. The products of scales are exact.
    #[inline(always)]
    unsafe fn weights<const GROUP: usize>(&self, levels: [V; 8]) -> Weights<V> {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let scale = byte::<V, GROUP>(self.scales[GROUP / 4]).to_float();
            let minimum = byte::<V, GROUP>(self.minimums[GROUP / 4]).to_float();
            Weights {
                levels,
                scale: V::mul_floats(self.scale, scale),
                extra: Extra::minimum(V::mul_floats(self.minimum, minimum)),
            }
        }
    }
}

/// Byte `INDEX % 4` of each lane.
#[inline(always)]
unsafe fn byte<V: Vector, const INDEX: usize>(bytes: V) -> V {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let shifted = match INDEX % 4 {
            0 => bytes,
            1 => bytes.shift_right::<8>(),
            2 => bytes.shift_right::<16>(),
            _ => bytes.shift_right::<24>(),
        };
        shifted.and(V::splat(0xff))
    }
}

impl Layout for Q4_K {
    const BYTES: usize = size_of::<Self>();
    const GROUPS: usize = 8;

    #[inline(always)]
    unsafe fn unpack<V: Vector, S: Sink<V>>(block: *const u8, stride: usize, sink: &mut S) {
        // SAFETY: all loads stay inside the block: its head, and four times 32 bytes of levels;
        // the caller vouches for the rest.
        unsafe {
            let head = Superblock::load(block, stride);
            let levels = block.add(offset_of!(Self, levels));
            macro_rules! pair {
                ($pair:literal) => {
                    let first = V::load_rows(levels.add(32 * $pair), stride);
                    let second = V::load_rows(levels.add(32 * $pair + 16), stride);
                    sink.take::<{ 2 * $pair }>(head.weights::<{ 2 * $pair }>(join(low(first), low(second))));
                    sink.take::<{ 2 * $pair + 1 }>(head.weights::<{ 2 * $pair + 1 }>(join(
                        high_for::<V, S>(first),
                        high_for::<V, S>(second),
                    )));
                };
            }
            pair!(0);
            pair!(1);
            pair!(2);
            pair!(3);
        }
    }

    #[inline(always)]
    unsafe fn terms<V: Vector, D: Dot<V>, const P: usize>(
        weights: &Weights<V>,
        x: [&Group; P],
        how: How,
    ) -> [V::Float; P] {
        // SAFETY: the caller vouches for the instructions; a group has 32 levels.
        unsafe { affine(weights, nibbles::<V, D, P>(&weights.levels, x, how), x) }
    }
}

impl Layout for Q5_K {
    const BYTES: usize = size_of::<Self>();
    const GROUPS: usize = 8;

    #[inline(always)]
    unsafe fn unpack<V: Vector, S: Sink<V>>(block: *const u8, stride: usize, sink: &mut S) {
        // SAFETY: all loads stay inside the block: its head, 32 bytes of fifth bits, and four
        // times 32 bytes of levels; the caller vouches for the rest.
        unsafe {
            let head = Superblock::load(block, stride);
            let fifth = block.add(offset_of!(Self, fifth));
            let fifth = [V::load_rows(fifth, stride), V::load_rows(fifth.add(16), stride)];
            let levels = block.add(offset_of!(Self, levels));
            macro_rules! pair {
                ($pair:literal) => {
                    let first = V::load_rows(levels.add(32 * $pair), stride);
                    let second = V::load_rows(levels.add(32 * $pair + 16), stride);
                    let levels = join(
                        raise::<V, { 2 * $pair }, 1>(low(first), fifth[0]),
                        raise::<V, { 2 * $pair }, 1>(low(second), fifth[1]),
                    );
                    sink.take::<{ 2 * $pair }>(head.weights::<{ 2 * $pair }>(levels));
                    let levels = join(
                        raise::<V, { 2 * $pair + 1 }, 1>(high(first), fifth[0]),
                        raise::<V, { 2 * $pair + 1 }, 1>(high(second), fifth[1]),
                    );
                    sink.take::<{ 2 * $pair + 1 }>(head.weights::<{ 2 * $pair + 1 }>(levels));
                };
            }
            pair!(0);
            pair!(1);
            pair!(2);
            pair!(3);
        }
    }

    #[inline(always)]
    unsafe fn terms<V: Vector, D: Dot<V>, const P: usize>(
        weights: &Weights<V>,
        x: [&Group; P],
        how: How,
    ) -> [V::Float; P] {
        // SAFETY: the caller vouches for the instructions; a group has 32 levels.
        unsafe { affine(weights, unsigned::<V, D, 8, 31, P>(&weights.levels, x, 0, how.alone), x) }
    }
}

impl Layout for Q6_K {
    const BYTES: usize = size_of::<Self>();
    const GROUPS: usize = 8;

    #[inline(always)]
    unsafe fn unpack<V: Vector, S: Sink<V>>(block: *const u8, stride: usize, sink: &mut S) {
        // SAFETY: all loads stay inside the block; the last one ends with it. The caller vouches
        // for the rest.
        unsafe {
            let [.., tail] = V::load_rows(block.add(size_of::<Self>() - 16), stride);
            let scale = tail.shift_right::<16>().half_to_float();
            let scales = V::load_rows(block.add(offset_of!(Self, scales)), stride);
            macro_rules! layer {
                ($rows:ident, $upper:ident, $half:literal, $layer:literal, $nibbles:ident) => {
                    let row: [[V; 4]; 2] = $rows[$layer % 2];
                    let levels = join(
                        raise::<V, { 2 * $layer }, 2>($nibbles(row[0]), $upper[0]),
                        raise::<V, { 2 * $layer }, 2>($nibbles(row[1]), $upper[1]),
                    );
                    // Two scales of eight bits: in the low or in the high half of a lane.
                    let pair = scales[2 * $half + $layer / 2];
                    let (first, second) = if $layer % 2 == 0 {
                        (pair.shift_left::<24>(), pair.shift_left::<16>())
                    } else {
                        (pair.shift_left::<8>(), pair)
                    };
                    let scales = [first.shift_right_signed::<24>(), second.shift_right_signed::<24>()];
                    let extra = Extra { scales, ..Extra::none() };
                    sink.take::<{ 4 * $half + $layer }>(Weights { levels, scale, extra });
                };
            }
            macro_rules! half {
                ($half:literal) => {
                    let levels = block.add(offset_of!(Self, levels) + 64 * $half);
                    let rows = [
                        [V::load_rows(levels, stride), V::load_rows(levels.add(16), stride)],
                        [V::load_rows(levels.add(32), stride), V::load_rows(levels.add(48), stride)],
                    ];
                    let upper = block.add(offset_of!(Self, upper) + 32 * $half);
                    let upper = [V::load_rows(upper, stride), V::load_rows(upper.add(16), stride)];
                    layer!(rows, upper, $half, 0, low);
                    layer!(rows, upper, $half, 1, low);
                    layer!(rows, upper, $half, 2, high);
                    layer!(rows, upper, $half, 3, high);
                };
            }
            half!(0);
            half!(1);
        }
    }

    #[inline(always)]
    unsafe fn terms<V: Vector, D: Dot<V>, const P: usize>(
        weights: &Weights<V>,
        x: [&Group; P],
        _: How,
    ) -> [V::Float; P] {
        // SAFETY: the caller vouches for the instructions; each half of a group has 16 levels.
        unsafe {
            let (first, second) = (first_half(&weights.levels), second_half(&weights.levels));
            // Each weight is 32 less.
            let mut less = [[V::splat(0); P]; 2];
            for p in 0..P {
                less[0][p] = V::splat_pair(&x[p].sums, -32, 0);
                less[1][p] = V::splat_pair(&x[p].sums, 0, -32);
            }
            let first = add_unsigned::<V, D, 4, 63, P>(less[0], first, x, 0);
            let second = add_unsigned::<V, D, 4, 63, P>(less[1], second, x, 16);
            let mut products = [weights.scale; P];
            for p in 0..P {
                products[p] = V::weighted_sum([first[p], second[p]], weights.extra.scales);
            }
            scaled::<V, P>(weights.scale, products, x)
        }
    }
}
