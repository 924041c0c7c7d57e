//! Arithmetic, apart from what is computed with it.
//!
//! Matrices are multiplied by a [`Backend`]. [`mod@reference`] is the f32 path: it decodes weights on
//! the fly, whatever their format, and is the one that is held against the original model. All
//! others quantize activations to eight bits and share one definition, [`scalar`], bit for bit:
//! `README.md` beside this file states it. `generic` is their algorithm, written once for all
//! vector units, and `arch` the instruction sets. Formats without integer kernels take the
//! reference path in every back end. What is not a matrix product has one form for all of them.
//!
//! This is the only place in the crate where `unsafe` is allowed.

pub mod activations;
mod arch;
pub(crate) mod attention;
mod backend;
mod check;
pub(crate) mod double;
pub(crate) mod elements;
mod generic;
pub(crate) mod hadamard;
pub(crate) mod halves;
#[cfg(target_has_atomic = "ptr")]
mod handoff;
mod job;
pub mod math;
#[cfg(any(test, ouro_packed))]
mod packed;
mod readout;
mod reduce;
pub mod reference;
pub mod scalar;
mod swiglu;
mod workers;

pub use attention::{AttentionSizes, CachedAttention};
pub use backend::{Backend, NoBackend};
pub use check::Mismatch;
#[cfg(target_has_atomic = "ptr")]
pub use handoff::{Handoff, Helper};
pub use readout::Readout;
pub use swiglu::swiglu;
pub use workers::{Alone, SmallestPiece, Workers};
use workers::{deal, pieces};

use crate::arena::{Arena, ArenaFull};
use activations::{GROUP, Group, quantize_with};
use job::Job;
use ouro_quant::QuantError;
use reference::WeightRows;

/// How matrices are multiplied, by whom, and the memory for it.
#[derive(Debug)]
pub(crate) struct Kernels<'a> {
    pub(crate) backend: Backend,
    pub(crate) workers: &'a dyn Workers,
    /// Quantized activations, `[N, widest / GROUP]`.
    groups: &'a mut [Group],
    /// One decoded row of weights, `[widest]`.
    decoded: &'a mut [f32],
}

impl<'a> Kernels<'a> {
    /// The fastest back end on the calling thread, for up to `rows` positions of up to `widest`
    /// values. The memory does for any back end.
    pub(crate) fn carve(arena: &mut Arena<'a>, rows: usize, widest: usize) -> Result<Self, ArenaFull> {
        let groups = arena.take(rows.saturating_mul(widest / GROUP))?;
        Ok(Self { backend: Backend::fastest(), workers: &Alone, groups, decoded: arena.take(widest)? })
    }

    /// Prepares to multiply `x`, `[N, cols]`.
    pub(crate) fn input<'x>(&'x mut self, x: &'x [f32]) -> Input<'x> {
        let Self { backend, workers, groups, decoded } = self;
        Input { backend: *backend, workers: *workers, x, groups, quantized: false, decoded }
    }
}

/// The input of one or several matrices, quantized at most once.
#[derive(Debug)]
pub(crate) struct Input<'x> {
    backend: Backend,
    workers: &'x dyn Workers,
    /// `[N, cols]`.
    x: &'x [f32],
    /// The same in groups, once a matrix has asked for it.
    groups: &'x mut [Group],
    quantized: bool,
    decoded: &'x mut [f32],
}

impl Input<'_> {
    /// Products of `weights` with all positions: for every position `n` and row `r` of those at
    /// hand, `out[n, r] = row r . x[n]`, where `out` is `[N, weights.of]` and a row has `cols`
    /// values.
    pub(crate) fn times(
        &mut self,
        weights: WeightRows<'_>,
        cols: usize,
        out: &mut [f32],
    ) -> Result<(), QuantError> {
        if self.backend.is_integer() && scalar::knows(weights.format) {
            matmul_groups(self.backend, self.workers, weights, self.groups(), out);
            return Ok(());
        }
        let decoded = self.decoded.get_mut(..cols).unwrap_or_default();
        reference::matmul_rows(weights, self.x, out, decoded)
    }

    fn groups(&mut self) -> &[Group] {
        let len = self.groups.len().min(self.x.len() / GROUP);
        let groups = self.groups.get_mut(..len).unwrap_or_default();
        if !self.quantized {
            quantize_with(self.backend, self.workers, self.x, groups);
            self.quantized = true;
        }
        groups
    }
}

/// Pieces begin at multiples of this many rows: a register's lanes, or several of them.
const PIECE_ROWS: usize = 16;

/// Products of `weights`, of a [known](scalar::knows) format, with quantized positions: `x` is
/// `[positions, groups]`, `out` is `[positions, weights.of]`, of which the rows at hand are
/// written. Does nothing if lengths do not agree.
pub fn matmul_groups(
    backend: Backend,
    workers: &dyn Workers,
    weights: WeightRows<'_>,
    x: &[Group],
    out: &mut [f32],
) {
    let Some(job) = Job::new(weights, x, out) else { return };
    let rows = job.rows();
    let products = rows.saturating_mul(x.len()).saturating_mul(GROUP);
    let pieces = pieces(workers, products, workers.smallest_piece().matrix);
    let piece_rows = rows.div_ceil(pieces.max(1)).next_multiple_of(PIECE_ROWS);
    let work = |piece: usize| {
        let start = piece.saturating_mul(piece_rows).min(rows);
        let end = start.saturating_add(piece_rows).min(rows);
        // SAFETY: pieces share no rows, and each is computed once.
        #[allow(unsafe_code)]
        unsafe {
            backend.rows(&job, start..end);
        }
    };
    deal(workers, pieces, &work);
}
