//! Some queries of one KV head: a block's scores, weights and values, block after block.

// Arrays of fixed lengths, indexed by counters up to constants, or modulo their length, which no
// index reaches: so the compiler sees it too.
#![allow(clippy::indexing_slicing, clippy::needless_range_loop)]

use super::{BLOCK, Heads, Job, TILE, quotient, remainder};
use crate::kernels::elements::{Source, UNIT};
use crate::kernels::halves::{Halves, LANES, Portable};
use crate::kernels::math::exp;
use crate::kernels::reduce::{larger, largest};
use crate::kv::{KvCache, Run, padded, unit_of, with_element};
use core::ops::Range;

/// Whether small cores have code of its own for two queries at a time.
const PAIRS: bool = !cfg!(ouro_size);

/// Some queries of one KV head, and how far they are.
pub(super) struct Tile<'a> {
    job: &'a Job<'a>,
    kv_head: usize,
    /// `[rows, group]`, all queries of the KV head being counted.
    queries: Range<usize>,
    /// The largest score so far, and the sum of the weights relative to it.
    max: [f32; TILE],
    sum: [f32; TILE],
    /// Scores of a block, then weights.
    weights: [[f32; BLOCK]; TILE],
}

impl<'a> Tile<'a> {
    /// # Safety
    /// Nobody else computes these queries, which the job has.
    #[inline(always)]
    pub(super) unsafe fn new(job: &'a Job<'a>, kv_head: usize, queries: Range<usize>) -> Self {
        let (max, sum) = ([f32::NEG_INFINITY; TILE], [0.0; TILE]);
        Self { job, kv_head, queries, max, sum, weights: [[0.0; BLOCK]; TILE] }
    }

    #[inline(always)]
    pub(super) fn run<H: Halves>(&mut self, halves: H) {
        let Heads { kv, t, layer, group, .. } = self.job.heads;
        let (first_row, last_row) =
            (quotient(self.queries.start, group), quotient(self.queries.end - 1, group));
        let count = self.queries.len();
        for i in 0..count {
            self.out(i).fill(0.0);
        }
        let end = kv.len() + last_row + 1;
        let mut start = 0;
        while start < end {
            let block = start..end.min(start + BLOCK);
            let runs = |row| Runs { kv, at: (layer, t), row, block: block.clone() };
            let all_see_all = kv.len() + first_row + 1 >= block.end;
            let together = all_see_all && (first_row == last_row || runs(first_row).eq(runs(last_row)));
            let mut row = if together { last_row } else { first_row };
            while row <= last_row {
                let of_row = (row * group).max(self.queries.start)..((row + 1) * group).min(self.queries.end);
                let of_row = of_row.start - self.queries.start..of_row.end - self.queries.start;
                let seen = block.end.min(kv.len() + row + 1);
                if block.start < seen {
                    let queries = if together { 0..count } else { of_row };
                    self.block(halves, queries, Runs { block: block.start..seen, ..runs(row) });
                }
                row += 1;
            }
            start += BLOCK;
        }
        for i in 0..count {
            let sum = self.sum[i % TILE];
            for out in self.out(i) {
                *out /= sum;
            }
        }
    }

    /// A block, which all of these queries read at the same places.
    #[inline(always)]
    fn block<H: Halves>(&mut self, halves: H, queries: Range<usize>, runs: Runs<'a>) {
        for i in queries.clone() {
            self.weights[i % TILE] = [f32::NEG_INFINITY; BLOCK];
        }
        let kv = self.job.heads.kv;
        let mut at = 0;
        for run in runs.clone() {
            let [keys, _] = kv.rows(run, self.kv_head);
            if H::COMPACT {
                self.scores(halves, queries.clone(), at, keys);
            } else {
                with_element!(keys.element, E => {
                    halves.call(Scores { tile: self, queries: queries.clone(), at, keys: keys.rows::<E>() });
                });
            }
            at += run.count;
        }
        for i in queries.clone() {
            self.weigh(halves, i);
        }
        let mut at = 0;
        for run in runs {
            let [_, values] = kv.rows(run, self.kv_head);
            if H::COMPACT {
                self.values(halves, queries.clone(), at, values);
            } else {
                with_element!(values.element, E => {
                    halves.call(Values { tile: self, queries: queries.clone(), at, values: values.rows::<E>() });
                });
            }
            at += run.count;
        }
    }

    /// Scores of a run, whose first position is number `at` of the block.
    #[inline(always)]
    fn scores<S: Source, H: Halves>(&mut self, halves: H, queries: Range<usize>, at: usize, keys: S) {
        let mut i = queries.start;
        while i < queries.end {
            i += match queries.end - i {
                3 if H::MANY_SUMS => self.scores_of::<S, H, 3, 4>(halves, i, at, keys),
                4.. if !H::COMPACT => self.scores_of::<S, H, 4, 1>(halves, i, at, keys),
                2.. if !H::COMPACT => self.scores_of::<S, H, 2, 2>(halves, i, at, keys),
                2.. if PAIRS => self.scores_of::<S, H, 2, 1>(halves, i, at, keys),
                _ if !H::COMPACT => self.scores_of::<S, H, 1, 4>(halves, i, at, keys),
                _ => self.scores_of::<S, H, 1, 1>(halves, i, at, keys),
            };
        }
    }

    /// Scores of `Q` queries from number `i` on, with `P` positions at a time: sums that wait for
    /// nothing but themselves. Gives back `Q`.
    #[inline(always)]
    fn scores_of<S: Source, H: Halves, const Q: usize, const P: usize>(
        &mut self,
        halves: H,
        i: usize,
        at: usize,
        keys: S,
    ) -> usize {
        let mut q: [&[f32]; Q] = [&[]; Q];
        for n in 0..Q {
            q[n] = self.q(i + n);
        }
        let units = self.job.heads.head_dim.div_ceil(UNIT).max(1);
        let count = keys.positions(units).min(BLOCK - at);
        let mut p = 0;
        while p + P <= count {
            let products = products::<S, H, Q, P>(halves, q, units, keys, p);
            self.keep_scores(halves, i, (at + p, p), keys, products);
            p += P;
        }
        while P > 1 && p < count {
            let products = products::<S, H, Q, 1>(halves, q, units, keys, p);
            self.keep_scores(halves, i, (at + p, p), keys, products);
            p += 1;
        }
        Q
    }

    /// Scores of `Q` queries from number `i` on and of `P` positions, the first of them number `at` of the
    /// block and `p` of the run.
    #[inline(always)]
    fn keep_scores<S: Source, H: Halves, const Q: usize, const P: usize>(
        &mut self,
        halves: H,
        i: usize,
        (at, p): (usize, usize),
        keys: S,
        products: [[H::Lanes; Q]; P],
    ) {
        // A query's scores lie side by side.
        let mut sums = [[0.0; P]; Q];
        let of = |k: usize| products[k % P][k / P % Q];
        if const { (Q * P).is_multiple_of(4) } {
            for k in (0..Q * P).step_by(4) {
                let four = halves.sums([of(k), of(k + 1), of(k + 2), of(k + 3)]);
                for j in 0..4 {
                    sums[(k + j) / P % Q][(k + j) % P] = four[j];
                }
            }
        } else {
            for k in 0..Q * P {
                sums[k / P % Q][k % P] = halves.sum(of(k));
            }
        }
        let mut scales = [self.job.scale; P];
        for r in 0..P {
            scales[r] = keys.scale(p + r).map_or(self.job.scale, |scale| scale * self.job.scale);
        }
        for n in 0..Q {
            let scores = self.weights[(i + n) % TILE].get_mut(at..at + P).unwrap_or_default();
            for ((score, sum), scale) in scores.iter_mut().zip(sums[n]).zip(scales) {
                *score = sum * scale;
            }
        }
    }

    /// Scores become weights; what was summed up so far is made relative to the new largest score.
    #[inline(always)]
    fn weigh<H: Halves>(&mut self, halves: H, i: usize) {
        let n = i % TILE;
        let weights = &mut self.weights[n];
        let max = larger(self.max[n], largest(weights));
        let shrink = exp(self.max[n] - max);
        for weight in weights.iter_mut() {
            *weight = exp(*weight - max);
        }
        let [first, second]: [[f32; LANES]; 2] = bytemuck::must_cast(*weights);
        let sum = halves.sum(halves.add(halves.load(&first), halves.load(&second)));
        self.sum[n] = self.sum[n] * shrink + sum;
        self.max[n] = max;
        if shrink != 1.0 {
            for out in self.out(i) {
                *out *= shrink;
            }
        }
    }

    /// Adds the values of a run, whose first position is number `at` of the block.
    #[inline(always)]
    fn values<S: Source, H: Halves>(&mut self, halves: H, queries: Range<usize>, at: usize, values: S) {
        let mut i = queries.start;
        while i < queries.end {
            i += match queries.end - i {
                4.. if H::MANY_SUMS => self.values_of::<S, H, 4, 2>(halves, i, at, values),
                3 if H::MANY_SUMS => self.values_of::<S, H, 3, 2>(halves, i, at, values),
                2.. if H::MANY_SUMS => self.values_of::<S, H, 2, 2>(halves, i, at, values),
                2.. if PAIRS || !H::COMPACT => self.values_of::<S, H, 2, 1>(halves, i, at, values),
                _ if !H::COMPACT => self.values_of::<S, H, 1, 2>(halves, i, at, values),
                _ => self.values_of::<S, H, 1, 1>(halves, i, at, values),
            };
        }
    }

    /// The values for `Q` queries from number `i` on, `U` units of a vector at a time. Gives back `Q`.
    #[inline(always)]
    fn values_of<S: Source, H: Halves, const Q: usize, const U: usize>(
        &mut self,
        halves: H,
        i: usize,
        at: usize,
        values: S,
    ) -> usize {
        let units = self.job.heads.head_dim.div_ceil(UNIT).max(1);
        let mut weights = [[0.0f32; BLOCK]; Q];
        let count = values.positions(units).min(BLOCK - at);
        for n in 0..Q {
            weights[n] = self.weights[(i + n) % TILE];
            for (p, weight) in weights[n].iter_mut().skip(at).take(count).enumerate() {
                *weight = values.scale(p).map_or(*weight, |scale| *weight * scale);
            }
        }
        let mut u = 0;
        while u + U <= units {
            self.add_values::<S, H, Q, U>(halves, i, u, &weights, (at, values, units, count));
            u += U;
        }
        while U > 1 && u < units {
            self.add_values::<S, H, Q, 1>(halves, i, u, &weights, (at, values, units, count));
            u += 1;
        }
        Q
    }

    /// Adds units `u..u + U` of the values to what `Q` queries have.
    #[inline(always)]
    fn add_values<S: Source, H: Halves, const Q: usize, const U: usize>(
        &mut self,
        halves: H,
        i: usize,
        u: usize,
        weights: &[[f32; BLOCK]; Q],
        (at, values, units, count): (usize, S, usize, usize),
    ) {
        let mut sums = [[[halves.load(&[0.0; LANES]); 2]; U]; Q];
        for n in 0..Q {
            for k in 0..U {
                let both: [[f32; LANES]; 2] = bytemuck::must_cast(unit_of(self.out(i + n), u + k));
                sums[n][k] = [halves.load(&both[0]), halves.load(&both[1])];
            }
        }
        'positions: for p in 0..count {
            let Some(vector) = values.vector(p, units) else { break };
            for k in 0..U {
                for half in 0..2 {
                    let Some(wide) = vector.unit(halves, u + k, half) else { break 'positions };
                    for n in 0..Q {
                        let weighed = halves.scale(wide, weights[n][(at + p) % BLOCK]);
                        sums[n][k][half] = halves.add(sums[n][k][half], weighed);
                    }
                }
            }
        }
        for n in 0..Q {
            for k in 0..U {
                let [first, second] = sums[n][k];
                let both = [halves.store(first), halves.store(second)];
                let sums: [f32; UNIT] = bytemuck::must_cast(both);
                for (out, sum) in self.out(i + n).iter_mut().skip((u + k) * UNIT).zip(sums) {
                    *out = sum;
                }
            }
        }
    }

    /// Where query number `i` of the tile begins in `q` and `out`.
    #[inline]
    fn at(&self, i: usize) -> usize {
        let Heads { kv_heads, group, head_dim, .. } = self.job.heads;
        let query = self.queries.start + i;
        let (row, head) = (quotient(query, group), self.kv_head * group + remainder(query, group));
        (row * kv_heads * group + head) * head_dim
    }

    #[inline(always)]
    fn q(&self, i: usize) -> &'a [f32] {
        let at = self.at(i);
        self.job.q.get(at..at + self.job.heads.head_dim).unwrap_or_default()
    }

    #[inline(always)]
    fn out(&mut self, i: usize) -> &mut [f32] {
        debug_assert!(i < self.queries.len());
        let at = self.at(i);
        // SAFETY: `out` is as long as `q`, of which every query has `head_dim` values from `at` on;
        // nobody else computes this tile's queries, as `new` says, and the tile is borrowed.
        unsafe { core::slice::from_raw_parts_mut(self.job.out.add(at), self.job.heads.head_dim) }
    }
}

/// [`Tile::scores`] as work.
struct Scores<'t, 'a, S> {
    tile: &'t mut Tile<'a>,
    queries: Range<usize>,
    at: usize,
    keys: S,
}

impl<S: Source> Portable for Scores<'_, '_, S> {
    #[inline(always)]
    fn run<H: Halves>(self, halves: H) {
        self.tile.scores(halves, self.queries, self.at, self.keys);
    }
}

/// [`Tile::values`] as work.
struct Values<'t, 'a, S> {
    tile: &'t mut Tile<'a>,
    queries: Range<usize>,
    at: usize,
    values: S,
}

impl<S: Source> Portable for Values<'_, '_, S> {
    #[inline(always)]
    fn run<H: Halves>(self, halves: H) {
        self.tile.values(halves, self.queries, self.at, self.values);
    }
}

/// The runs of a block.
#[derive(Clone)]
struct Runs<'a> {
    kv: &'a KvCache<'a>,
    /// Layer and loop.
    at: (usize, usize),
    row: usize,
    /// Positions yet to come.
    block: Range<usize>,
}

impl Iterator for Runs<'_> {
    type Item = Run;

    #[inline(always)]
    fn next(&mut self) -> Option<Run> {
        if self.block.is_empty() {
            return None;
        }
        let run = self.kv.run(self.at, self.row, self.block.start, self.block.end);
        self.block.start += run.count;
        Some(run)
    }
}

/// Products of `Q` queries with the keys of `P` positions from the `first` one on, yet to be added up.
#[inline(always)]
fn products<S: Source, H: Halves, const Q: usize, const P: usize>(
    halves: H,
    q: [&[f32]; Q],
    units: usize,
    keys: S,
    first: usize,
) -> [[H::Lanes; Q]; P] {
    let mut lanes = [[halves.load(&[0.0; LANES]); Q]; P];
    let mut vectors = [keys; P];
    for p in 0..P {
        let Some(vector) = keys.vector(first + p, units) else { return lanes };
        vectors[p] = vector;
    }
    let mut part = [halves.load(&[0.0; LANES]); Q];
    let whole = if H::COMPACT { 0 } else { units.min(q.first().map_or(0, |q| q.len() / UNIT)) };
    for u in 0..whole {
        // Nothing is missing, and to leave if it were costs less than to choose zeros instead.
        for half in 0..2 {
            for n in 0..Q {
                let Some(values) = q[n].as_chunks::<LANES>().0.get(2 * u + half) else { return lanes };
                part[n] = halves.load(values);
            }
            for p in 0..P {
                let Some(wide) = vectors[p].unit(halves, u, half) else { return lanes };
                for n in 0..Q {
                    lanes[p][n] = halves.add(lanes[p][n], halves.mul(part[n], wide));
                }
            }
        }
    }
    for u in whole..units {
        for half in 0..2 {
            for n in 0..Q {
                part[n] = match q[n].as_chunks::<LANES>().0.get(2 * u + half) {
                    Some(part) => halves.load(part),
                    None => halves.load(&padded(q[n].get((2 * u + half) * LANES..).unwrap_or_default())),
                };
            }
            for p in 0..P {
                let wide = vectors[p].widen(halves, u, half);
                for n in 0..Q {
                    lanes[p][n] = halves.add(lanes[p][n], halves.mul(part[n], wide));
                }
            }
        }
    }
    lanes
}
