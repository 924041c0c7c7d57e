//! The feed-forward part's activation function.

use super::Backend;
use super::halves::{Halves, LANES, Portable};
use super::math::silu;
use super::workers::{Workers, share};

/// `gate[i] = silu(gate[i]) * up[i]`.
pub fn swiglu(backend: Backend, workers: &dyn Workers, gate: &mut [f32], up: &[f32]) {
    share(workers, gate, |smallest| smallest.silu, &|first, gate| {
        let up = up.get(first..).unwrap_or_default();
        backend.run(Swiglu { up: up.get(..gate.len()).unwrap_or(up), gate });
    });
}

struct Swiglu<'a> {
    gate: &'a mut [f32],
    up: &'a [f32],
}

impl Portable for Swiglu<'_> {
    #[inline(always)]
    fn run<H: Halves>(self, _: H) {
        if H::COMPACT {
            return times(self.gate, self.up);
        }
        let (gate, gate_rest) = self.gate.as_chunks_mut::<LANES>();
        let (up, up_rest) = self.up.as_chunks::<LANES>();
        for (gate, up) in gate.iter_mut().zip(up) {
            times(gate, up);
        }
        times(gate_rest, up_rest);
    }
}

#[inline(always)]
fn times(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = silu(*gate) * up;
    }
}

#[cfg(test)]
mod tests {
    use super::super::workers::tests::Backwards;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn back_ends_and_workers_agree() {
        let special = [0.0, -0.0, 1e-30, 90.0, -90.0, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY];
        for len in [0, 1, 15, 16, 17, 100] {
            let gate: Vec<f32> =
                special.into_iter().chain((0..).map(|i| i as f32 * 0.37 - 17.0)).take(len).collect();
            let up: Vec<f32> = (0..len).map(|i| 1.5 - i as f32 * 0.11).collect();
            let mut expected = gate.clone();
            times(&mut expected, &up);
            for backend in Backend::available() {
                for workers in [1, 2, 3, 7] {
                    let mut found = gate.clone();
                    swiglu(backend, &Backwards(workers), &mut found, &up);
                    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&found), bits(&expected), "{backend}, {workers} workers, {len} values");
                }
            }
        }
    }
}
