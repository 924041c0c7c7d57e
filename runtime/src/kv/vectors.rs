//! K or V of many positions, in one of the element types.

use super::KvType;
use crate::arena::{Arena, ArenaFull};
use crate::kernels::elements::{Element, Source, UNIT};
use crate::kernels::hadamard;
use crate::kernels::halves::{Halves, LANES, Software};
use core::ops::Range;

/// A position's place: the list of a layer, or of a layer and loop, and the slot in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) list: usize,
    pub(crate) slot: usize,
}

/// How many vectors there are, and of what length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) lists: usize,
    pub(super) heads: usize,
    /// Positions of a list.
    pub(super) slots: usize,
    pub(super) head_dim: usize,
}

impl Sizes {
    /// Units of 32 values of a vector.
    fn units(&self) -> usize {
        self.head_dim.div_ceil(UNIT)
    }

    /// The number of a vector. A head's vectors of consecutive positions lie one after another.
    fn index(&self, at: Slot, head: usize) -> usize {
        (at.list * self.heads + head) * self.slots + at.slot
    }
}

/// What units of all element types are multiples of: 16 bytes.
type Word = [u32; 4];

/// The same expression for the element type of a [`KvType`], of those that are built.
macro_rules! with_element {
    ($element:expr, $type:ident => $what:expr) => {
        match $element {
            $crate::kv::KvType::F32 if const { $crate::kv::KvType::F32.is_built() } => {
                type $type = [f32; $crate::kernels::elements::UNIT];
                $what
            }
            $crate::kv::KvType::Int8 if const { $crate::kv::KvType::Int8.is_built() } => {
                type $type = [i8; $crate::kernels::elements::UNIT];
                $what
            }
            $crate::kv::KvType::Int4 if const { $crate::kv::KvType::Int4.is_built() } => {
                type $type = $crate::kernels::elements::Nibbles;
                $what
            }
            _ => {
                type $type = [half::f16; $crate::kernels::elements::UNIT];
                $what
            }
        }
    };
}
pub(crate) use with_element;

impl KvType {
    /// Words of a unit.
    fn unit_words(self) -> usize {
        self.bits() as usize * UNIT / (8 * size_of::<Word>())
    }

    fn is_scaled(self) -> bool {
        with_element!(self, E => E::SCALED)
    }

    /// How many values of a head's vector are transformed together; 1 if they are stored as they are.
    pub(super) fn transformed(self, head_dim: usize) -> usize {
        with_element!(self, E => if E::TRANSFORMED { hadamard::block(head_dim) } else { 1 })
    }
}

/// K or V, `[lists, heads, slots, head_dim]`.
#[derive(Debug)]
pub(super) struct Vectors<'a> {
    element: KvType,
    sizes: Sizes,
    /// Units, whatever their type: so that moving them about is compiled once.
    words: &'a mut [Word],
    /// One for each vector; none if the element type has no scales.
    scales: &'a mut [f32],
}

/// One head's vectors of consecutive positions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'v> {
    pub(crate) element: KvType,
    words: &'v [Word],
    /// `[positions]`, or none.
    scales: &'v [f32],
}

/// [`Stored`], the type being known: `[positions, units of a vector]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'v, E> {
    units: &'v [E],
    scales: &'v [f32],
}

impl<'v> Stored<'v> {
    /// As what they are: `E` is the type of [`element`](Self::element).
    #[inline(always)]
    pub(crate) fn rows<E: Element>(self) -> Rows<'v, E> {
        Rows { units: units(self.words), scales: self.scales }
    }
}

impl<'a> Vectors<'a> {
    /// Room for all of them, zeroed.
    pub(super) fn carve(arena: &mut Arena<'a>, element: KvType, sizes: Sizes) -> Result<Self, ArenaFull> {
        let vectors = sizes.lists.saturating_mul(sizes.heads).saturating_mul(sizes.slots);
        let words = vectors.saturating_mul(sizes.units()).saturating_mul(element.unit_words());
        let words = arena.take(words)?;
        let scales = arena.take(if element.is_scaled() { vectors } else { 0 })?;
        Ok(Self { element, sizes, words, scales })
    }

    /// Stores one position's vectors, `x` being `[heads * head_dim]`, rounded to the element type.
    pub(super) fn write(&mut self, at: Slot, x: &[f32]) {
        for (head, x) in x.chunks_exact(self.sizes.head_dim.max(1)).enumerate() {
            self.write_head(at, head, x);
        }
    }

    fn write_head(&mut self, at: Slot, head: usize, x: &[f32]) {
        let index = self.sizes.index(at, head);
        with_element!(self.element, E => self.write_as::<E>(index, x));
    }

    fn write_as<E: Element>(&mut self, index: usize, x: &[f32]) {
        let scale = E::scale(x);
        let (words, scales) = self.vectors_mut(index, 1);
        for stored in scales {
            *stored = scale;
        }
        for (u, unit) in units_mut::<E>(words).iter_mut().enumerate() {
            *unit = E::narrow(&unit_of(x, u), scale);
        }
    }

    /// One position's vector of one head, as stored, into `out` (`[head_dim]`).
    fn read(&self, at: Slot, head: usize, out: &mut [f32]) {
        let stored = self.rows(at, 1, head);
        for (i, out) in out.chunks_mut(LANES).enumerate() {
            for (out, value) in out.iter_mut().zip(stored.widen(Software, i / 2, i % 2)) {
                *out = stored.scale(0).map_or(value, |scale| scale * value);
            }
        }
    }

    /// One head's vectors of the positions at `at` and in the slots after it.
    pub(super) fn rows(&self, at: Slot, count: usize, head: usize) -> Stored<'_> {
        let (words, scales) = self.vectors(self.sizes.index(at, head), count);
        Stored { element: self.element, words, scales }
    }

    /// Calls `each` with the bytes of the first `positions` positions of a list, as they are stored:
    /// each head's values, then its scales.
    pub(super) fn each_part<R>(
        &mut self,
        list: usize,
        positions: usize,
        each: &mut dyn FnMut(&mut [u8]) -> Result<(), R>,
    ) -> Result<(), R> {
        for head in 0..self.sizes.heads {
            let index = self.sizes.index(Slot { list, slot: 0 }, head);
            let (words, scales) = self.vectors_mut(index, positions);
            each(bytemuck::cast_slice_mut(words))?;
            each(bytemuck::cast_slice_mut(scales))?;
        }
        Ok(())
    }

    /// Copies one position's vectors as they are stored; both have the same element type.
    pub(super) fn copy(&mut self, at: Slot, from: &Vectors<'_>, row: Slot) {
        for head in 0..self.sizes.heads {
            let (words, scales) = self.vectors_mut(self.sizes.index(at, head), 1);
            let (from_words, from_scales) = from.vectors(from.sizes.index(row, head), 1);
            copy(words, from_words);
            copy(scales, from_scales);
        }
    }

    /// Copies one position's vectors from `from`, adding them to what is here unless `replace`.
    /// `scratch` is `[2, head_dim]`.
    pub(super) fn accumulate(
        &mut self,
        at: Slot,
        from: &Vectors<'_>,
        row: Slot,
        replace: bool,
        scratch: &mut [f32],
    ) {
        let Some((sum, x)) = scratch.split_at_mut_checked(self.sizes.head_dim) else { return };
        for head in 0..self.sizes.heads {
            from.read(row, head, x);
            if replace {
                self.write_head(at, head, x);
            } else {
                self.read(at, head, sum);
                for (sum, x) in sum.iter_mut().zip(&*x) {
                    *sum += x;
                }
                self.write_head(at, head, sum);
            }
        }
    }

    /// Divides one position's vectors.
    pub(super) fn divide(&mut self, at: Slot, divisor: f32, scratch: &mut [f32]) {
        let Some((x, _)) = scratch.split_at_mut_checked(self.sizes.head_dim) else { return };
        for head in 0..self.sizes.heads {
            self.read(at, head, x);
            for x in x.iter_mut() {
                *x /= divisor;
            }
            self.write_head(at, head, x);
        }
    }

    /// `count` vectors from number `index` on, and their scales.
    fn vectors(&self, index: usize, count: usize) -> (&[Word], &[f32]) {
        let len = self.sizes.units() * self.element.unit_words();
        let words = self.words.get(range(index, count, len)).unwrap_or_default();
        (words, self.scales.get(range(index, count, 1)).unwrap_or_default())
    }

    /// [`vectors`](Self::vectors), to be written to.
    fn vectors_mut(&mut self, index: usize, count: usize) -> (&mut [Word], &mut [f32]) {
        let len = self.sizes.units() * self.element.unit_words();
        let words = self.words.get_mut(range(index, count, len)).unwrap_or_default();
        (words, self.scales.get_mut(range(index, count, 1)).unwrap_or_default())
    }
}

/// How far ahead vectors are asked for: a page, at whose end hardware stops doing it by itself.
const AHEAD: usize = 4096;
/// Bytes of a cache line.
const LINE: usize = 64;

impl<E: Element> Source for Rows<'_, E> {
    #[inline(always)]
    fn positions(self, units: usize) -> usize {
        self.units.len().checked_div(units).unwrap_or_default()
    }

    #[inline(always)]
    fn scale(self, position: usize) -> Option<f32> {
        // Where there are none the compiler has to know: else it loads them from nowhere under a mask
        // that is all zeros, which costs more than a hundred cycles on Zen 4.
        if E::SCALED { self.scales.get(position).copied() } else { None }
    }

    #[inline(always)]
    fn vector(self, position: usize, units: usize) -> Option<Self> {
        let first = position * units;
        Some(Self { units: self.units.get(first..first + units)?, scales: &[] })
    }

    #[inline(always)]
    fn widen<H: Halves>(self, halves: H, unit: usize, half: usize) -> H::Lanes {
        self.unit(halves, unit, half).unwrap_or_else(|| halves.load(&[0.0; LANES]))
    }

    #[inline(always)]
    fn unit<H: Halves>(self, halves: H, unit: usize, half: usize) -> Option<H::Lanes> {
        let unit = self.units.get(unit)?;
        let offset = half * size_of::<E>() / 2;
        if offset.is_multiple_of(LINE) {
            halves.prefetch(core::ptr::from_ref(unit).cast::<u8>().wrapping_add(AHEAD + offset));
        }
        Some(unit.widen(halves, half))
    }
}

/// Finds the type out again with each call: slower than [`Rows`], in a fraction of the code.
impl Source for Stored<'_> {
    #[inline(always)]
    fn positions(self, units: usize) -> usize {
        self.words.len().checked_div(units * self.element.unit_words()).unwrap_or_default()
    }

    #[inline(always)]
    fn scale(self, position: usize) -> Option<f32> {
        self.scales.get(position).copied()
    }

    #[inline(always)]
    fn vector(self, position: usize, units: usize) -> Option<Self> {
        let words = self.words.get(range(position, 1, units * self.element.unit_words()))?;
        Some(Self { words, scales: &[], ..self })
    }

    #[inline(never)]
    fn widen<H: Halves>(self, halves: H, unit: usize, half: usize) -> H::Lanes {
        with_element!(self.element, E => self.rows::<E>().widen(halves, unit, half))
    }
}

/// Words of whole units as units. Sizes and alignment fit, so it never comes out empty.
fn units<E: Element>(words: &[Word]) -> &[E] {
    bytemuck::try_cast_slice(words).unwrap_or_default()
}

fn units_mut<E: Element>(words: &mut [Word]) -> &mut [E] {
    bytemuck::try_cast_slice_mut(words).unwrap_or_default()
}

/// As far as both reach. A function of its own, where it is known that the two do not overlap.
#[inline(never)]
fn copy<T: Copy>(to: &mut [T], from: &[T]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// Where `count` vectors of `len` units lie.
fn range(index: usize, count: usize, len: usize) -> Range<usize> {
    let start = index.saturating_mul(len);
    start..start.saturating_add(count.saturating_mul(len))
}

/// Values `32 u..` of a vector, followed by zeros where it ends.
#[inline(always)]
pub(crate) fn unit_of(x: &[f32], u: usize) -> [f32; UNIT] {
    match x.as_chunks::<UNIT>().0.get(u) {
        Some(unit) => *unit,
        None => padded(x.get(u * UNIT..).unwrap_or_default()),
    }
}

/// Up to `N` values, followed by zeros.
#[inline(always)]
pub(crate) fn padded<const N: usize>(x: &[f32]) -> [f32; N] {
    let mut all = [0.0; N];
    for (value, x) in all.iter_mut().zip(x) {
        *value = *x;
    }
    all
}
