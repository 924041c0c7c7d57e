//! The forward pass, in the order of the equations:
//!
//! ```text
//! h = embed(tokens)
//! for loop in 1..=T:
//!     for layer in layers:
//!         h = h + rms(attn(rms(h, attn_norm)), post_attn_norm)
//!         h = h + rms(swiglu(rms(h, ffn_norm)), post_ffn_norm)
//!     h = rms(h, output_norm)
//!     gate[loop] = sigmoid(w_gate . h + b_gate)
//!     logits[loop] = lm_head(h)
//! ```
//!
//! A `llama` model has one loop and no post-norms. `N` is the number of positions in flight, and
//! every matrix is `[N, width]`, row by row.

use crate::arena::{Arena, ArenaFull};
use crate::kernels::attention::{Heads, attention};
use crate::kernels::double::{Double, single};
use crate::kernels::math::{exp_f64, ln, reciprocal, sin_cos};
use crate::kernels::reference::{add, dot, rms_norm, rms_norm_in_place, rope};
use crate::kernels::{Kernels, Readout, swiglu};
use crate::kv::KvCache;
use crate::model::{Config, Model, Role, Visit};
use crate::rows::{rows, rows_mut};
use crate::session::SessionError;
use crate::store::Store;

/// Activations. Sizes are those of the largest pass; a smaller one uses the front.
#[derive(Debug)]
pub(crate) struct Buffers<'a> {
    /// The hidden states, `[N, hidden]`.
    pub(crate) h: &'a mut [f32],
    /// A layer's input after its norm, and what the layer adds to `h`: `[N, hidden]`.
    x: &'a mut [f32],
    /// Q, K, V and what attention makes of them in the attention part, gate and up projections in
    /// the feed-forward part.
    wide: &'a mut [f32],
    /// What multiplies matrices.
    pub(crate) kernels: Kernels<'a>,
    /// 1 / theta^(2i / head_dim), `[head_dim / 2]`.
    inverse_frequencies: &'a mut [f32],
    /// Cosine and sine of every position's angles, `[N, head_dim / 2]`.
    angles: &'a mut [[f32; 2]],
}

impl<'a> Buffers<'a> {
    /// Buffers for up to `rows` positions in flight.
    pub(crate) fn carve(arena: &mut Arena<'a>, config: &Config, rows: usize) -> Result<Self, ArenaFull> {
        let wide = (2 * config.q_width() + 2 * config.kv_width()).max(2 * config.ffn);
        let pairs = config.head_dim / 2;
        let widest = config.hidden.max(config.ffn).max(config.q_width());
        Ok(Self {
            h: arena.take(rows.saturating_mul(config.hidden))?,
            x: arena.take(rows.saturating_mul(config.hidden))?,
            wide: arena.take(rows.saturating_mul(wide))?,
            kernels: Kernels::carve(arena, rows, widest)?,
            inverse_frequencies: arena.take(pairs)?,
            angles: arena.take(rows.saturating_mul(pairs))?,
        })
    }

    /// Computes `theta^(-2i/d)`, rounded to f32.
    pub(crate) fn set_frequencies(&mut self, config: &Config) {
        // Both are far below 2^24, and so exact.
        let step = -2.0 * reciprocal((config.head_dim as f32).into()) * ln(config.rope_theta);
        for (i, frequency) in self.inverse_frequencies.iter_mut().enumerate() {
            *frequency = single(exp_f64(Double::from(i as f32) * step));
        }
    }

    /// Puts another hidden state in the place of one position's.
    pub(crate) fn set_hidden(&mut self, row: usize, hidden: &[f32]) {
        let start = row.saturating_mul(hidden.len());
        let h = self.h.get_mut(start..).unwrap_or_default();
        for (h, hidden) in h.iter_mut().zip(hidden) {
            *h = *hidden;
        }
    }

    /// The hidden state of one position in flight.
    pub(crate) fn hidden(&self, row: usize, config: &Config) -> &[f32] {
        let start = row.saturating_mul(config.hidden);
        self.h.get(start..start.saturating_add(config.hidden)).unwrap_or_default()
    }
}

/// `h = embed(tokens)`, and the angles of their positions, the first of which is `position`.
pub(crate) fn embed<S: Store>(
    model: &Model<'_>,
    store: &mut S,
    b: &mut Buffers<'_>,
    tokens: &[u32],
    position: usize,
) -> Result<(), SessionError> {
    let config = model.config();
    let pairs = (config.head_dim / 2).max(1);
    let rows_in_flight = rows_mut(b.h, config.hidden).zip(rows_mut(b.angles, pairs));
    for ((n, token), (h, angles)) in tokens.iter().enumerate().zip(rows_in_flight) {
        model.weights().embed(store, *token, h)?;
        for ([cos, sin], frequency) in angles.iter_mut().zip(&*b.inverse_frequencies) {
            [*sin, *cos] = sin_cos((position + n) as f32 * frequency);
        }
    }
    Ok(())
}

/// One layer of loop `t` (from 0) for `n` positions in flight.
pub(crate) fn layer<S: Store>(
    model: &Model<'_>,
    store: &mut S,
    kv: &mut KvCache<'_>,
    b: &mut Buffers<'_>,
    (t, visit): (usize, Visit),
    n: usize,
) -> Result<(), SessionError> {
    let layer = visit.layer;
    let config = model.config();
    let weights = model.weights();
    let (q_width, kv_width, ffn) = (config.q_width(), config.kv_width(), config.ffn);
    let mut norms = weights.layer_norms(layer);
    let mut norm = || norms.next().unwrap_or_default();
    let h = front(b.h, n * config.hidden);
    let x = front(b.x, n * config.hidden);

    // h = h + rms(attn(rms(h, attn_norm)), post_attn_norm)
    norm_rows(h, norm(), config.eps, x);
    let [q, k, v, attended] = split(b.wide, [n * q_width, n * kv_width, n * kv_width, n * q_width]);
    let input = &mut b.kernels.input(x);
    weights.matmul(store, visit, Role::Q, input, q)?;
    weights.matmul(store, visit, Role::K, input, k)?;
    weights.matmul(store, visit, Role::V, input, v)?;
    let pairs = (config.head_dim / 2).max(1);
    let heads = rows_mut(q, q_width).zip(rows_mut(k, kv_width));
    for ((q, k), angles) in heads.zip(rows(b.angles, pairs)) {
        rope(q, angles);
        rope(k, angles);
    }
    for (row, (k, v)) in rows_mut(k, kv_width).zip(rows_mut(v, kv_width)).enumerate() {
        kv.write(layer, t, row, k, v);
    }
    let heads = Heads {
        kv,
        layer,
        t,
        rows: n,
        kv_heads: config.kv_heads,
        group: config.heads_per_kv_head(),
        head_dim: config.head_dim,
    };
    attention(b.kernels.backend, b.kernels.workers, heads, q, attended);
    weights.matmul(store, visit, Role::AttnOutput, &mut b.kernels.input(attended), x)?;
    if config.post_norms() {
        norm_rows_in_place(x, norm(), config.eps);
    }
    add(h, x);

    // h = h + rms(swiglu(rms(h, ffn_norm)), post_ffn_norm)
    norm_rows(h, norm(), config.eps, x);
    let [gate, up] = split(b.wide, [n * ffn, n * ffn]);
    let input = &mut b.kernels.input(x);
    weights.matmul(store, visit, Role::FfnGate, input, gate)?;
    weights.matmul(store, visit, Role::FfnUp, input, up)?;
    swiglu(b.kernels.backend, b.kernels.workers, gate, up);
    weights.matmul(store, visit, Role::FfnDown, &mut b.kernels.input(gate), x)?;
    if config.post_norms() {
        norm_rows_in_place(x, norm(), config.eps);
    }
    add(h, x);
    Ok(())
}

/// `h = rms(h, output_norm)`: the end of a loop for `n` positions in flight.
pub(crate) fn end_loop(model: &Model<'_>, b: &mut Buffers<'_>, n: usize) {
    let config = model.config();
    norm_rows_in_place(front(b.h, n * config.hidden), model.weights().output_norm(), config.eps);
}

/// `w_gate . h + b_gate` of one position; `None` on a model without a gate.
pub(crate) fn gate_logit(model: &Model<'_>, h: &[f32]) -> Option<f32> {
    model.gate().map(|gate| dot(gate.weight, h) + gate.bias)
}

/// `lm_head(h)` of one position in flight, and what is asked of it.
pub(crate) fn logits<S: Store>(
    model: &Model<'_>,
    store: &mut S,
    b: &mut Buffers<'_>,
    row: usize,
    logits: &mut [f32],
) -> Result<Readout, SessionError> {
    let h = rows(b.h, model.config().hidden).nth(row).unwrap_or_default();
    let backend = b.kernels.backend;
    let mut readout = Readout::default();
    let take = |logits: &[f32], computed| readout.take(backend, logits, computed);
    model.weights().logits(store, &mut b.kernels.input(h), logits, take)?;
    Ok(readout)
}

fn norm_rows(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    for (x, out) in rows(x, weight.len()).zip(rows_mut(out, weight.len())) {
        rms_norm(x, weight, eps, out);
    }
}

fn norm_rows_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    for x in rows_mut(x, weight.len()) {
        rms_norm_in_place(x, weight, eps);
    }
}

/// The first `len` values; all of them if there are fewer, which the carving rules out.
fn front(values: &mut [f32], len: usize) -> &mut [f32] {
    let len = len.min(values.len());
    values.get_mut(..len).unwrap_or_default()
}

/// Consecutive parts of the given lengths.
fn split<const N: usize>(mut values: &mut [f32], lengths: [usize; N]) -> [&mut [f32]; N] {
    lengths.map(|len| {
        let (part, rest) = core::mem::take(&mut values).split_at_mut_checked(len).unwrap_or_default();
        values = rest;
        part
    })
}
