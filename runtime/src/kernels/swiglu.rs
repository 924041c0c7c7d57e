//! The feed-forward part's activation function.

use super::Backend;
use super::halves::{Halves, LANES, Portable};
use super::math::silu;
use super::workers::{Workers, share};

/// Fewer values are not worth handing to another thread.
const SMALLEST_PIECE: usize = 1 << 11;

/// `gate[i] = silu(gate[i]) * up[i]`.
pub(crate) fn swiglu(backend: Backend, workers: &dyn Workers, gate: &mut [f32], up: &[f32]) {
    share(workers, gate, SMALLEST_PIECE, &|first, gate| {
        backend.run(Swiglu { gate, up: up.get(first..).unwrap_or_default() });
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
