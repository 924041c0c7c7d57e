//! How blocks of several rows become vectors of bytes, and what these add to the rows' sums.

mod k;

use super::vector::{Dot, Vector};
use crate::kernels::activations::Group;
use core::mem::offset_of;
use ouro_quant::layout::{Q4_0, Q4_1, Q8_0};

/// 32 consecutive weights of each of [`Vector::LANES`] rows.
#[derive(Clone, Copy)]
pub(crate) struct Weights<V: Vector> {
    /// Vector `i` holds weights `4i..4i + 4` of all rows, without scale.
    pub(crate) levels: [V; 8],
    pub(crate) scale: V::Float,
    pub(crate) extra: Extra<V>,
}

/// What some formats have besides.
#[derive(Clone, Copy)]
pub(crate) struct Extra<V: Vector> {
    /// What is added to scaled levels.
    minimum: V::Float,
    /// Integer scales of the first and second 16 levels.
    scales: [V; 2],
}

/// What to do with weights that were unpacked.
pub(crate) trait Sink<V: Vector> {
    /// Whether levels in the high halves of bytes may stay there: [`How::high`].
    const HIGH: bool;

    /// Takes the next group of 32, number `GROUP` of its block.
    unsafe fn take<const GROUP: usize>(&mut self, weights: Weights<V>);
}

/// How products are to be computed.
#[derive(Clone, Copy)]
pub(crate) struct How {
    /// Levels that were in the high halves of bytes still are, and count 16 times.
    pub(crate) high: bool,
    /// No other position is computed at the same time.
    pub(crate) alone: bool,
}

/// A block format. The block type says what its fields mean.
///
/// # Safety
/// As [`Vector`]'s.
pub(crate) trait Layout {
    /// Bytes of a block.
    const BYTES: usize;
    /// Groups of 32 weights in a block.
    const GROUPS: usize;

    /// Unpacks one block of each row: the first row's is at `block`, the others `stride` bytes
    /// after one another.
    unsafe fn unpack<V: Vector, S: Sink<V>>(block: *const u8, stride: usize, sink: &mut S);

    /// What a group adds to the sums of its rows, for one position or two.
    unsafe fn terms<V: Vector, D: Dot<V>, const P: usize>(
        weights: &Weights<V>,
        x: [&Group; P],
        how: How,
    ) -> [V::Float; P];
}

impl<V: Vector> Extra<V> {
    #[inline(always)]
    unsafe fn none() -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self { minimum: V::splat_float(0.0), scales: [V::splat(0); 2] } }
    }

    #[inline(always)]
    unsafe fn minimum(minimum: V::Float) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self { minimum, ..Self::none() } }
    }
}

/// `(scale * x.scale) * product`.
#[inline(always)]
unsafe fn symmetric<V: Vector, const P: usize>(
    scale: V::Float,
    products: [V; P],
    x: [&Group; P],
) -> [V::Float; P] {
    let mut floats = [scale; P];
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        for p in 0..P {
            floats[p] = products[p].to_float();
        }
        scaled::<V, P>(scale, floats, x)
    }
}

/// [`symmetric`] of products that are floats already.
#[inline(always)]
unsafe fn scaled<V: Vector, const P: usize>(
    scale: V::Float,
    mut products: [V::Float; P],
    x: [&Group; P],
) -> [V::Float; P] {
    for p in 0..P {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let scale = V::mul_floats(scale, V::splat_float(x[p].scale));
            products[p] = V::mul_floats(scale, products[p]);
        }
    }
    products
}

/// `(scale * x.scale) * product + minimum * x.scaled_sum`.
#[inline(always)]
unsafe fn affine<V: Vector, const P: usize>(
    weights: &Weights<V>,
    products: [V; P],
    x: [&Group; P],
) -> [V::Float; P] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mut terms = symmetric(weights.scale, products, x);
        for p in 0..P {
            let offset = V::mul_floats(weights.extra.minimum, V::splat_float(x[p].scaled_sum));
            terms[p] = V::add_floats(terms[p], offset);
        }
        terms
    }
}

/// A group's levels from the `first` one on.
#[inline(always)]
fn levels(x: &Group, first: usize) -> *const i8 {
    x.levels.as_ptr().cast::<i8>().wrapping_add(first)
}

/// Products of unsigned weights, none above `MAX`, with the levels of each group from the `first`
/// one on, added to what there is.
#[inline(always)]
unsafe fn add_unsigned<V: Vector, D: Dot<V>, const N: usize, const MAX: i32, const P: usize>(
    mut sums: [V; P],
    weights: &[V; N],
    x: [&Group; P],
    first: usize,
) -> [V; P] {
    // SAFETY: the caller vouches for the instructions, and that so many levels follow.
    unsafe {
        if D::PAIRS && P == 2 {
            let levels = [levels(x[0], first), levels(x[P - 1], first)];
            let pair = D::unsigned_pair::<N, MAX>(weights, levels);
            (sums[0], sums[P - 1]) = (sums[0].add(pair[0]), sums[P - 1].add(pair[1]));
        } else {
            for p in 0..P {
                sums[p] = D::add_unsigned::<N, MAX>(sums[p], weights, levels(x[p], first));
            }
        }
    }
    sums
}

/// Products of unsigned weights, none above `MAX`, with the levels of each group from the `first`
/// one on.
#[inline(always)]
unsafe fn unsigned<V: Vector, D: Dot<V>, const N: usize, const MAX: i32, const P: usize>(
    weights: &[V; N],
    x: [&Group; P],
    first: usize,
    alone: bool,
) -> [V; P] {
    // SAFETY: the caller vouches for the instructions, and that so many levels follow.
    unsafe {
        if alone && P == 1 {
            return [D::unsigned::<N, MAX>(weights, levels(x[0], first)); P];
        }
        add_unsigned::<V, D, N, MAX, P>([V::splat(0); P], weights, x, first)
    }
}

/// [`unsigned`] of weights up to 15, or of 16 times as much.
#[inline(always)]
unsafe fn nibbles<V: Vector, D: Dot<V>, const P: usize>(
    weights: &[V; 8],
    x: [&Group; P],
    how: How,
) -> [V; P] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        if !how.high {
            return unsigned::<V, D, 8, 15, P>(weights, x, 0, how.alone);
        }
        let mut products = unsigned::<V, D, 8, 240, P>(weights, x, 0, how.alone);
        for p in 0..P {
            products[p] = products[p].shift_right_signed::<4>();
        }
        products
    }
}

/// Products of signed weights with the levels of each group.
#[inline(always)]
unsafe fn signed<V: Vector, D: Dot<V>, const P: usize>(weights: &[V; 8], x: [&Group; P]) -> [V; P] {
    let mut products = [weights[0]; P];
    // SAFETY: the caller vouches for the instructions; a group has 32 levels.
    unsafe {
        if D::PAIRS && P == 2 {
            let sums = [&x[0].sums, &x[P - 1].sums];
            let pair = D::signed_pair(weights, [levels(x[0], 0), levels(x[P - 1], 0)], sums);
            (products[0], products[P - 1]) = (pair[0], pair[1]);
        } else {
            for p in 0..P {
                products[p] = D::signed(weights, levels(x[p], 0), &x[p].sums);
            }
        }
    }
    products
}

/// The low halves of all bytes.
#[inline(always)]
unsafe fn low<V: Vector>(bytes: [V; 4]) -> [V; 4] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mask = V::splat(0x0f0f_0f0f);
        [bytes[0].and(mask), bytes[1].and(mask), bytes[2].and(mask), bytes[3].and(mask)]
    }
}

/// The bytes of all vectors shifted right; what comes in from neighbours is not cleared.
#[inline(always)]
unsafe fn shift<V: Vector, const BITS: i32>(bytes: [V; 4]) -> [V; 4] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        [
            bytes[0].shift_right::<BITS>(),
            bytes[1].shift_right::<BITS>(),
            bytes[2].shift_right::<BITS>(),
            bytes[3].shift_right::<BITS>(),
        ]
    }
}

/// The high halves of all bytes.
#[inline(always)]
unsafe fn high<V: Vector>(bytes: [V; 4]) -> [V; 4] {
    // SAFETY: the caller vouches for the instructions.
    unsafe { low(shift::<V, 4>(bytes)) }
}

/// The high halves of all bytes, where they are if the sink can do with that.
#[inline(always)]
unsafe fn high_for<V: Vector, S: Sink<V>>(bytes: [V; 4]) -> [V; 4] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        if !S::HIGH {
            return high(bytes);
        }
        let mask = V::splat(0xf0f0_f0f0_u32.cast_signed());
        [bytes[0].and(mask), bytes[1].and(mask), bytes[2].and(mask), bytes[3].and(mask)]
    }
}

/// Puts `BITS` bits of each byte of `upper`, from bit `FROM` on, above the low halves in `bytes`.
#[inline(always)]
unsafe fn raise<V: Vector, const FROM: i32, const BITS: u32>(bytes: [V; 4], upper: [V; 4]) -> [V; 4] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mask = V::splat(((1 << BITS) - 1) * 0x0101_0101);
        let upper = shift::<V, FROM>(upper);
        [
            bytes[0].or(upper[0].and(mask).shift_left::<4>()),
            bytes[1].or(upper[1].and(mask).shift_left::<4>()),
            bytes[2].or(upper[2].and(mask).shift_left::<4>()),
            bytes[3].or(upper[3].and(mask).shift_left::<4>()),
        ]
    }
}

#[inline(always)]
fn join<V: Copy>(a: [V; 4], b: [V; 4]) -> [V; 8] {
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]]
}

#[inline(always)]
fn first_half<V>(levels: &[V; 8]) -> &[V; 4] {
    levels.first_chunk().unwrap_or_else(|| unreachable!())
}

#[inline(always)]
fn second_half<V>(levels: &[V; 8]) -> &[V; 4] {
    levels.last_chunk().unwrap_or_else(|| unreachable!())
}

/// What weights up to 15 give with the levels, the first 16 from the low halves of bytes and the
/// others from the high ones, added to what there is.
#[inline(always)]
unsafe fn both_nibbles<V: Vector, D: Dot<V>, const P: usize>(
    sums: [V; P],
    weights: &[V; 8],
    x: [&Group; P],
    how: How,
) -> [V; P] {
    // SAFETY: the caller vouches for the instructions; a group has 32 levels.
    unsafe {
        if !how.high {
            return add_unsigned::<V, D, 8, 15, P>(sums, weights, x, 0);
        }
        let mut products = add_unsigned::<V, D, 4, 15, P>(sums, first_half(weights), x, 0);
        let high = add_unsigned::<V, D, 4, 240, P>([V::splat(0); P], second_half(weights), x, 16);
        for p in 0..P {
            products[p] = products[p].add(high[p].shift_right_signed::<4>());
        }
        products
    }
}

impl Layout for Q4_0 {
    const BYTES: usize = size_of::<Self>();
    const GROUPS: usize = 1;

    #[inline(always)]
    unsafe fn unpack<V: Vector, S: Sink<V>>(block: *const u8, stride: usize, sink: &mut S) {
        // SAFETY: both loads stay inside the block, 2 + 16 bytes; the caller vouches for the rest.
        unsafe {
            let [head, ..] = V::load_rows(block, stride);
            let bytes = V::load_rows(block.add(offset_of!(Self, levels)), stride);
            let levels = join(low(bytes), high_for::<V, S>(bytes));
            sink.take::<0>(Weights { levels, scale: head.half_to_float(), extra: Extra::none() });
        }
    }

    #[inline(always)]
    unsafe fn terms<V: Vector, D: Dot<V>, const P: usize>(
        weights: &Weights<V>,
        x: [&Group; P],
        how: How,
    ) -> [V::Float; P] {
        // SAFETY: the caller vouches for the instructions; a group has 32 levels.
        unsafe {
            // Each weight is 8 less.
            let mut less = [V::splat(0); P];
            for p in 0..P {
                less[p] = V::splat_pair(&x[p].sums, -8, -8);
            }
            symmetric(weights.scale, both_nibbles::<V, D, P>(less, &weights.levels, x, how), x)
        }
    }
}

impl Layout for Q4_1 {
    const BYTES: usize = size_of::<Self>();
    const GROUPS: usize = 1;

    #[inline(always)]
    unsafe fn unpack<V: Vector, S: Sink<V>>(block: *const u8, stride: usize, sink: &mut S) {
        // SAFETY: both loads stay inside the block, 4 + 16 bytes; the caller vouches for the rest.
        unsafe {
            let [head, ..] = V::load_rows(block, stride);
            let bytes = V::load_rows(block.add(offset_of!(Self, levels)), stride);
            let levels = join(low(bytes), high_for::<V, S>(bytes));
            let extra = Extra::minimum(head.shift_right::<16>().half_to_float());
            sink.take::<0>(Weights { levels, scale: head.half_to_float(), extra });
        }
    }

    #[inline(always)]
    unsafe fn terms<V: Vector, D: Dot<V>, const P: usize>(
        weights: &Weights<V>,
        x: [&Group; P],
        how: How,
    ) -> [V::Float; P] {
        // SAFETY: the caller vouches for the instructions; a group has 32 levels.
        unsafe {
            let sums = [V::splat(0); P];
            affine(weights, both_nibbles::<V, D, P>(sums, &weights.levels, x, how), x)
        }
    }
}

impl Layout for Q8_0 {
    const BYTES: usize = size_of::<Self>();
    const GROUPS: usize = 1;

    #[inline(always)]
    unsafe fn unpack<V: Vector, S: Sink<V>>(block: *const u8, stride: usize, sink: &mut S) {
        // SAFETY: all loads stay inside the block, 2 + 32 bytes; the caller vouches for the rest.
        unsafe {
            let [head, ..] = V::load_rows(block, stride);
            let first = V::load_rows(block.add(offset_of!(Self, levels)), stride);
            let second = V::load_rows(block.add(offset_of!(Self, levels) + 16), stride);
            let levels = join(first, second);
            sink.take::<0>(Weights { levels, scale: head.half_to_float(), extra: Extra::none() });
        }
    }

    #[inline(always)]
    unsafe fn terms<V: Vector, D: Dot<V>, const P: usize>(
        weights: &Weights<V>,
        x: [&Group; P],
        _: How,
    ) -> [V::Float; P] {
        // SAFETY: the caller vouches for the instructions; a group has 32 levels.
        unsafe { symmetric(weights.scale, signed::<V, D, P>(&weights.levels, x), x) }
    }
}
