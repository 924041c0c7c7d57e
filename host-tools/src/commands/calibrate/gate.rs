//! The exit gate, fitted anew: a logistic regression from the hidden state after a loop to whether
//! further loops leave its token as it is.

use super::record::Loop;
use ouro_runtime::depth::{ExitPolicy, LoopState, Needs, Reason};
use ouro_runtime::kernels::math::sigmoid as sigmoid_f32;
use ouro_runtime::kernels::reference::dot;
use rayon::prelude::*;
use std::cell::Cell;

/// Keeps weights finite where the classes can be told apart, and small where data is scarce.
const L2: f64 = 1e-4;
const NEWTON_STEPS: usize = 20;
const CG_STEPS: usize = 40;
/// Examples that one thread sums up; sums of pieces are added in order, so that the number of
/// threads changes nothing.
const PIECE: usize = 1024;

/// A fitted gate, before it is in any file.
pub(super) struct NewGate {
    pub(super) weight: Vec<f32>,
    pub(super) bias: f32,
}

impl NewGate {
    /// The probability to stop after a loop that ends with `hidden`.
    pub(super) fn lambda(&self, hidden: &[f32]) -> f32 {
        sigmoid_f32(dot(&self.weight, hidden) + self.bias)
    }

    /// Q-exit by this gate, to the bit what it is once the gate is in the model's file.
    pub(super) fn policy(&self, q: f32) -> impl ExitPolicy {
        ByNewGate { gate: self, q, survival: Cell::new(1.0) }
    }
}

struct ByNewGate<'g> {
    gate: &'g NewGate,
    q: f32,
    /// That the token has not stopped in its loops so far, each of which asks once.
    survival: Cell<f32>,
}

impl ExitPolicy for ByNewGate<'_> {
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    fn exit(&self, state: &LoopState<'_>) -> Option<Reason> {
        let before = if state.loops == 1 { 1.0 } else { self.survival.get() };
        self.survival.set(before * (1.0 - self.gate.lambda(state.hidden)));
        (1.0 - self.survival.get() >= self.q).then_some(Reason::Gate)
    }
}

/// Hidden states, `[examples, width]`, and whether a token should stop there.
pub(super) struct Examples<'e> {
    pub(super) states: Vec<&'e [f32]>,
    pub(super) stops: Vec<bool>,
}

impl<'e> Examples<'e> {
    /// All loops but the last of every position. `loops` is `[positions, max_loops]`, `hidden`
    /// `[positions, max_loops, width]`.
    pub(super) fn new(loops: &[Loop], hidden: &'e [f32], max_loops: usize, width: usize) -> Self {
        let (mut states, mut stops) = (Vec::new(), Vec::new());
        let positions = loops.chunks_exact(max_loops).zip(hidden.chunks_exact(max_loops * width));
        for (seen, hidden) in positions {
            let Some((last, before)) = seen.split_last() else { continue };
            stops.extend(before.iter().map(|seen| seen.token == last.token));
            states.extend(hidden.chunks_exact(width).take(before.len()));
        }
        Self { states, stops }
    }

    /// Mean loss at `w` (weights, then the bias), with the penalty.
    fn loss(&self, w: &[f64]) -> f64 {
        let pieces = self.states.par_chunks(PIECE).zip(self.stops.par_chunks(PIECE));
        let sums: Vec<f64> = pieces
            .map(|(states, stops)| {
                let losses = states.iter().zip(stops).map(|(state, stop)| {
                    let x = affine(w, state);
                    softplus(if *stop { -x } else { x })
                });
                losses.sum()
            })
            .collect();
        let squares: f64 = w.iter().rev().skip(1).map(|w| w * w).sum();
        sums.iter().sum::<f64>() / self.states.len() as f64 + 0.5 * L2 * squares
    }

    /// The mean over all examples of `factor(example) * (state, 1)`.
    fn mean(&self, width: usize, factor: impl Fn(usize) -> f64 + Sync) -> Vec<f64> {
        let pieces = self.states.par_chunks(PIECE).enumerate();
        let sums: Vec<Vec<f64>> = pieces
            .map(|(piece, states)| {
                let mut sum = vec![0.0; width + 1];
                for (index, state) in states.iter().enumerate() {
                    let factor = factor(piece * PIECE + index);
                    for (sum, x) in sum.iter_mut().zip(state.iter()) {
                        *sum += factor * f64::from(*x);
                    }
                    sum[width] += factor;
                }
                sum
            })
            .collect();
        let mut mean = vec![0.0; width + 1];
        for sum in sums {
            mean.iter_mut().zip(sum).for_each(|(mean, sum)| *mean += sum / self.states.len() as f64);
        }
        mean
    }
}

/// The gate's weight and bias: Newton's method, each step by conjugate gradients.
pub(super) fn fit(examples: &Examples<'_>, width: usize) -> (Vec<f32>, f32) {
    let mut w = vec![0.0; width + 1];
    let mut loss = examples.loss(&w);
    let penalty = |w: &[f64], index: usize| if index < width { L2 * w[index] } else { 0.0 };
    for _ in 0..NEWTON_STEPS {
        let lambdas: Vec<f64> = examples.states.par_iter().map(|state| sigmoid(affine(&w, state))).collect();
        let mut gradient = examples.mean(width, |i| lambdas[i] - f64::from(u8::from(examples.stops[i])));
        for (index, g) in gradient.iter_mut().enumerate() {
            *g += penalty(&w, index);
        }
        let hessian = |v: &[f64]| {
            let mut product =
                examples.mean(width, |i| lambdas[i] * (1.0 - lambdas[i]) * affine(v, examples.states[i]));
            for (index, p) in product.iter_mut().enumerate() {
                *p += penalty(v, index);
            }
            product
        };
        let direction = conjugate_gradients(hessian, &gradient);
        let Some((next, next_loss)) = line_search(examples, &w, &direction, loss) else { break };
        let gain = loss - next_loss;
        (w, loss) = (next, next_loss);
        if gain < 1e-9 {
            break;
        }
    }
    let bias = w.pop().unwrap_or(0.0);
    (w.iter().map(|w| *w as f32).collect(), bias as f32)
}

/// Halves the step until the loss falls.
fn line_search(examples: &Examples<'_>, w: &[f64], direction: &[f64], loss: f64) -> Option<(Vec<f64>, f64)> {
    let mut length = 1.0;
    for _ in 0..20 {
        let next: Vec<f64> = w.iter().zip(direction).map(|(w, d)| w - length * d).collect();
        let next_loss = examples.loss(&next);
        if next_loss < loss {
            return Some((next, next_loss));
        }
        length /= 2.0;
    }
    None
}

/// Solves `matrix(x) = b`, roughly.
fn conjugate_gradients(matrix: impl Fn(&[f64]) -> Vec<f64>, b: &[f64]) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut x = vec![0.0; b.len()];
    let (mut residual, mut direction) = (b.to_vec(), b.to_vec());
    let first = dot(b, b);
    let mut square = first;
    for _ in 0..CG_STEPS {
        if square <= first * 1e-8 {
            break;
        }
        let product = matrix(&direction);
        let curvature = dot(&direction, &product);
        if curvature <= 0.0 {
            break;
        }
        let length = square / curvature;
        x.iter_mut().zip(&direction).for_each(|(x, d)| *x += length * d);
        residual.iter_mut().zip(&product).for_each(|(r, p)| *r -= length * p);
        let next = dot(&residual, &residual);
        direction.iter_mut().zip(&residual).for_each(|(d, r)| *d = r + next / square * *d);
        square = next;
    }
    x
}

/// `w . state + bias`; the bias is the last of `w`.
fn affine(w: &[f64], state: &[f32]) -> f64 {
    let bias = w.last().copied().unwrap_or(0.0);
    w.iter().zip(state).fold(bias, |sum, (w, x)| sum + w * f64::from(*x))
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `ln(1 + exp(x))` without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points of a lattice in three dimensions, each with the label that `stop` gives it.
    fn fitted(stop: impl Fn(&[f32]) -> bool) -> (Vec<Vec<f32>>, Vec<bool>, Vec<f32>, f32) {
        let values = [-1.5f32, -0.7, 0.2, 0.9, 1.3];
        let mut points = Vec::new();
        for x in values {
            for y in values {
                points.extend(values.map(|z| vec![x, y, z]));
            }
        }
        let stops: Vec<bool> = points.iter().map(|point| stop(point)).collect();
        let states = points.iter().map(Vec::as_slice).collect();
        let (weight, bias) = fit(&Examples { states, stops: stops.clone() }, 3);
        (points, stops, weight, bias)
    }

    #[test]
    fn a_separable_set_is_separated() {
        let (points, stops, weight, bias) = fitted(|p| 2.0 * p[0] - p[1] + 0.5 * p[2] > 0.3);
        for (point, stop) in points.iter().zip(stops) {
            let logit = bias + point.iter().zip(&weight).map(|(x, w)| x * w).sum::<f32>();
            assert_eq!(logit > 0.0, stop, "{point:?}");
        }
        assert!((-0.65..-0.35).contains(&(weight[1] / weight[0])), "{weight:?}");
    }

    #[test]
    fn without_a_signal_only_the_share_is_left() {
        // Three of four stop, whatever the state: y is the only coordinate left out of the sum.
        let (_, stops, weight, bias) = fitted(|p| p.iter().map(|x| (x * 10.0) as i32).sum::<i32>() % 4 != 0);
        let share = stops.iter().filter(|stop| **stop).count() as f32 / stops.len() as f32;
        let lambda = 1.0 / (1.0 + (-bias).exp());
        assert!((lambda - share).abs() < 0.1 && weight.iter().all(|w| w.abs() < 0.5), "{weight:?} {bias}");
    }

    #[test]
    fn the_gradient_is_zero_at_the_end() {
        let states: Vec<Vec<f32>> =
            (0..50).map(|i| vec![(i % 7) as f32 - 3.0, (i % 5) as f32 - 2.0]).collect();
        let stops: Vec<bool> = (0..50).map(|i| i % 3 == 0 || i % 7 > 4).collect();
        let examples = Examples { states: states.iter().map(Vec::as_slice).collect(), stops };
        let (weight, bias) = fit(&examples, 2);
        let w: Vec<f64> = weight.iter().chain([&bias]).map(|w| f64::from(*w)).collect();
        let loss = examples.loss(&w);
        for index in 0..3 {
            for change in [-1e-3, 1e-3] {
                let mut moved = w.clone();
                moved[index] += change;
                assert!(examples.loss(&moved) > loss, "{index} {change}");
            }
        }
    }
}
