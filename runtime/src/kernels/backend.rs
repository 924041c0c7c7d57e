//! Which arithmetic to use.

use super::activations::{GROUP, Group};
use super::arch::Isa;
use super::check::{Mismatch, check};
use super::halves::{Portable, Software};
use super::job::Job;
use super::{reference, scalar};
use bytemuck::Zeroable;
use core::fmt;
use core::hint::black_box;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use ouro_quant::Format;

/// Products of a round of [`Backend::peak`] without a vector unit.
const PEAK: usize = 1024;

/// The only back end beside the reference and the definition that may be chosen, if the environment of the
/// build said so.
const ONLY: Option<&str> = option_env!("OURO_BACKEND");
const _: () = assert!(exists(ONLY), "OURO_BACKEND names none of ouro_runtime::kernels::Backend::NAMES");

/// Whether one of that name exists, if one is asked for.
const fn exists(name: Option<&str>) -> bool {
    let Some(name) = name else { return true };
    let mut names = Backend::NAMES;
    while let [first, rest @ ..] = names {
        if same(first.as_bytes(), name.as_bytes()) {
            return true;
        }
        names = rest;
    }
    false
}

/// `a == b`, which constants cannot say.
const fn same(a: &[u8], b: &[u8]) -> bool {
    match (a, b) {
        ([], []) => true,
        ([x, a @ ..], [y, b @ ..]) => *x == *y && same(a, b),
        _ => false,
    }
}

/// A way to multiply matrices. All but [`REFERENCE`](Self::REFERENCE) give the same bits; one
/// that exists can run on this CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Backend(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum Kind {
    Reference,
    Scalar,
    Vector(Isa),
}

impl Backend {
    /// The f32 path: weights decoded, activations as they are. For checking, not for speed.
    pub const REFERENCE: Self = Self(Kind::Reference);
    /// The definition of the integer kernels, on small cores in a form with its bits. Runs everywhere.
    pub const SCALAR: Self = Self(Kind::Scalar);

    /// The names of all back ends of all CPUs; of each architecture the slowest first.
    pub const NAMES: &[&str] = &[
        "reference",
        "scalar",
        "avx2",
        "avxvnni",
        "avx512vnni",
        "neon",
        "dotprod",
        "i8mm",
        "simd128",
        "dsp",
        "helium",
        "rvv",
    ];

    /// Those that can run on this CPU, the fastest last; with `OURO_BACKEND` in the environment of the build,
    /// none but that one, the reference and the definition.
    pub fn available() -> impl DoubleEndedIterator<Item = Self> {
        let built = Isa::available().filter(|isa| ONLY.is_none_or(|only| only == isa.name()));
        let vector = built.map(|isa| Self(Kind::Vector(isa)));
        [Self::REFERENCE, Self::SCALAR].into_iter().chain(vector)
    }

    /// What [`choose`](Self::choose) chooses, which is found out once.
    #[must_use]
    pub fn fastest() -> Self {
        Self::available().rev().nth(verdict() & 0xff).unwrap_or(Self::SCALAR)
    }

    /// What is wrong with a back end that would be faster than [`fastest`](Self::fastest), or with the
    /// form that the definition has on small cores; found out together with that.
    #[must_use]
    pub fn refused() -> Option<Mismatch> {
        let verdict = verdict();
        let format = Format::from_id((verdict >> 16 & 0xff) as u32).filter(|_| verdict & WRONG != 0)?;
        let faster = (verdict & 0xff).checked_sub(1).and_then(|last| Self::available().rev().nth(last));
        let backend = faster.unwrap_or(Self::SCALAR).name();
        Some(Mismatch { backend, format, positions: verdict >> 24 & 0xff })
    }

    /// The fastest one that can run on this CPU and [computes right](Self::check) on it, at the worst
    /// [`SCALAR`](Self::SCALAR); and what was wrong with a faster one, if any was.
    #[must_use]
    pub fn choose() -> (Self, Option<Mismatch>) {
        // What vectors don't compute, scalar code does, so that comes first.
        let scalar = Self::SCALAR.check();
        #[cfg(ouro_packed)]
        if scalar.is_err() {
            super::job::distrust_packed();
        }
        let (chosen, refused) = first_right(Self::available().rev(), Self::check);
        (chosen, refused.or(scalar.err()))
    }

    /// Compares what it computes on this CPU with the definition, on a few products of each format:
    /// less than a thousandth of a second on a workstation. The reference path and the definition itself
    /// have nothing to show.
    ///
    /// # Errors
    /// [`Mismatch`] with the first case that differs.
    pub fn check(self) -> Result<(), Mismatch> {
        match self.0 {
            Kind::Reference => Ok(()),
            #[cfg(not(ouro_packed))]
            Kind::Scalar => Ok(()),
            // SAFETY: nobody else computes these rows.
            #[cfg(ouro_packed)]
            #[allow(unsafe_code)]
            Kind::Scalar => check(self.name(), &mut |job, rows| unsafe { job.scalar(rows) }),
            // SAFETY: nobody else computes these rows.
            #[allow(unsafe_code)]
            Kind::Vector(isa) => check(isa.name(), &mut |job, rows| unsafe { vector(isa, job, rows) }),
        }
    }

    /// One of [`NAMES`](Self::NAMES).
    ///
    /// # Errors
    /// [`NoBackend`] if there is none of that name, if this CPU cannot run it, or if it fails its
    /// [check](Self::check).
    pub fn named(name: &str) -> Result<Self, NoBackend> {
        match Self::available().find(|backend| backend.name() == name) {
            Some(backend) => backend.check().map(|()| backend).map_err(NoBackend::Wrong),
            None if Self::NAMES.contains(&name) => Err(NoBackend::Unavailable),
            None => Err(NoBackend::Unknown),
        }
    }

    /// Its name, as in [`NAMES`](Self::NAMES).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Reference => "reference",
            Kind::Scalar => "scalar",
            Kind::Vector(isa) => isa.name(),
        }
    }

    /// Whether activations are quantized wherever the format of the weights allows.
    #[must_use]
    pub fn is_integer(self) -> bool {
        self.0 != Kind::Reference
    }

    /// Does work in portable code, compiled for the instruction set. The same bits for all, the
    /// reference included.
    pub(super) fn run<P: Portable>(self, work: P) {
        match self.0 {
            #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(fuzzing)))]
            Kind::Vector(isa) => isa.run(work),
            _ => work.run(Software),
        }
    }

    /// Does products and nothing else, with operands at hand, and gives back how many: timed, that is
    /// the most that a core could do with this back end's instructions. `rounds` are of some hundreds
    /// to thousands of products. 0 for integers without the feature `q8_0`, whose blocks they are of.
    #[must_use]
    pub fn peak(self, rounds: usize) -> u64 {
        if self.is_integer() && !Format::Q8_0.is_built() {
            return 0;
        }
        match self.0 {
            Kind::Reference => {
                let x = [1.0; PEAK];
                let sum = (0..rounds).fold(0.0, |sum, _| sum + reference::dot(black_box(&x), black_box(&x)));
                black_box(sum);
                (rounds * PEAK) as u64
            }
            Kind::Scalar => {
                let groups: [Group; PEAK / GROUP] = [Group::zeroed(); _];
                let row = [0; PEAK / 32 * 34];
                let dot = || scalar::dot(Format::Q8_0, black_box(&row), black_box(&groups));
                black_box((0..rounds).fold(0.0, |sum, _| sum + dot()));
                (rounds * PEAK) as u64
            }
            Kind::Vector(isa) => isa.peak(rounds),
        }
    }

    /// Computes some rows of a job; those of others may be computed at the same time.
    ///
    /// # Safety
    /// The job has these rows, and nobody else computes them.
    #[allow(unsafe_code)]
    pub(super) unsafe fn rows(self, job: &Job<'_>, rows: Range<usize>) {
        match self.0 {
            // SAFETY: as the caller says.
            Kind::Reference | Kind::Scalar => unsafe { job.scalar(rows) },
            // SAFETY: as the caller says.
            Kind::Vector(isa) => unsafe { vector(isa, job, rows) },
        }
    }
}

/// # Safety
/// As [`Backend::rows`].
#[allow(unsafe_code)]
unsafe fn vector(isa: Isa, job: &Job<'_>, rows: Range<usize>) {
    // SAFETY: as the caller says.
    #[cfg(ouro_wrong_kernels)]
    unsafe {
        isa.matmul(job, rows.clone());
        job.spoil(rows);
    }
    // SAFETY: as the caller says.
    #[cfg(not(ouro_wrong_kernels))]
    unsafe {
        isa.matmul(job, rows);
    }
}

/// Set in a [`verdict`] if something computes wrong.
const WRONG: usize = 1 << 8;

/// What this CPU's kernels are worth, found out once: how many of the fastest back ends are refused and,
/// with [`WRONG`], the format (from bit 16 on) and the positions (from bit 24 on) of the mismatch.
fn verdict() -> usize {
    /// Beside the verdict, so that none is zero.
    const KNOWN: usize = 1 << 9;
    // Several threads may find the same out.
    static VERDICT: AtomicUsize = AtomicUsize::new(0);
    let known = VERDICT.load(Relaxed);
    if known != 0 {
        return known;
    }
    let (chosen, mismatch) = Backend::choose();
    let refused = Backend::available().rev().take_while(|backend| *backend != chosen).count();
    let wrong = |found: Mismatch| WRONG | (found.format.id() as usize) << 16 | found.positions << 24;
    let verdict = KNOWN | refused | mismatch.map_or(0, wrong);
    VERDICT.store(verdict, Relaxed);
    verdict
}

/// The first that is right, and what was wrong with the one before it.
fn first_right(
    fastest_first: impl Iterator<Item = Backend>,
    check: impl Fn(Backend) -> Result<(), Mismatch>,
) -> (Backend, Option<Mismatch>) {
    let mut refused = None;
    for backend in fastest_first {
        match check(backend) {
            Ok(()) => return (backend, refused),
            Err(mismatch) => refused = Some(mismatch),
        }
    }
    (Backend::SCALAR, refused)
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why there is no such back end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum NoBackend {
    /// No CPU has it.
    Unknown,
    /// This CPU has not, or the build was for another.
    Unavailable,
    /// This CPU has, but computes wrong with it.
    Wrong(Mismatch),
}

impl fmt::Display for NoBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("there is no back end of that name"),
            Self::Unavailable => {
                f.write_str("this CPU lacks the instructions of that back end")?;
                ONLY.map_or(Ok(()), |only| write!(f, ", or it is not {only}, which alone this was built for"))
            }
            Self::Wrong(mismatch) => mismatch.fmt(f),
        }
    }
}

impl core::error::Error for NoBackend {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_build_is_for_back_ends_that_exist() {
        assert!(exists(None) && Backend::NAMES.iter().all(|name| exists(Some(name))));
        assert!(["", "avx", "avx2x", "AVX2"].iter().all(|name| !exists(Some(name))));
    }

    #[test]
    fn a_back_end_that_computes_wrong_is_refused() {
        let backends: Vec<Backend> = Backend::available().collect();
        let mismatch =
            |backend: Backend| Mismatch { backend: backend.name(), format: Format::Q4_0, positions: 1 };
        for right in backends.iter().filter(|backend| backend.is_integer()) {
            // Everything that comes after it is wrong.
            let first_wrong = backends.iter().skip_while(|backend| *backend != right).nth(1);
            let check = |backend: Backend| {
                let fast = backends.iter().skip_while(|other| *other != right).skip(1);
                if fast.clone().any(|other| *other == backend) { Err(mismatch(backend)) } else { Ok(()) }
            };
            let (chosen, refused) = first_right(backends.iter().copied().rev(), check);
            assert_eq!((chosen, refused), (*right, first_wrong.copied().map(mismatch)));
        }
        let nothing_right = first_right([].into_iter(), |backend| Err(mismatch(backend)));
        assert_eq!(nothing_right, (Backend::SCALAR, None));
    }
}
