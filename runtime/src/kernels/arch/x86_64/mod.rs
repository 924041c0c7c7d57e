//! x86-64: AVX2, with VNNI where there is any, and AVX-512 VNNI.
//!
//! AVX-512 without VNNI (the first Xeons and Skylake-X) is left to AVX2: there is little to gain,
//! and such CPUs lower their clock for wide registers. AVX-512 VNNI goes before AVX-VNNI: sixteen
//! rows side by side, and twice the registers.

// Arrays of fixed lengths, indexed by counters up to constants.
#![allow(unsafe_code, clippy::indexing_slicing, clippy::needless_range_loop)]

mod avx2;
mod avx512vnni;
mod avxvnni;
mod portable;

use crate::kernels::generic::{Unit, matmul};
use crate::kernels::halves::Portable;
use crate::kernels::job::Job;
use avx2::Avx2;
use avx512vnni::Avx512Vnni;
use avxvnni::AvxVnni;
use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use core::ops::Range;

/// An instruction set that this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) struct Isa(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum Set {
    Avx2,
    AvxVnni,
    Avx512Vnni,
}

impl Isa {
    /// Those of this CPU and its operating system, the fastest last.
    pub(crate) fn available() -> impl DoubleEndedIterator<Item = Self> {
        let cpu = Cpu::ask();
        [(Set::Avx2, cpu.avx2), (Set::AvxVnni, cpu.avx_vnni), (Set::Avx512Vnni, cpu.avx512_vnni)]
            .into_iter()
            .filter_map(|(set, has)| has.then_some(Self(set)))
    }

    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            Set::Avx2 => "avx2",
            Set::AvxVnni => "avxvnni",
            Set::Avx512Vnni => "avx512vnni",
        }
    }

    /// Does work in portable code.
    pub(crate) fn run<P: Portable>(self, work: P) {
        // SAFETY: a value of this type is made only where the CPU has the instructions.
        unsafe {
            match self.0 {
                Set::Avx2 | Set::AvxVnni => portable::avx2(work),
                Set::Avx512Vnni => portable::avx512(work),
            }
        }
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
                Set::Avx2 => matmul::<Avx2>(job, rows),
                Set::AvxVnni => matmul::<AvxVnni>(job, rows),
                Set::Avx512Vnni => matmul::<Avx512Vnni>(job, rows),
            }
        }
    }

    /// Products for the sake of their number.
    pub(crate) fn peak(self, rounds: usize) -> u64 {
        // SAFETY: a value of this type is made only where the CPU has the instructions.
        unsafe {
            match self.0 {
                Set::Avx2 => Avx2::peak(rounds),
                Set::AvxVnni => AvxVnni::peak(rounds),
                Set::Avx512Vnni => Avx512Vnni::peak(rounds),
            }
        }
    }
}

/// What CPU and operating system offer together.
struct Cpu {
    /// AVX2 and F16C.
    avx2: bool,
    avx_vnni: bool,
    /// AVX-512 F, BW, VL and VNNI.
    avx512_vnni: bool,
}

impl Cpu {
    fn ask() -> Self {
        let has = |register: u32, bit: u32| register >> bit & 1 == 1;
        let leaves = __cpuid(0).eax;
        let one = __cpuid(1);
        let (os_saves, avx, f16c) = (has(one.ecx, 27), has(one.ecx, 28), has(one.ecx, 29));
        if leaves < 7 || !os_saves {
            return Self { avx2: false, avx_vnni: false, avx512_vnni: false };
        }
        // SAFETY: the operating system has enabled XSAVE, so the instruction exists.
        let saved = unsafe { enabled_state() };
        let seven = __cpuid_count(7, 0);
        let seven_one = if seven.eax >= 1 { __cpuid_count(7, 1).eax } else { 0 };
        let (ymm, zmm) = (saved & 0x06 == 0x06, saved & 0xe6 == 0xe6);
        let avx2 = ymm && avx && f16c && has(seven.ebx, 5);
        let avx512 = zmm && has(seven.ebx, 16) && has(seven.ebx, 30) && has(seven.ebx, 31);
        Self { avx2, avx_vnni: avx2 && has(seven_one, 4), avx512_vnni: avx2 && avx512 && has(seven.ecx, 11) }
    }
}

/// The registers that the operating system saves.
///
/// # Safety
/// The operating system has enabled XSAVE.
#[target_feature(enable = "xsave")]
unsafe fn enabled_state() -> u64 {
    // SAFETY: register 0 always exists.
    unsafe { _xgetbv(0) }
}
