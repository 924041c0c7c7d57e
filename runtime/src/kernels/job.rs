//! One matrix product, checked once, of which several threads may compute different rows.

#![allow(unsafe_code)] // threads write to different rows of one output

use super::activations::{GROUP, Group};
#[cfg(ouro_packed)]
use super::packed;
use super::reference::WeightRows;
use super::scalar;
use core::marker::PhantomData;
use core::ops::Range;
#[cfg(ouro_packed)]
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use ouro_quant::Format;

/// Whether the packed form of the definition was found to compute wrong on this core.
#[cfg(ouro_packed)]
static PACKED_IS_WRONG: AtomicBool = AtomicBool::new(false);

/// From now on the definition itself computes what it would have.
#[cfg(ouro_packed)]
pub(crate) fn distrust_packed() {
    PACKED_IS_WRONG.store(true, Relaxed);
}

/// Rows of weights, quantized activations and the place for their products. One that exists has
/// lengths that agree.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    weights: WeightRows<'a>,
    rows: usize,
    /// `[positions, groups]`.
    x: &'a [Group],
    /// Groups of 32 in a row.
    groups: usize,
    positions: usize,
    /// `[positions, weights.of]`.
    out: *mut f32,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: threads share everything but `out`, which is written only through `out()`, whose callers
// see to it that no two of them compute the same row.
unsafe impl Sync for Job<'_> {}

#[allow(dead_code)] // vector units want to know more than the scalar definition
impl<'a> Job<'a> {
    /// `None` if the format is not one of the integer kernels', or if lengths do not agree.
    pub(crate) fn new(weights: WeightRows<'a>, x: &'a [Group], out: &'a mut [f32]) -> Option<Self> {
        let WeightRows { format, bytes, row_bytes, first, of } = weights;
        let blocks = row_bytes.checked_div(format.block_bytes())?;
        let groups = blocks.checked_mul(format.block_len())? / GROUP;
        let rows = bytes.len().checked_div(row_bytes)?;
        let positions = x.len().checked_div(groups)?;
        let agree = scalar::knows(format)
            && row_bytes == blocks * format.block_bytes()
            && x.len() == positions * groups
            && first.checked_add(rows)? <= of
            && out.len() == positions.checked_mul(of)?;
        let job = Self { weights, rows, x, groups, positions, out: out.as_mut_ptr(), lifetime: PhantomData };
        agree.then_some(job)
    }

    pub(crate) fn format(&self) -> Format {
        self.weights.format
    }

    /// Rows at hand.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Groups of 32 values in a row.
    pub(crate) fn groups(&self) -> usize {
        self.groups
    }

    /// Positions in flight.
    pub(crate) fn positions(&self) -> usize {
        self.positions
    }

    pub(crate) fn row_bytes(&self) -> usize {
        self.weights.row_bytes
    }

    /// The bytes of a row at hand, and of those after it.
    pub(crate) fn row(&self, row: usize) -> *const u8 {
        debug_assert!(row < self.rows);
        self.weights.bytes.as_ptr().wrapping_add(row * self.weights.row_bytes)
    }

    /// The activations of a position, and of those after it.
    pub(crate) fn x(&self, position: usize) -> *const Group {
        debug_assert!(position < self.positions);
        self.x.as_ptr().wrapping_add(position * self.groups)
    }

    /// Where the product of a position with a row at hand belongs; those of the following rows
    /// lie behind it.
    pub(crate) fn out(&self, position: usize, row: usize) -> *mut f32 {
        debug_assert!(position < self.positions && row < self.rows);
        self.out.wrapping_add(position * self.weights.of + self.weights.first + row)
    }

    /// Makes the first of these products wrong: what becomes of that is to be tested.
    ///
    /// # Safety
    /// The job has these rows, they are computed, and nobody else uses them.
    #[cfg(ouro_wrong_kernels)]
    pub(crate) unsafe fn spoil(&self, rows: Range<usize>) {
        if !rows.is_empty() {
            let product = self.out(0, rows.start);
            // SAFETY: as the caller says.
            unsafe { *product = f32::from_bits((*product).to_bits() ^ 1) }
        }
    }

    /// Computes some rows by the scalar definition, or with its bits.
    ///
    /// # Safety
    /// The job has these rows, and nobody else computes them.
    pub(crate) unsafe fn scalar(&self, rows: Range<usize>) {
        // SAFETY: as the caller says.
        #[cfg(ouro_packed)]
        if !PACKED_IS_WRONG.load(Relaxed) && unsafe { packed::matmul(self, rows.clone()) } {
            // SAFETY: as the caller says, and they are computed.
            #[cfg(ouro_wrong_kernels)]
            unsafe {
                self.spoil(rows);
            }
            return;
        }
        let bytes = self.weights.bytes.chunks_exact(self.weights.row_bytes.max(1));
        for (row, bytes) in bytes.enumerate().take(rows.end).skip(rows.start) {
            for (position, x) in self.x.chunks_exact(self.groups.max(1)).enumerate() {
                let product = scalar::dot(self.weights.format, bytes, x);
                // SAFETY: row and position are within the job, whose output has a place for each.
                unsafe { self.out(position, row).write(product) };
            }
        }
    }
}
