//! WebAssembly with simd128. A module either uses it or not, so there is nothing to detect: build
//! with `-C target-feature=+simd128`. Relaxed SIMD is left alone: its dot products may differ from
//! machine to machine.

// Arrays of fixed lengths, indexed by counters up to constants.
#![allow(unsafe_code, clippy::indexing_slicing, clippy::needless_range_loop)]

mod simd128;

use crate::kernels::generic::{Unit, matmul};
use crate::kernels::job::Job;
use core::ops::Range;
use simd128::Simd128;

/// The instruction set that this module was built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) struct Isa(());

impl Isa {
    pub(crate) fn available() -> impl DoubleEndedIterator<Item = Self> {
        core::iter::once(Self(()))
    }

    pub(crate) fn name(self) -> &'static str {
        "simd128"
    }

    /// Computes some rows of a job.
    ///
    /// # Safety
    /// The job has these rows, and nobody else computes them.
    pub(crate) unsafe fn matmul(self, job: &Job<'_>, rows: Range<usize>) {
        // SAFETY: as the caller says.
        unsafe { matmul::<Simd128>(job, rows) }
    }

    /// Products for the sake of their number.
    pub(crate) fn peak(self, rounds: usize) -> u64 {
        // SAFETY: the module was built for these instructions.
        unsafe { Simd128::peak(rounds) }
    }
}
