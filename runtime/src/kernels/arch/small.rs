//! What the small cores' instruction sets share.

use crate::kernels::activations::{GROUP, Group};
use crate::kernels::job::Job;
use crate::kernels::reference::WeightRows;
use bytemuck::Zeroable;
use core::hint::black_box;
use core::ops::Range;
use ouro_quant::Format;

const ROWS: usize = 16;
const BLOCKS: usize = 4;
const ROW_BYTES: usize = BLOCKS * 34;

/// Multiplies a few rows of Q8_0 that stay in the cache, `rounds` times. Gives back the number of
/// products. These kernels are loops in assembler, so there is nothing less than a whole product to
/// time.
pub(super) fn peak(rounds: usize, matmul: impl Fn(&Job<'_>, Range<usize>)) -> u64 {
    let bytes = [1; ROWS * ROW_BYTES];
    let x = [Group::zeroed(); BLOCKS];
    let mut out = [0.0; ROWS];
    let rows = WeightRows { format: Format::Q8_0, bytes: &bytes, row_bytes: ROW_BYTES, first: 0, of: ROWS };
    if let Some(job) = Job::new(rows, &x, &mut out) {
        for _ in 0..rounds {
            matmul(black_box(&job), 0..ROWS);
        }
    }
    black_box(out);
    (rounds * ROWS * BLOCKS * GROUP) as u64
}
