//! aarch64: NEON, which all of them have but for soft-float targets, with dot products (from
//! Cortex-A55 and A75 on) and matrix products (i8mm, from Cortex-A510 and A710 on).
//!
//! Programs can't read the CPU's feature registers themselves; the operating system knows. So with
//! the feature `std` it is asked, and without it the target's features are what there is: build
//! with `-C target-cpu=...` or `-C target-feature=+dotprod,+i8mm`.

// Arrays of fixed lengths, indexed by counters up to constants.
#![allow(unsafe_code, clippy::indexing_slicing, clippy::needless_range_loop)]

mod dotprod;
mod i8mm;
mod neon;
mod portable;

use crate::kernels::generic::{Unit, matmul};
use crate::kernels::halves::Portable;
use crate::kernels::job::Job;
use core::ops::Range;
use dotprod::Dotprod;
use i8mm::I8mm;
use neon::Neon;

/// An instruction set that this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) struct Isa(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum Set {
    Neon,
    Dotprod,
    I8mm,
}

#[cfg(feature = "std")]
use std::arch::is_aarch64_feature_detected as has;

#[cfg(not(feature = "std"))]
macro_rules! has {
    ($feature:tt) => {
        cfg!(target_feature = $feature)
    };
}

impl Isa {
    /// Those of this CPU, the fastest last.
    pub(crate) fn available() -> impl DoubleEndedIterator<Item = Self> {
        let (dotprod, i8mm) = (has!("dotprod"), has!("i8mm"));
        [(Set::Neon, true), (Set::Dotprod, dotprod), (Set::I8mm, dotprod && i8mm)]
            .into_iter()
            .filter_map(|(set, has)| has.then_some(Self(set)))
    }

    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            Set::Neon => "neon",
            Set::Dotprod => "dotprod",
            Set::I8mm => "i8mm",
        }
    }

    /// Does work in portable code.
    pub(crate) fn run<P: Portable>(self, work: P) {
        // SAFETY: a value of this type is made only where the CPU has the instructions.
        unsafe { portable::neon(work) }
    }

    /// Computes some rows of a job.
    ///
    /// # Safety
    /// The job has these rows, and nobody else computes them.
    pub(crate) unsafe fn matmul(self, job: &Job<'_>, rows: Range<usize>) {
        // SAFETY: a value of this type is made only where the CPU has the instructions; the rest
        // as the caller says.
        unsafe {
            match self.0 {
                Set::Neon => matmul::<Neon>(job, rows),
                Set::Dotprod => matmul::<Dotprod>(job, rows),
                Set::I8mm => matmul::<I8mm>(job, rows),
            }
        }
    }

    /// Products for the sake of their number.
    pub(crate) fn peak(self, rounds: usize) -> u64 {
        // SAFETY: a value of this type is made only where the CPU has the instructions.
        unsafe {
            match self.0 {
                Set::Neon => Neon::peak(rounds),
                Set::Dotprod => Dotprod::peak(rounds),
                Set::I8mm => I8mm::peak(rounds),
            }
        }
    }
}
