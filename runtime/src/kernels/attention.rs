//! Causal attention over the cache: `README.md`, "Attention".
//!
//! A *query* is one query head of one position in flight. Those that share a KV head are taken
//! [`TILE`] at a time: each vector of K and V is read once for all of them. Positions come in
//! blocks of [`BLOCK`], with a running softmax, so that nothing grows with the context.

// Threads write different queries.
#![allow(unsafe_code)]

mod cached;
mod tile;

pub use cached::{AttentionSizes, CachedAttention};

use super::hadamard;
use super::halves::{Halves, LANES, Portable};
use super::math::sqrt;
use super::workers::{deal, pieces};
use super::{Backend, Workers};
use crate::kv::KvCache;
use core::marker::PhantomData;
use tile::Tile;

/// Positions that are weighed together. Block `b` is positions `b * BLOCK..`, whatever is in flight.
const BLOCK: usize = 2 * LANES;
/// Queries for which K and V are read together.
const TILE: usize = 8;

/// Who attends to what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads<'c> {
    pub(crate) kv: &'c KvCache<'c>,
    pub(crate) layer: usize,
    /// The loop, from 0.
    pub(crate) t: usize,
    /// Positions in flight.
    pub(crate) rows: usize,
    pub(crate) kv_heads: usize,
    /// Query heads of a KV head.
    pub(crate) group: usize,
    pub(crate) head_dim: usize,
}

/// Attention of all positions in flight: `q` and `out` are `[N, heads * head_dim]`. `q` is transformed as
/// K is, if it is. Does nothing if lengths do not agree.
pub(crate) fn attention(
    backend: Backend,
    workers: &dyn Workers,
    heads: Heads<'_>,
    q: &mut [f32],
    out: &mut [f32],
) {
    let Heads { kv, rows, kv_heads, group, head_dim, .. } = heads;
    let width = kv_heads * group * head_dim;
    if q.len() != rows * width || out.len() != q.len() || width == 0 {
        return;
    }
    // Q and K being transformed, their products are `transformed` times as large: a power of two.
    let transformed = kv.transformed();
    hadamard::transform(q, transformed);
    let scale = 1.0 / sqrt(head_dim as f32) / transformed as f32;
    let job = Job { heads, scale, q, out: out.as_mut_ptr(), lifetime: PhantomData };
    let tiles = (rows * group).div_ceil(TILE) * kv_heads;
    let products = 2 * q.len().saturating_mul(kv.len() + rows.div_ceil(2));
    let pieces = pieces(workers, products, workers.smallest_piece().attention).min(tiles);
    // Later rows read more positions, so tiles are dealt out in turn.
    let work = |piece: usize| backend.run(Piece { job: &job, first: piece, step: pieces });
    deal(workers, pieces, &work);
    hadamard::inverse(out, transformed);
}

struct Job<'a> {
    heads: Heads<'a>,
    /// Multiplies scores.
    scale: f32,
    q: &'a [f32],
    out: *mut f32,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: threads share everything but `out`, of which each query has a part of its own; no two
// pieces have the same query.
unsafe impl Sync for Job<'_> {}

/// Every `step`th tile from `first` on.
struct Piece<'a> {
    job: &'a Job<'a>,
    first: usize,
    step: usize,
}

impl Portable for Piece<'_> {
    #[inline(always)]
    fn run<H: Halves>(self, halves: H) {
        let Heads { rows, kv_heads, group, .. } = self.job.heads;
        let queries = rows * group;
        let tiles = queries.div_ceil(TILE);
        let mut tile = self.first;
        while tile < tiles * kv_heads {
            let first = quotient(tile, kv_heads) * TILE;
            // SAFETY: a tile is of one piece, and each piece is computed once.
            let mut tile_of =
                unsafe { Tile::new(self.job, remainder(tile, kv_heads), first..queries.min(first + TILE)) };
            tile_of.run(halves);
            tile += self.step;
        }
    }
}

/// A quotient where the compiler does not see that the divisor is not zero: no panic is left behind.
#[inline(always)]
fn quotient(a: usize, b: usize) -> usize {
    a.checked_div(b).unwrap_or(0)
}

/// [`quotient`]'s remainder.
#[inline(always)]
fn remainder(a: usize, b: usize) -> usize {
    a.checked_rem(b).unwrap_or(0)
}

#[cfg(test)]
mod tests;
