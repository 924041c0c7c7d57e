//! The KV cache: what a position leaves behind for those after it.
//!
//! Position `j` has run `d(j)` loops. A query at position `p` in loop `t` reads, of the positions
//! that share its pass, their K and V of loop `t`; of an older position `j`:
//! - [`PerLoop`](KvSharing::PerLoop): the K/V of loop `min(t, d(j))`;
//! - [`Last`](KvSharing::Last): one shared K/V, that of loop `d(j)`;
//! - [`Averaged`](KvSharing::Averaged): one shared K/V, the mean over the loops `1..=d(j)`;
//!
//! and with the latter two, while `p - j <= window`, what `PerLoop` would read: the last `window`
//! positions keep their K/V of every loop in a store of their own.

mod vectors;

use crate::arena::{Arena, ArenaFull};
use crate::kernels::hadamard;
use vectors::{Sizes, Vectors};
pub(crate) use vectors::{Slot, Stored, padded, unit_of, with_element};

/// Which K/V an older position offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum KvSharing {
    /// Every loop's: the original model's semantics, D times the memory.
    PerLoop,
    /// The last loop's that the position ran.
    Last,
    /// The mean over the loops that the position ran.
    Averaged,
}

impl KvSharing {
    /// Every way, in the order in which errors list them.
    pub const ALL: [KvSharing; 3] = [Self::PerLoop, Self::Last, Self::Averaged];

    /// The name in files and on command lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PerLoop => "per-loop",
            Self::Last => "last",
            Self::Averaged => "averaged",
        }
    }
}

/// How K and V are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum KvType {
    /// 4 bytes a value; for reference.
    F32,
    /// 2 bytes a value.
    F16,
    /// 1 byte a value, and an f32 scale per head and position.
    Int8,
    /// Half a byte a value, and an f32 scale per head and position, of heads' Hadamard transforms.
    Int4,
}

impl KvType {
    /// Whether it is in this build: [`F16`](Self::F16) always is, the others are cargo features.
    #[must_use]
    pub const fn is_built(self) -> bool {
        match self {
            Self::F32 => cfg!(feature = "kv-f32"),
            Self::F16 => true,
            Self::Int8 => cfg!(feature = "kv-int8"),
            Self::Int4 => cfg!(feature = "kv-int4"),
        }
    }

    /// Bits of one value, its share of a scale apart.
    #[must_use]
    pub fn bits(self) -> u32 {
        match self {
            Self::F32 => 32,
            Self::F16 => 16,
            Self::Int8 => 8,
            Self::Int4 => 4,
        }
    }
}

/// Everything that decides a cache's size and meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct KvSettings {
    /// Which K/V an older position offers.
    pub sharing: KvSharing,
    /// Element type.
    pub element: KvType,
    /// How far back positions keep their K/V of every loop: all of them where it is larger than the
    /// cache. Without effect with `PerLoop`.
    pub window: usize,
}

impl KvSettings {
    /// Whether positions keep their K/V of every loop at least while they are in flight.
    #[must_use]
    pub fn keeps_loops(&self) -> bool {
        self.sharing == KvSharing::PerLoop || self.window > 0
    }
}

/// The sizes of a cache, none of them in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KvShape {
    pub(crate) layers: usize,
    pub(crate) loops: usize,
    pub(crate) positions: usize,
    /// Positions in flight at most.
    pub(crate) rows: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
}

/// K and V side by side.
#[derive(Debug)]
struct Pair<'a> {
    k: Vectors<'a>,
    v: Vectors<'a>,
}

impl<'a> Pair<'a> {
    /// Room for `slots` positions in each of `lists`.
    fn carve(
        arena: &mut Arena<'a>,
        element: KvType,
        (lists, slots): (usize, usize),
        shape: &KvShape,
    ) -> Result<Self, ArenaFull> {
        let sizes = Sizes { lists, heads: shape.heads, slots, head_dim: shape.head_dim };
        Ok(Self { k: Vectors::carve(arena, element, sizes)?, v: Vectors::carve(arena, element, sizes)? })
    }
}

/// Where K/V of one layer are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the cache proper.
    Cache(Slot),
    /// In the window.
    Window(Slot),
    /// Among the positions in flight.
    Chunk(Slot),
}

/// Consecutive positions whose K/V lie one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    place: Place,
    pub(crate) count: usize,
}

/// The cache of one session. A *chunk* is the positions in flight: `len..len + rows`.
#[derive(Debug)]
pub(crate) struct KvCache<'a> {
    settings: KvSettings,
    shape: KvShape,
    /// `[layers, loops, positions]` per loop, `[layers, positions]` when shared.
    cache: Pair<'a>,
    /// `[layers, loops, 2 * window]`: the window before the chunk and that which it leaves behind.
    window: Pair<'a>,
    /// `[rows]`: the current layer's K/V of the current loop, which a mean must not yet contain.
    chunk: Pair<'a>,
    /// d(j) of every position in the cache.
    depths: &'a mut [u8],
    scratch: &'a mut [f32],
    /// Positions in the cache.
    len: usize,
    /// Positions in flight.
    rows: usize,
    /// Positions that were ever written to the window; slots are taken in turn.
    windowed: usize,
}

impl<'a> KvCache<'a> {
    pub(crate) fn carve(
        arena: &mut Arena<'a>,
        settings: KvSettings,
        shape: KvShape,
    ) -> Result<Self, ArenaFull> {
        let per_loop = settings.sharing == KvSharing::PerLoop;
        let window = if per_loop { 0 } else { settings.window.min(shape.positions) };
        let settings = KvSettings { window, ..settings };
        let in_flight = if settings.sharing == KvSharing::Averaged { shape.rows } else { 0 };
        let looped = shape.layers.saturating_mul(shape.loops);
        let lists = if per_loop { looped } else { shape.layers };
        let windowed = settings.window.saturating_mul(2);
        Ok(Self {
            settings,
            shape,
            cache: Pair::carve(arena, settings.element, (lists, shape.positions), &shape)?,
            window: Pair::carve(arena, settings.element, (looped, windowed), &shape)?,
            chunk: Pair::carve(arena, settings.element, (1, in_flight), &shape)?,
            depths: arena.take(shape.positions)?,
            scratch: arena.take(shape.head_dim.saturating_mul(2))?,
            len: 0,
            rows: 0,
            windowed: 0,
        })
    }

    /// How many values of a head's vector are transformed together; 1 if they are stored as they are.
    pub(crate) fn transformed(&self) -> usize {
        self.settings.element.transformed(self.shape.head_dim)
    }

    /// Positions in the cache.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn settings(&self) -> &KvSettings {
        &self.settings
    }

    /// Positions that were ever written to the window.
    pub(crate) fn windowed(&self) -> u64 {
        self.windowed as u64
    }

    /// Calls `each` with all that the first `positions` positions, of which `windowed` were ever written
    /// to the window, left behind, in a fixed order: their depths, their K and V, the window.
    ///
    /// A window that is larger than the cache never wraps, so its parts are the same in a larger one.
    pub(crate) fn each_part<E>(
        &mut self,
        positions: usize,
        windowed: u64,
        each: &mut dyn FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let KvShape { layers, loops, .. } = self.shape;
        each(self.depths.get_mut(..positions).unwrap_or_default())?;
        let per_loop = self.settings.sharing == KvSharing::PerLoop;
        let lists = if per_loop { layers * loops } else { layers };
        for list in 0..lists {
            for vectors in [&mut self.cache.k, &mut self.cache.v] {
                vectors.each_part(list, positions, each)?;
            }
        }
        let slots = 2 * self.settings.window;
        let slots = usize::try_from(windowed).unwrap_or(slots).min(slots);
        for list in 0..layers * loops {
            for vectors in [&mut self.window.k, &mut self.window.v] {
                vectors.each_part(list, slots, each)?;
            }
        }
        Ok(())
    }

    /// Takes what was read into the [parts](Self::each_part) as its content, if it makes sense.
    pub(crate) fn set_len(&mut self, positions: usize, windowed: u64) -> bool {
        let enough = positions.min(self.settings.window) as u64..=positions as u64;
        let depths = self.depths.get(..positions).unwrap_or_default();
        let known = depths.iter().all(|depth| (1..=self.shape.loops).contains(&usize::from(*depth)));
        let good = depths.len() == positions && known && enough.contains(&windowed);
        if good {
            (self.len, self.windowed) = (positions, windowed as usize);
        }
        good
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        (self.len, self.rows, self.windowed) = (0, 0, 0);
    }

    /// Puts `rows` positions in flight. Those of an unfinished chunk are forgotten: nothing that
    /// they wrote is read by others.
    pub(crate) fn begin(&mut self, rows: usize) {
        self.rows = rows;
    }

    /// The first position of the chunk that the window keeps.
    fn first_windowed(&self) -> usize {
        self.len + self.rows - self.rows.min(self.settings.window)
    }

    /// Stores K and V (`[heads * head_dim]` each) of the chunk's row `row` in loop `t` (from 0). They are
    /// transformed where they are, if the type asks for it.
    pub(crate) fn write(&mut self, layer: usize, t: usize, row: usize, k: &mut [f32], v: &mut [f32]) {
        hadamard::transform(k, self.transformed());
        hadamard::transform(v, self.transformed());
        let position = self.len + row;
        let index = self.cache_index(layer, t, position);
        if self.settings.sharing == KvSharing::Averaged {
            let row = Slot { list: 0, slot: row };
            self.chunk.k.write(row, k);
            self.chunk.v.write(row, v);
            self.cache.k.accumulate(index, &self.chunk.k, row, t == 0, self.scratch);
            self.cache.v.accumulate(index, &self.chunk.v, row, t == 0, self.scratch);
        } else {
            self.cache.k.write(index, k);
            self.cache.v.write(index, v);
        }
        if let Some(past) = position.checked_sub(self.first_windowed()) {
            let slot = self.window_index(layer, t, self.windowed + past);
            self.window.k.write(slot, k);
            self.window.v.write(slot, v);
        }
    }

    /// Whether what the chunk wrote in an unfinished loop can be undone.
    pub(crate) fn can_roll_back(&self) -> bool {
        self.settings.sharing == KvSharing::PerLoop || self.rows <= self.settings.window
    }

    /// Undoes what an unfinished loop wrote for the chunk: its first `layers` layers offer the K/V
    /// of the first `loops` loops again. They are copied from the window, which keeps those of every
    /// loop; with `PerLoop` nothing needs to be done.
    pub(crate) fn roll_back(&mut self, layers: usize, loops: usize) {
        if self.settings.sharing == KvSharing::PerLoop {
            return;
        }
        let averaged = self.settings.sharing == KvSharing::Averaged;
        let first = self.first_windowed();
        let positions = || first..self.len + self.rows;
        for (layer, position) in (0..layers).flat_map(|layer| positions().map(move |p| (layer, p))) {
            let index = self.cache_index(layer, 0, position);
            for t in if averaged { 0 } else { loops.saturating_sub(1) }..loops {
                let slot = self.window_index(layer, t, self.windowed + position - first);
                if averaged {
                    self.cache.k.accumulate(index, &self.window.k, slot, t == 0, self.scratch);
                    self.cache.v.accumulate(index, &self.window.v, slot, t == 0, self.scratch);
                } else {
                    self.cache.k.copy(index, &self.window.k, slot);
                    self.cache.v.copy(index, &self.window.v, slot);
                }
            }
        }
    }

    fn cache_index(&self, layer: usize, t: usize, position: usize) -> Slot {
        let list = match self.settings.sharing {
            KvSharing::PerLoop => layer * self.shape.loops + t,
            KvSharing::Last | KvSharing::Averaged => layer,
        };
        Slot { list, slot: position }
    }

    fn window_index(&self, layer: usize, t: usize, nth: usize) -> Slot {
        let slots = 2 * self.settings.window;
        Slot { list: layer * self.shape.loops + t, slot: nth.checked_rem(slots).unwrap_or_default() }
    }

    /// Where the query of row `row` in loop `t` finds the positions from `j` on, up to `end` but at
    /// least one. It may ask for any position that is in the cache or in flight.
    pub(crate) fn run(&self, (layer, t): (usize, usize), row: usize, j: usize, end: usize) -> Run {
        let most = |place, end: usize| Run { place, count: end.saturating_sub(j).max(1) };
        if let Some(other) = j.checked_sub(self.len) {
            let place = match self.settings.sharing {
                KvSharing::Averaged => Place::Chunk(Slot { list: 0, slot: other }),
                _ => Place::Cache(self.cache_index(layer, t, j)),
            };
            return most(place, end);
        }
        let end = end.min(self.len);
        let per_loop = self.settings.sharing == KvSharing::PerLoop;
        let first_windowed =
            if per_loop { self.len } else { (self.len + row).saturating_sub(self.settings.window) };
        if !per_loop && j < first_windowed {
            return most(Place::Cache(self.cache_index(layer, t, j)), end.min(first_windowed));
        }
        // What is read is of loop min(t, d(j)): the first loop's if `t` is, whatever the depths.
        let depths = self.depths.get(j..end).unwrap_or_default();
        let loop_of = |depth: &u8| t.min(usize::from(*depth).saturating_sub(1));
        let first = depths.first().map_or(t, loop_of);
        let same = match t {
            0 => depths.len(),
            _ => depths.iter().take_while(|depth| loop_of(depth) == first).count(),
        };
        let t = first;
        if per_loop {
            return most(Place::Cache(self.cache_index(layer, t, j)), j + same);
        }
        // The positions before the chunk stand in the window in order, the last one last.
        let slot = self.window_index(layer, t, self.windowed.saturating_sub(self.len - j));
        let until_wrapped = (2 * self.settings.window).saturating_sub(slot.slot);
        most(Place::Window(slot), j + same.min(until_wrapped))
    }

    /// K and V of one KV head of a run.
    pub(crate) fn rows(&self, run: Run, head: usize) -> [Stored<'_>; 2] {
        let (pair, slot) = match run.place {
            Place::Cache(slot) => (&self.cache, slot),
            Place::Window(slot) => (&self.window, slot),
            Place::Chunk(slot) => (&self.chunk, slot),
        };
        [pair.k.rows(slot, run.count, head), pair.v.rows(slot, run.count, head)]
    }

    /// Takes the chunk into the cache, all its positions having run `depth` loops.
    pub(crate) fn finish(&mut self, depth: usize) {
        let end = self.len + self.rows;
        if self.settings.sharing == KvSharing::Averaged {
            for layer in 0..self.shape.layers {
                for position in self.len..end {
                    let index = self.cache_index(layer, 0, position);
                    self.cache.k.divide(index, depth as f32, self.scratch);
                    self.cache.v.divide(index, depth as f32, self.scratch);
                }
            }
        }
        if let Some(depths) = self.depths.get_mut(self.len..end) {
            depths.fill(u8::try_from(depth).unwrap_or(u8::MAX));
        }
        self.windowed += self.rows.min(self.settings.window);
        self.len = end;
        self.rows = 0;
    }
}
