//! RISC-V with the vector extension, VLEN of 128 and more.
//!
//! Whether a hart has it only machine mode may ask, and whether it is switched on (`mstatus.VS`) is
//! the firmware's business; so the firmware says it by the cargo feature `rvv`.

#![allow(unsafe_code)]

mod rvv;

use super::small;
use crate::kernels::job::Job;
use core::ops::Range;

/// The instruction set that this image was built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) struct Isa(());

impl Isa {
    pub(crate) fn available() -> impl DoubleEndedIterator<Item = Self> {
        core::iter::once(Self(()))
    }

    pub(crate) fn name(self) -> &'static str {
        "rvv"
    }

    /// Computes some rows of a job.
    ///
    /// # Safety
    /// The job has these rows, and nobody else computes them.
    pub(crate) unsafe fn matmul(self, job: &Job<'_>, rows: Range<usize>) {
        // SAFETY: the image was built for a hart with these instructions; the rest as the caller
        // says.
        unsafe { rvv::matmul(job, rows) }
    }

    /// Products for the sake of their number.
    pub(crate) fn peak(self, rounds: usize) -> u64 {
        // SAFETY: nobody else computes the rows of a job made for this.
        small::peak(rounds, |job, rows| unsafe { self.matmul(job, rows) })
    }
}
