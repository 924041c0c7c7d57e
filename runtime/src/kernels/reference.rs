//! The f32 reference path: every sum in one fixed order, so that the bits depend neither on the
//! compiler's vector width nor on how many positions share a pass.

use super::math::rsqrt;
use super::reduce::pairwise;
use crate::rows::{rows, rows_mut};
use ouro_quant::{Format, QuantError, decode};

/// Partial sums in [`dot`]: enough independent chains for any vector unit.
const LANES: usize = 16;

/// `sum(a[i] * b[i])`: 16 partial sums, lane `i % 16` taking element `i`, then a
/// pairwise sum over the lanes. Elements beyond the shorter slice are ignored.
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += a * b;
    }
    pairwise(lanes)
}

/// Consecutive rows of a weight matrix, as they lie in a tile.
#[derive(Clone, Copy, Debug)]
pub struct WeightRows<'w> {
    /// How they are stored.
    pub format: Format,
    /// Whole rows.
    pub bytes: &'w [u8],
    /// Bytes of one row.
    pub row_bytes: usize,
    /// The number of the first row within its matrix.
    pub first: usize,
    /// Rows of the whole matrix.
    pub of: usize,
}

/// Products of `weights` with all positions in flight: for every position `n` and row `r` of
/// those at hand, `out[n, r] = dot(row r, x[n])`, where `x` is `[N, cols]` and `out` is
/// `[N, weights.of]`. Each row is decoded once, into `decoded` (`[cols]`).
///
/// # Errors
/// [`QuantError`] if the bytes of a row do not match its length.
pub fn matmul_rows(
    weights: WeightRows<'_>,
    x: &[f32],
    out: &mut [f32],
    decoded: &mut [f32],
) -> Result<(), QuantError> {
    let cols = decoded.len().max(1);
    for (row, bytes) in (weights.first..).zip(rows(weights.bytes, weights.row_bytes)) {
        decode(weights.format, bytes, decoded)?;
        for (x, out) in rows(x, cols).zip(rows_mut(out, weights.of)) {
            if let Some(out) = out.get_mut(row) {
                *out = dot(decoded, x);
            }
        }
    }
    Ok(())
}

/// RMSNorm of one position: `out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]`.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let scale = rms_scale(x, eps);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

/// [`rms_norm`] in place.
pub fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    let scale = rms_scale(x, eps);
    for (x, weight) in x.iter_mut().zip(weight) {
        *x = *x * scale * weight;
    }
}

fn rms_scale(x: &[f32], eps: f32) -> f32 {
    rsqrt(dot(x, x) / x.len() as f32 + eps)
}

/// Rotary position embedding of one position's heads, in place. Elements `(2i, 2i + 1)` of each
/// head are rotated by the angle whose cosine and sine stand in `table[i]` (GGUF's order).
pub fn rope(heads: &mut [f32], table: &[[f32; 2]]) {
    let head_dim = (2 * table.len()).max(1);
    for head in heads.chunks_exact_mut(head_dim) {
        let (pairs, _) = head.as_chunks_mut::<2>();
        for ([a, b], [cos, sin]) in pairs.iter_mut().zip(table) {
            (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
        }
    }
}

/// `sum[i] += x[i]`.
pub fn add(sum: &mut [f32], x: &[f32]) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += x;
    }
}
