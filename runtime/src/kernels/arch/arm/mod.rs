//! Cortex-M: the DSP instructions and Helium.
//!
//! All of Cortex-M4 and M7 have the DSP instructions, and `build.rs` knows their targets. Whether an
//! Armv8-M core has them, or Helium, only the firmware's author can say, since unprivileged code may
//! not read the identification registers: cargo features `dsp` and `helium`.

// Arrays of fixed lengths, indexed by counters up to constants.
#![allow(unsafe_code, clippy::indexing_slicing, clippy::needless_range_loop)]

#[cfg(ouro_dsp)]
mod dsp;
#[cfg(ouro_helium)]
mod helium;

use super::small;
use crate::kernels::job::Job;
use core::ops::Range;

/// An instruction set that this image was built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) struct Isa(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum Set {
    #[cfg(ouro_dsp)]
    Dsp,
    #[cfg(ouro_helium)]
    Helium,
}

impl Isa {
    /// Those that the image was built for, the fastest last.
    pub(crate) fn available() -> impl DoubleEndedIterator<Item = Self> {
        [
            #[cfg(ouro_dsp)]
            Set::Dsp,
            #[cfg(ouro_helium)]
            Set::Helium,
        ]
        .into_iter()
        .map(Self)
    }

    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            #[cfg(ouro_dsp)]
            Set::Dsp => "dsp",
            #[cfg(ouro_helium)]
            Set::Helium => "helium",
        }
    }

    /// Computes some rows of a job.
    ///
    /// # Safety
    /// The job has these rows, and nobody else computes them.
    pub(crate) unsafe fn matmul(self, job: &Job<'_>, rows: Range<usize>) {
        // SAFETY: the image was built for a core with these instructions; the rest as the caller
        // says.
        unsafe {
            match self.0 {
                #[cfg(ouro_dsp)]
                Set::Dsp => dsp::matmul(job, rows),
                #[cfg(ouro_helium)]
                Set::Helium => helium::matmul(job, rows),
            }
        }
    }

    /// Products for the sake of their number.
    pub(crate) fn peak(self, rounds: usize) -> u64 {
        // SAFETY: nobody else computes the rows of a job made for this.
        small::peak(rounds, |job, rows| unsafe { self.matmul(job, rows) })
    }
}
