//! CPUs without a vector unit that the kernels know.

#![allow(dead_code, unsafe_code)] // elsewhere nobody uses it

use crate::kernels::job::Job;
use core::ops::Range;

/// There is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) enum Isa {}

impl Isa {
    pub(crate) fn available() -> impl DoubleEndedIterator<Item = Self> {
        core::iter::empty()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {}
    }

    /// Computes some rows of a job.
    ///
    /// # Safety
    /// The job has these rows, and nobody else computes them.
    pub(crate) unsafe fn matmul(self, _job: &Job<'_>, _rows: Range<usize>) {
        match self {}
    }

    /// Products for the sake of their number.
    pub(crate) fn peak(self, _rounds: usize) -> u64 {
        match self {}
    }
}
