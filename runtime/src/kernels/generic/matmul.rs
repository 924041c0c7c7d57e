//! Rows of weights times positions.
//!
//! A *panel* is as many rows as a register has lanes. For up to eight positions its blocks are
//! multiplied as they are unpacked; for more they are unpacked once, a chunk of columns at a time, into a
//! buffer that stays in the first-level cache, and meet up to eight positions at a time, whose
//! sums stay in registers.

use super::formats::{How, Layout, Sink, Weights};
use super::vector::{Dot, Vector};
use crate::kernels::activations::Group;
use crate::kernels::job::Job;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Range;
use ouro_quant::Format;
use ouro_quant::layout::{Q4_0, Q4_1, Q4_K, Q5_K, Q6_K, Q8_0};

/// Groups of a chunk: 512 columns, or two of the largest blocks.
const CHUNK: usize = 16;

/// An instruction set. Its functions are where instructions are enabled: each holds all that it calls, so
/// there is one for each format and number of positions, or the compiler takes 1.7 times as long.
pub(crate) trait Unit {
    /// Rows of a panel.
    const LANES: usize;

    /// [`few`] with its registers and products.
    ///
    /// # Safety
    /// As [`Unit::many`]; there are 1 to `P` positions.
    unsafe fn few<F: Layout, const P: usize>(job: &Job<'_>, rows: Range<usize>);

    /// [`many`] with its registers and products.
    ///
    /// # Safety
    /// The CPU has the instructions, the job these rows, of blocks that `F` is the layout of, at least as many
    /// as a panel has, and nobody else computes them.
    unsafe fn many<F: Layout>(job: &Job<'_>, rows: Range<usize>);

    /// [`peak`](super::peak()) with its registers and products.
    ///
    /// # Safety
    /// The CPU has the instructions.
    unsafe fn peak(rounds: usize) -> u64;
}

/// The [`Unit`] of an instruction set, named with its features as the compiler calls them, its registers
/// and its products.
macro_rules! unit {
    ($name:ident: $features:literal, $vector:ty, $dot:ty) => {
        #[doc = concat!("With `", $features, "`.")]
        pub(super) struct $name;

        impl $crate::kernels::generic::Unit for $name {
            const LANES: usize = <$vector as $crate::kernels::generic::Vector>::LANES;

            #[target_feature(enable = $features)]
            unsafe fn few<F: $crate::kernels::generic::Layout, const P: usize>(
                job: &$crate::kernels::job::Job<'_>,
                rows: core::ops::Range<usize>,
            ) {
                // SAFETY: the instructions are enabled; the rest as the caller says.
                unsafe { $crate::kernels::generic::few::<$vector, $dot, F, P>(job, rows) }
            }

            #[target_feature(enable = $features)]
            unsafe fn many<F: $crate::kernels::generic::Layout>(
                job: &$crate::kernels::job::Job<'_>,
                rows: core::ops::Range<usize>,
            ) {
                // SAFETY: the instructions are enabled; the rest as the caller says.
                unsafe { $crate::kernels::generic::many::<$vector, $dot, F>(job, rows) }
            }

            #[target_feature(enable = $features)]
            unsafe fn peak(rounds: usize) -> u64 {
                // SAFETY: the instructions are enabled.
                unsafe { $crate::kernels::generic::peak::<$vector, $dot>(rounds) }
            }
        }
    };
}
pub(crate) use unit;

/// Computes the products of some rows of a job with all its positions.
///
/// # Safety
/// The CPU has the unit's instructions, the job these rows, and nobody else computes them.
pub(crate) unsafe fn matmul<U: Unit>(job: &Job<'_>, rows: Range<usize>) {
    // SAFETY: as the caller says; there are enough rows for a panel.
    unsafe {
        match job.format() {
            _ if rows.len() < U::LANES => job.scalar(rows),
            Format::Q4_0 if const { Format::Q4_0.is_built() } => of_format::<U, Q4_0>(job, rows),
            Format::Q4_1 if const { Format::Q4_1.is_built() } => of_format::<U, Q4_1>(job, rows),
            Format::Q8_0 if const { Format::Q8_0.is_built() } => of_format::<U, Q8_0>(job, rows),
            Format::Q4_K if const { Format::Q4_K.is_built() } => of_format::<U, Q4_K>(job, rows),
            Format::Q5_K if const { Format::Q5_K.is_built() } => of_format::<U, Q5_K>(job, rows),
            Format::Q6_K if const { Format::Q6_K.is_built() } => of_format::<U, Q6_K>(job, rows),
            _ => job.scalar(rows),
        }
    }
}

/// # Safety
/// As [`Unit::many`].
unsafe fn of_format<U: Unit, F: Layout>(job: &Job<'_>, rows: Range<usize>) {
    // SAFETY: as the caller says.
    unsafe {
        match job.positions() {
            0 => {}
            1 => U::few::<F, 1>(job, rows),
            2 => U::few::<F, 2>(job, rows),
            3 | 4 => U::few::<F, 4>(job, rows),
            5..=8 => U::few::<F, 8>(job, rows),
            _ => U::many::<F>(job, rows),
        }
    }
}

/// The first rows of panels; the last one is moved back to end with the rows, and computes some again.
#[inline(always)]
fn panels<V: Vector>(rows: Range<usize>) -> impl Iterator<Item = usize> {
    let last = rows.end - V::LANES;
    rows.step_by(V::LANES).map(move |row| row.min(last))
}

/// Panels times up to `P` positions.
///
/// # Safety
/// The CPU has the instructions of `V` and `D`; the rest as [`Unit::few`].
#[inline(always)]
pub(crate) unsafe fn few<V: Vector, D: Dot<V>, F: Layout, const P: usize>(job: &Job<'_>, rows: Range<usize>) {
    // SAFETY: as the caller says; a panel's rows lie within `rows`.
    unsafe {
        let ahead = Ahead::of::<V>(job, &rows);
        for first in panels::<V>(rows) {
            few_positions::<V, D, F, P>(job, first, ahead);
        }
    }
}

/// Panels times any number of positions.
///
/// # Safety
/// The CPU has the instructions of `V` and `D`; the rest as [`Unit::many`].
#[inline(always)]
pub(crate) unsafe fn many<V: Vector, D: Dot<V>, F: Layout>(job: &Job<'_>, rows: Range<usize>) {
    // SAFETY: as the caller says; a panel's rows lie within `rows`.
    unsafe {
        let ahead = Ahead::of::<V>(job, &rows);
        for first in panels::<V>(rows) {
            many_positions::<V, D, F>(job, first, ahead);
        }
    }
}

/// Multiplies groups as they come with `P` positions.
struct Multiply<V: Vector, D, F, const P: usize> {
    sums: [V::Float; P],
    x: [*const Group; P],
    next: Next,
    how: PhantomData<(D, F)>,
}

impl<V: Vector, D: Dot<V>, F: Layout, const P: usize> Sink<V> for Multiply<V, D, F, P> {
    // That spares four shifts and more of a group, and takes one for each position.
    const HIGH: bool = D::BYTES && P <= 2;

    #[inline(always)]
    unsafe fn take<const GROUP: usize>(&mut self, weights: Weights<V>) {
        let high = Self::HIGH && (F::GROUPS == 1 || GROUP % 2 == 1);
        // SAFETY: there is a group of activations for each group of weights.
        unsafe {
            self.next.prefetch::<V, F>();
            add_terms::<V, D, F, P>(&mut self.sums, &weights, self.x, How { high, alone: P == 1 });
            for p in 0..P {
                self.x[p] = self.x[p].add(1);
            }
        }
    }
}

/// Adds a group to the sums of `P` positions.
#[inline(always)]
unsafe fn add_terms<V: Vector, D: Dot<V>, F: Layout, const P: usize>(
    sums: &mut [V::Float; P],
    weights: &Weights<V>,
    x: [*const Group; P],
    how: How,
) {
    // SAFETY: the caller vouches for the instructions and for the groups.
    unsafe {
        if D::PAIRS && P.is_multiple_of(2) {
            for p in 0..P / 2 {
                let [first, second] = F::terms::<V, D, 2>(weights, [&*x[2 * p], &*x[2 * p + 1]], how);
                sums[2 * p] = V::add_floats(sums[2 * p], first);
                sums[2 * p + 1] = V::add_floats(sums[2 * p + 1], second);
            }
        } else {
            for p in 0..P {
                let [term] = F::terms::<V, D, 1>(weights, [&*x[p]], how);
                sums[p] = V::add_floats(sums[p], term);
            }
        }
    }
}

/// A panel times up to `P` positions; if there are fewer, the last one counts several times.
#[inline(always)]
unsafe fn few_positions<V: Vector, D: Dot<V>, F: Layout, const P: usize>(
    job: &Job<'_>,
    first: usize,
    ahead: Ahead,
) {
    // SAFETY: the job's rows and activations are of the lengths that it says.
    unsafe {
        let last = job.positions() - 1;
        let mut sink = Multiply::<V, D, F, P> {
            sums: [V::splat_float(0.0); P],
            x: [job.x(0); P],
            next: Next::panel::<V>(job, first, ahead),
            how: PhantomData,
        };
        for p in 0..P {
            sink.x[p] = job.x(p.min(last));
        }
        let (mut block, mut stride) = (job.row(first), job.row_bytes());
        for _ in 0..job.groups() / F::GROUPS {
            F::unpack::<V, _>(block, stride, &mut sink);
            (block, stride) = V::untracked(block.add(F::BYTES), stride);
        }
        for p in 0..P {
            V::store_floats(job.out(p.min(last), first), sink.sums[p]);
        }
    }
}

/// Lines of memory asked for ahead of their use. Rows lie one after another, so memory is asked for
/// in order, though a panel's rows are read side by side. Each line is asked for once: asking again
/// for one that is under way costs more than it seems (Q6_K: half of the speed).
struct Next {
    /// The first line not asked for yet.
    line: *const u8,
    /// How far to ask.
    until: *const u8,
    /// Whether the next group has to ask for this one too.
    owes: bool,
}

/// How far to ask ahead of a panel.
#[derive(Clone, Copy)]
struct Ahead {
    /// Bytes behind the next panel's first.
    distance: usize,
    /// What lies from here on is not asked for.
    end: *const u8,
}

impl Ahead {
    /// Into the matrix that follows, as this one goes there next. Of 0 to 128 KiB the best on a Zen 4
    /// core: one position of Q4_0 at 0.78 of the speed of a plain read instead of 0.65.
    const BEYOND: Self = Self { distance: 32 << 10, end: core::ptr::without_provenance(usize::MAX) };
    /// Up to the end of a thread's rows: what follows is another's, or comes from the cache of another.
    /// So the first of them must be asked for at once. Of 4 to 32 KiB none was clearly better.
    const WITHIN: usize = 8 << 10;

    /// # Safety
    /// The caller's CPU has the instructions of `V`, and the job has these rows.
    #[inline(always)]
    unsafe fn of<V: Vector>(job: &Job<'_>, rows: &Range<usize>) -> Self {
        if rows.len() == job.rows() {
            return Self::BEYOND;
        }
        let (mut line, end) = (job.row(rows.start), job.row(rows.end - 1).wrapping_add(job.row_bytes()));
        let until = line.wrapping_add(Self::WITHIN).min(end);
        while line < until {
            // SAFETY: the caller vouches for the instruction; any address will do.
            unsafe { V::prefetch(line) };
            line = line.wrapping_add(64);
        }
        Self { distance: Self::WITHIN, end }
    }
}

impl Next {
    #[inline(always)]
    fn panel<V: Vector>(job: &Job<'_>, first: usize, ahead: Ahead) -> Self {
        let mut from = job.row(first).wrapping_add(job.row_bytes() * V::LANES + ahead.distance);
        if from >= ahead.end {
            from = job.row(first); // which is here already
        }
        Self { line: from.map_addr(|address| address & !63), until: from, owes: false }
    }

    /// Asks for as many bytes as a group of this panel takes up; where that is little, for two
    /// groups at a time, which spares half of the comparisons.
    #[inline(always)]
    unsafe fn prefetch<V: Vector, F: Layout>(&mut self) {
        let mut bytes = V::LANES * F::BYTES / F::GROUPS;
        if bytes <= 320 {
            bytes *= 2;
            self.owes = !self.owes;
            if self.owes {
                return;
            }
        }
        for line in 0..bytes / 64 {
            // SAFETY: the caller vouches for the instruction; any address will do.
            unsafe { V::prefetch(self.line.wrapping_add(64 * line)) };
        }
        self.line = self.line.wrapping_add(bytes / 64 * 64);
        if bytes % 64 > 0 {
            self.until = self.until.wrapping_add(bytes);
            if self.line < self.until {
                // SAFETY: as above.
                unsafe { V::prefetch(self.line) };
                self.line = self.line.wrapping_add(64);
            }
        }
    }
}

/// Keeps groups for later.
struct Keep<V: Vector, F> {
    to: *mut Weights<V>,
    next: Next,
    how: PhantomData<F>,
}

impl<V: Vector, F: Layout> Sink<V> for Keep<V, F> {
    const HIGH: bool = false;

    #[inline(always)]
    unsafe fn take<const GROUP: usize>(&mut self, weights: Weights<V>) {
        // SAFETY: the chunk has room for all groups that are unpacked into it.
        unsafe {
            self.next.prefetch::<V, F>();
            self.to.write(weights);
            self.to = self.to.add(1);
        }
    }
}

#[inline(always)]
unsafe fn many_positions<V: Vector, D: Dot<V>, F: Layout>(job: &Job<'_>, first: usize, ahead: Ahead) {
    let mut chunk: [MaybeUninit<Weights<V>>; CHUNK] = [const { MaybeUninit::uninit() }; CHUNK];
    let chunk: *mut Weights<V> = chunk.as_mut_ptr().cast();
    // SAFETY: the job's rows and activations are of the lengths that it says, and a chunk is a
    // whole number of blocks.
    unsafe {
        let (mut block, mut stride) = (job.row(first), job.row_bytes());
        let mut done = 0;
        let mut sink =
            Keep::<V, F> { to: chunk, next: Next::panel::<V>(job, first, ahead), how: PhantomData };
        while done < job.groups() {
            let groups = CHUNK.min(job.groups() - done);
            sink.to = chunk;
            for _ in 0..groups / F::GROUPS {
                F::unpack::<V, _>(block, stride, &mut sink);
                (block, stride) = V::untracked(block.add(F::BYTES), stride);
            }
            let part = Part { chunk, groups, done, first };
            let mut n = 0;
            while n < job.positions() {
                n += match job.positions() - n {
                    8.. => positions::<V, D, F, 8>(job, &part, n),
                    4.. => positions::<V, D, F, 4>(job, &part, n),
                    2.. => positions::<V, D, F, 2>(job, &part, n),
                    _ => positions::<V, D, F, 1>(job, &part, n),
                };
            }
            done += groups;
        }
    }
}

/// Does something for each of up to eight positions, written out: the compiler does not unroll that
/// much by itself, and what is not unrolled keeps its sums in memory: see [`Dot::EIGHT`].
macro_rules! each {
    ($p:ident < $count:ident => $body:expr) => { each!($p < $count => $body; 0 1 2 3 4 5 6 7) };
    ($p:ident < $count:ident => $body:expr; $($number:literal)*) => {
        $(if $number < $count {
            let $p = $number;
            $body;
        })*
    };
}

/// A chunk of a panel.
struct Part<V: Vector> {
    chunk: *const Weights<V>,
    /// Groups in it.
    groups: usize,
    /// Groups before it.
    done: usize,
    /// The panel's first row.
    first: usize,
}

/// Adds a chunk to the sums of `P` positions from `n` on. Gives back `P`.
#[inline(always)]
unsafe fn positions<V: Vector, D: Dot<V>, F: Layout, const P: usize>(
    job: &Job<'_>,
    part: &Part<V>,
    n: usize,
) -> usize {
    // SAFETY: the job has these positions, and the chunk this many groups.
    unsafe {
        let mut sums = [V::splat_float(0.0); P];
        if part.done > 0 {
            for p in 0..P {
                sums[p] = V::load_floats(job.out(n + p, part.first));
            }
        }
        let x = job.x(n).add(part.done);
        for g in 0..part.groups {
            let (weights, how) = (&*part.chunk.add(g), How { high: false, alone: P == 1 });
            let group = |p: usize| x.add(p * job.groups() + g);
            if D::PAIRS && P.is_multiple_of(2) || !D::EIGHT {
                let groups = core::array::from_fn(group);
                add_terms::<V, D, F, P>(&mut sums, weights, groups, how);
            } else {
                each!(p < P => {
                    let [term] = F::terms::<V, D, 1>(weights, [&*group(p)], how);
                    sums[p] = V::add_floats(sums[p], term);
                });
            }
        }
        for p in 0..P {
            V::store_floats(job.out(n + p, part.first), sums[p]);
        }
    }
    P
}
