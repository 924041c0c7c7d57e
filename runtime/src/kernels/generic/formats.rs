//! How blocks of several rows become vectors of bytes, and what these add to the rows' sums.

use super::vector::{Dot, Vector};
use crate::kernels::activations::Group;
use core::mem::offset_of;
use ouro_quant::layout::{Q4_0, Q4_1, Q4_K, Q5_K, Q6_K, Q8_0};

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
    /// Takes the next group of 32.
    unsafe fn take(&mut self, weights: Weights<V>);
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
    unsafe fn unpack<V: Vector>(block: *const u8, stride: usize, sink: &mut impl Sink<V>);

    /// What a group adds to the sums of its rows, for one position or two.
    unsafe fn terms<V: Vector, D: Dot<V>, const P: usize>(
        weights: &Weights<V>,
        x: [&Group; P],
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
    let mut terms = [scale; P];
    for p in 0..P {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let scale = V::mul_floats(scale, V::splat_float(x[p].scale));
            terms[p] = V::mul_floats(scale, products[p].to_float());
        }
    }
    terms
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
/// one on.
#[inline(always)]
unsafe fn unsigned<V: Vector, D: Dot<V>, const N: usize, const MAX: i32, const P: usize>(
    weights: &[V; N],
    x: [&Group; P],
    first: usize,
) -> [V; P] {
    let mut products = [weights[0]; P];
    // SAFETY: the caller vouches for the instructions, and that so many levels follow.
    unsafe {
        if D::PAIRS && P == 2 {
            let levels = [levels(x[0], first), levels(x[P - 1], first)];
            let pair = D::unsigned_pair::<N, MAX>(weights, levels);
            (products[0], products[P - 1]) = (pair[0], pair[1]);
        } else {
            for p in 0..P {
                products[p] = D::unsigned::<N, MAX>(weights, levels(x[p], first));
            }
        }
    }
    products
}

/// Products of signed weights with the levels of each group.
#[inline(always)]
unsafe fn signed<V: Vector, D: Dot<V>, const P: usize>(weights: &[V; 8], x: [&Group; P]) -> [V; P] {
    let mut products = [weights[0]; P];
    // SAFETY: the caller vouches for the instructions; a group has 32 levels.
    unsafe {
        if D::PAIRS && P == 2 {
            let sums = [sums(x[0]), sums(x[P - 1])];
            let pair = D::signed_pair(weights, [levels(x[0], 0), levels(x[P - 1], 0)], sums);
            (products[0], products[P - 1]) = (pair[0], pair[1]);
        } else {
            for p in 0..P {
                products[p] = D::signed(weights, levels(x[p], 0), sums(x[p]));
            }
        }
    }
    products
}

/// The sums of a group's two halves, in all lanes.
#[inline(always)]
unsafe fn sums<V: Vector>(x: &Group) -> V {
    // SAFETY: the caller vouches for the instructions; two 16-bit numbers are 32 bits.
    unsafe { V::splat(x.sums.as_ptr().cast::<i32>().read_unaligned()) }
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

impl Layout for Q4_0 {
    const BYTES: usize = size_of::<Self>();
    const GROUPS: usize = 1;

    #[inline(always)]
    unsafe fn unpack<V: Vector>(block: *const u8, stride: usize, sink: &mut impl Sink<V>) {
        // SAFETY: both loads stay inside the block, 2 + 16 bytes; the caller vouches for the rest.
        unsafe {
            let [head, ..] = V::load_rows(block, stride);
            let bytes = V::load_rows(block.add(offset_of!(Self, levels)), stride);
            let levels = join(low(bytes), high(bytes));
            sink.take(Weights { levels, scale: head.half_to_float(), extra: Extra::none() });
        }
    }

    #[inline(always)]
    unsafe fn terms<V: Vector, D: Dot<V>, const P: usize>(
        weights: &Weights<V>,
        x: [&Group; P],
    ) -> [V::Float; P] {
        // SAFETY: the caller vouches for the instructions; a group has 32 levels.
        unsafe {
            let mut products = unsigned::<V, D, 8, 15, P>(&weights.levels, x, 0);
            for p in 0..P {
                products[p] = products[p].sub(sums::<V>(x[p]).pairs(8, 8));
            }
            symmetric(weights.scale, products, x)
        }
    }
}

impl Layout for Q4_1 {
    const BYTES: usize = size_of::<Self>();
    const GROUPS: usize = 1;

    #[inline(always)]
    unsafe fn unpack<V: Vector>(block: *const u8, stride: usize, sink: &mut impl Sink<V>) {
        // SAFETY: both loads stay inside the block, 4 + 16 bytes; the caller vouches for the rest.
        unsafe {
            let [head, ..] = V::load_rows(block, stride);
            let bytes = V::load_rows(block.add(offset_of!(Self, levels)), stride);
            let levels = join(low(bytes), high(bytes));
            let extra = Extra::minimum(head.shift_right::<16>().half_to_float());
            sink.take(Weights { levels, scale: head.half_to_float(), extra });
        }
    }

    #[inline(always)]
    unsafe fn terms<V: Vector, D: Dot<V>, const P: usize>(
        weights: &Weights<V>,
        x: [&Group; P],
    ) -> [V::Float; P] {
        // SAFETY: the caller vouches for the instructions; a group has 32 levels.
        unsafe { affine(weights, unsigned::<V, D, 8, 15, P>(&weights.levels, x, 0), x) }
    }
}

impl Layout for Q8_0 {
    const BYTES: usize = size_of::<Self>();
    const GROUPS: usize = 1;

    #[inline(always)]
    unsafe fn unpack<V: Vector>(block: *const u8, stride: usize, sink: &mut impl Sink<V>) {
        // SAFETY: all loads stay inside the block, 2 + 32 bytes; the caller vouches for the rest.
        unsafe {
            let [head, ..] = V::load_rows(block, stride);
            let first = V::load_rows(block.add(offset_of!(Self, levels)), stride);
            let second = V::load_rows(block.add(offset_of!(Self, levels) + 16), stride);
            let levels = join(first, second);
            sink.take(Weights { levels, scale: head.half_to_float(), extra: Extra::none() });
        }
    }

    #[inline(always)]
    unsafe fn terms<V: Vector, D: Dot<V>, const P: usize>(
        weights: &Weights<V>,
        x: [&Group; P],
    ) -> [V::Float; P] {
        // SAFETY: the caller vouches for the instructions; a group has 32 levels.
        unsafe { symmetric(weights.scale, signed::<V, D, P>(&weights.levels, x), x) }
    }
}

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
    unsafe fn unpack<V: Vector>(block: *const u8, stride: usize, sink: &mut impl Sink<V>) {
        // SAFETY: all loads stay inside the block: its head, and four times 32 bytes of levels;
        // the caller vouches for the rest.
        unsafe {
            let head = Superblock::load(block, stride);
            let levels = block.add(offset_of!(Self, levels));
            macro_rules! pair {
                ($pair:literal) => {
                    let first = V::load_rows(levels.add(32 * $pair), stride);
                    let second = V::load_rows(levels.add(32 * $pair + 16), stride);
                    sink.take(head.weights::<{ 2 * $pair }>(join(low(first), low(second))));
                    sink.take(head.weights::<{ 2 * $pair + 1 }>(join(high(first), high(second))));
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
    ) -> [V::Float; P] {
        // SAFETY: the caller vouches for the instructions; a group has 32 levels.
        unsafe { affine(weights, unsigned::<V, D, 8, 15, P>(&weights.levels, x, 0), x) }
    }
}

impl Layout for Q5_K {
    const BYTES: usize = size_of::<Self>();
    const GROUPS: usize = 8;

    #[inline(always)]
    unsafe fn unpack<V: Vector>(block: *const u8, stride: usize, sink: &mut impl Sink<V>) {
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
                    sink.take(head.weights::<{ 2 * $pair }>(levels));
                    let levels = join(
                        raise::<V, { 2 * $pair + 1 }, 1>(high(first), fifth[0]),
                        raise::<V, { 2 * $pair + 1 }, 1>(high(second), fifth[1]),
                    );
                    sink.take(head.weights::<{ 2 * $pair + 1 }>(levels));
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
    ) -> [V::Float; P] {
        // SAFETY: the caller vouches for the instructions; a group has 32 levels.
        unsafe { affine(weights, unsigned::<V, D, 8, 31, P>(&weights.levels, x, 0), x) }
    }
}

impl Layout for Q6_K {
    const BYTES: usize = size_of::<Self>();
    const GROUPS: usize = 8;

    #[inline(always)]
    unsafe fn unpack<V: Vector>(block: *const u8, stride: usize, sink: &mut impl Sink<V>) {
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
                    sink.take(Weights { levels, scale, extra: Extra { scales, ..Extra::none() } });
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
    ) -> [V::Float; P] {
        // SAFETY: the caller vouches for the instructions; each half of a group has 16 levels.
        unsafe {
            let first = unsigned::<V, D, 4, 63, P>(first_half(&weights.levels), x, 0);
            let second = unsigned::<V, D, 4, 63, P>(second_half(&weights.levels), x, 16);
            let [first_scale, second_scale] = weights.extra.scales;
            let mut products = first;
            for p in 0..P {
                let sums = sums::<V>(x[p]);
                let first = first[p].sub(sums.pairs(32, 0)).mul(first_scale);
                let second = second[p].sub(sums.pairs(0, 32)).mul(second_scale);
                products[p] = first.add(second);
            }
            symmetric(weights.scale, products, x)
        }
    }
}
