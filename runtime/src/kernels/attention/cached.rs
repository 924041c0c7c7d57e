//! Attention by itself, without a model around it: to time it, and to count its instructions. Nothing else needs it.

use super::{Heads, attention};
use crate::arena::{Arena, ArenaFull};
use crate::kernels::{Backend, Workers};
use crate::kv::{KvCache, KvSettings, KvShape, KvSharing, KvType};
use crate::rows::rows_mut;

/// What decides the size of a [`CachedAttention`]; none of it in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionSizes {
    /// How K and V are stored: one of the types in this build.
    pub element: KvType,
    /// Positions there is room for, those in flight among them.
    pub positions: usize,
    /// Heads of K and V.
    pub kv_heads: usize,
    /// Query heads of each.
    pub group: usize,
    /// Values of a head's vector.
    pub head_dim: usize,
}

/// The K and V of one layer, and attention over them as a session computes it.
#[derive(Debug)]
pub struct CachedAttention<'a> {
    kv: KvCache<'a>,
    sizes: AttentionSizes,
    /// Positions in flight.
    rows: usize,
}

impl<'a> CachedAttention<'a> {
    /// An empty cache.
    ///
    /// # Errors
    /// [`ArenaFull`] if it does not fit.
    pub fn carve(arena: &mut Arena<'a>, sizes: AttentionSizes) -> Result<Self, ArenaFull> {
        let AttentionSizes { element, positions, kv_heads, head_dim, .. } = sizes;
        let settings = KvSettings { sharing: KvSharing::Last, element, window: 0 };
        let shape = KvShape { layers: 1, loops: 1, positions, rows: positions, heads: kv_heads, head_dim };
        Ok(Self { kv: KvCache::carve(arena, settings, shape)?, sizes, rows: 0 })
    }

    /// Puts `N` positions in flight, with these K and V, `[N, kv_heads * head_dim]` each; those that were
    /// in flight are cached from now on. K and V are transformed where they are, if their type asks for
    /// it. Does nothing if there is no room for them, or if lengths do not agree.
    pub fn begin(&mut self, k: &mut [f32], v: &mut [f32]) {
        let width = self.sizes.kv_heads.saturating_mul(self.sizes.head_dim);
        let rows = k.len().checked_div(width).unwrap_or(0);
        let left = self.sizes.positions.saturating_sub(self.kv.len() + self.rows);
        if k.len() != rows * width || v.len() != k.len() || rows > left {
            return;
        }
        self.kv.finish(1);
        self.kv.begin(rows);
        for (row, (k, v)) in rows_mut(k, width).zip(rows_mut(v, width)).enumerate() {
            self.kv.write(0, 0, row, k, v);
        }
        self.rows = rows;
    }

    /// Attention of the positions in flight to themselves and all before them: `q` and `out` are
    /// `[N, kv_heads * group * head_dim]`. `q` is transformed as K is, if it is. Does nothing if lengths
    /// do not agree.
    pub fn attend(&self, backend: Backend, workers: &dyn Workers, q: &mut [f32], out: &mut [f32]) {
        let AttentionSizes { kv_heads, group, head_dim, .. } = self.sizes;
        // What overflows is the length of no slice.
        let len = [group, head_dim, self.rows].iter().try_fold(kv_heads, |len, n| len.checked_mul(*n));
        if len == Some(q.len()) {
            let heads = Heads { kv: &self.kv, layer: 0, t: 0, rows: self.rows, kv_heads, group, head_dim };
            attention(backend, workers, heads, q, out);
        }
    }
}
