//! What greedy decoding and the confidence policies ask of logits, gathered while they are computed
//! and still in the first-level cache: `README.md`, "Logits".

// Arrays of fixed lengths, indexed by counters up to constants.
#![allow(clippy::indexing_slicing, clippy::needless_range_loop)]

use super::Backend;
use super::halves::{Halves, LANES, Portable};
use super::math::exp;

/// Logits that are taken in together: block `b` is logits `b * BLOCK..`, however they come.
const BLOCK: usize = 64 * LANES;

/// The likeliest token and the sum of all exponentials of one position's logits.
#[derive(Clone, Copy, Debug)]
pub struct Readout {
    /// Logits taken in.
    taken: usize,
    best: u32,
    first: f32,
    second: f32,
    /// The sum of `exp(logit - first)`.
    sum: f32,
}

impl Default for Readout {
    fn default() -> Self {
        Self { taken: 0, best: 0, first: f32::NEG_INFINITY, second: f32::NEG_INFINITY, sum: 0.0 }
    }
}

impl Readout {
    /// Of all logits at once.
    #[must_use]
    pub fn of(logits: &[f32]) -> Self {
        let mut readout = Self::default();
        readout.take(Backend::SCALAR, logits, logits.len());
        readout
    }

    /// Takes in what is new of `logits`, of which the first `computed` are there: whole blocks only,
    /// until all are.
    pub(crate) fn take(&mut self, backend: Backend, logits: &[f32], computed: usize) {
        let end = if computed < logits.len() { computed - computed % BLOCK } else { logits.len() };
        if let Some(new) = logits.get(self.taken..end) {
            backend.run(Take { readout: self, new });
        }
    }

    /// The token with the largest logit; of equals, the lowest id. NaN never wins.
    #[must_use]
    pub fn best(&self) -> u32 {
        self.best
    }

    /// The probabilities of the two likeliest tokens; zero where there are none.
    #[must_use]
    pub fn top_two(&self) -> (f32, f32) {
        if self.first == f32::NEG_INFINITY {
            return (0.0, 0.0);
        }
        (1.0 / self.sum, exp(self.second - self.first) / self.sum)
    }

    /// Whether all logits are numbers and none is plus infinity.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        !self.sum.is_nan()
    }
}

struct Take<'a> {
    readout: &'a mut Readout,
    new: &'a [f32],
}

impl Portable for Take<'_> {
    #[inline(always)]
    fn run<H: Halves>(self, _: H) {
        for block in self.new.chunks(BLOCK) {
            let (rows, rest) = block.as_chunks::<LANES>();
            let mut last = [f32::NEG_INFINITY; LANES];
            for (to, from) in last.iter_mut().zip(rest) {
                *to = *from;
            }
            self.readout.block(rows, &last);
            self.readout.taken += block.len();
        }
    }
}

impl Readout {
    /// One block, the last row of it filled up with minus infinity.
    #[inline(always)]
    fn block(&mut self, rows: &[[f32; LANES]], last: &[f32; LANES]) {
        let (mut first, mut second) = ([f32::NEG_INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        for i in 0..=rows.len() {
            let row = rows.get(i).unwrap_or(last);
            for lane in 0..LANES {
                let (x, best) = (row[lane], first[lane]);
                let loser = if x > best { best } else { x };
                second[lane] = if loser > second[lane] { loser } else { second[lane] };
                first[lane] = if x > best { x } else { best };
            }
        }
        let before = self.first;
        for x in first.into_iter().chain(second) {
            if x > self.first {
                (self.first, self.second) = (x, self.first);
            } else if x > self.second {
                self.second = x;
            }
        }
        if self.first > before {
            let mut logits = rows.as_flattened().iter().chain(last);
            let within = logits.position(|x| *x == self.first).unwrap_or_default();
            self.best = u32::try_from(self.taken + within).unwrap_or(u32::MAX);
        }
        // Before the first number, there is nothing to be made relative to.
        let shrink = if before == f32::NEG_INFINITY { 0.0 } else { exp(before - self.first) };
        let base = if self.first == f32::NEG_INFINITY { 0.0 } else { self.first };
        let mut sums = [0.0; LANES];
        for i in 0..=rows.len() {
            let row = rows.get(i).unwrap_or(last);
            for lane in 0..LANES {
                sums[lane] += exp(row[lane] - base);
            }
        }
        self.sum = self.sum * shrink + super::reduce::pairwise(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn logits(len: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7919 + 13) % 10_007) as f32 / 500.0 - 10.0).collect()
    }

    /// What it must be, in f64, in two passes.
    fn expected(logits: &[f32]) -> (usize, f64, f64) {
        let best = (0..logits.len()).rev().max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
        let sum: f64 = logits.iter().map(|x| f64::from(x - logits[best]).exp()).sum();
        let second =
            (0..logits.len()).filter(|i| *i != best).map(|i| logits[i]).fold(f32::NEG_INFINITY, f32::max);
        (best, 1.0 / sum, f64::from(second - logits[best]).exp() / sum)
    }

    #[test]
    fn what_two_passes_find() {
        for len in [1, 2, 15, 384, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 77] {
            for logits in [logits(len), logits(len).into_iter().rev().collect(), std::vec![3.0; len]] {
                let readout = Readout::of(&logits);
                let (best, first, second) = expected(&logits);
                assert_eq!(readout.best() as usize, best, "{len}");
                let (p, q) = readout.top_two();
                assert!((f64::from(p) - first).abs() <= 1e-6 * first, "{len}: {p}, exactly {first}");
                assert!((f64::from(q) - second).abs() <= 1e-6 * second, "{len}: {q}, exactly {second}");
                assert!(readout.is_finite());
            }
        }
    }

    #[test]
    fn neither_tiles_nor_back_ends_matter() {
        let logits = logits(7 * BLOCK + 19);
        let bits = |readout: &Readout| {
            (readout.best, [readout.first, readout.second, readout.sum].map(f32::to_bits), readout.taken)
        };
        let expected = bits(&Readout::of(&logits));
        for backend in Backend::available() {
            for tile in [1, 19, BLOCK, 1500, logits.len()] {
                let mut readout = Readout::default();
                for computed in (0..logits.len()).step_by(tile).skip(1).chain([logits.len()]) {
                    readout.take(backend, &logits, computed);
                }
                assert_eq!(bits(&readout), expected, "{backend}, tiles of {tile}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_shows() {
        for bad in [f32::NAN, f32::INFINITY] {
            for at in [0, 700, BLOCK + 3] {
                let mut logits = logits(2 * BLOCK);
                logits[at] = bad;
                assert!(!Readout::of(&logits).is_finite(), "{bad} at {at}");
            }
        }
        let readout = Readout::of(&[f32::NEG_INFINITY, 2.0]);
        assert_eq!((readout.best(), readout.top_two(), readout.is_finite()), (1, (1.0, 0.0), true));
        let nothing = Readout::of(&[f32::NEG_INFINITY; 3]);
        assert_eq!((nothing.best(), nothing.top_two()), (0, (0.0, 0.0)));
        assert_eq!(Readout::of(&[]).top_two(), (0.0, 0.0));
        assert_eq!(Readout::of(&[f32::NAN, 2.0]).best(), 1);
    }
}
