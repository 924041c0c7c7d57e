//! Whether a back end computes right on this very CPU.
//!
//! Tests show that the code is right; this shows, when the first session begins, that compiler, CPU
//! and emulator make of it what they should. A few products of each format, compared with the
//! scalar definition: less than a thousandth of a second on a workstation.

use super::activations::{GROUP, Group, quantize};
use super::job::Job;
use super::reference::WeightRows;
use super::scalar;
use bytemuck::Zeroable;
use core::fmt;
use core::mem::offset_of;
use core::ops::Range;
use ouro_quant::Format;
use ouro_quant::layout::{Q4_0, Q4_1, Q4_K, Q5_K, Q6_K, Q8_0};

/// One more than a register of 512 bits has lanes, so that a panel is moved back.
const ROWS: usize = 17;
/// The longest block.
const COLS: usize = 256;
/// Passes of these take every function that a vector unit has: for 1, 2, up to 4, up to 8, and for many
/// positions. Small cores have fewer.
const POSITIONS: &[usize] = if cfg!(ouro_packed) { &[1, 3, 11] } else { &[1, 2, 3, 5, 11] };
const MOST: usize = 11;
/// Bytes of a row of the format that has the most (Q8_0).
const ROW_BYTES: usize = 272;

/// A back end that does not compute what the definition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Mismatch {
    /// Its name.
    pub backend: &'static str,
    /// The format of the weights.
    pub format: Format,
    /// Positions in the pass.
    pub positions: usize,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, format, positions } = self;
        write!(
            f,
            "back end {backend} fails its check: {format} times {positions} position(s) differs from the \
             scalar definition, so this CPU, its emulator or the build is not to be trusted with it; \
             please report the CPU's model"
        )
    }
}

impl core::error::Error for Mismatch {}

/// Compares what `matmul` makes of all rows of a job with the definition.
pub(super) fn check(
    backend: &'static str,
    matmul: &mut dyn FnMut(&Job<'_>, Range<usize>),
) -> Result<(), Mismatch> {
    let mut numbers = Numbers(0x0123_4567_89ab_cdef);
    let mut values = [0.0; COLS];
    let mut x = [Group::zeroed(); MOST * COLS / GROUP];
    for groups in x.chunks_mut(COLS / GROUP) {
        values.fill_with(|| numbers.next() as i32 as f32);
        quantize(&values, groups);
    }
    for format in Format::ALL.iter().copied().filter(|format| scalar::knows(*format)) {
        let mut bytes = [0; ROWS * ROW_BYTES];
        let row_bytes = format.row_bytes(COLS).unwrap_or(0);
        let Some(bytes) = bytes.get_mut(..ROWS * row_bytes) else { continue };
        bytes.fill_with(|| numbers.next() as u8);
        for block in bytes.chunks_mut(format.block_bytes().max(1)) {
            for high in halves(format) {
                if let Some(byte) = block.get_mut(high + 1) {
                    *byte &= !0x40; // below 2, neither infinite nor NaN, of which all are alike
                }
            }
        }
        let weights = WeightRows { format, bytes, row_bytes, first: 0, of: ROWS };
        for &positions in POSITIONS {
            let x = x.get(..positions * COLS / GROUP).unwrap_or_default();
            let mut found = [f32::NAN; MOST * ROWS];
            let found = found.get_mut(..positions * ROWS).unwrap_or_default();
            if let Some(job) = Job::new(weights, x, found) {
                matmul(&job, 0..ROWS);
            }
            let rows = || weights.bytes.chunks_exact(row_bytes.max(1));
            let expected = x.chunks(COLS / GROUP).flat_map(|x| rows().map(|row| scalar::dot(format, row, x)));
            if !expected.map(f32::to_bits).eq(found.iter().map(|found| found.to_bits())) {
                return Err(Mismatch { backend, format, positions });
            }
        }
    }
    Ok(())
}

/// Where the f16 fields of a block are.
fn halves(format: Format) -> &'static [usize] {
    match format {
        Format::Q4_0 => &[offset_of!(Q4_0, scale)],
        Format::Q8_0 => &[offset_of!(Q8_0, scale)],
        Format::Q4_1 => &[offset_of!(Q4_1, scale), offset_of!(Q4_1, minimum)],
        Format::Q4_K => &[offset_of!(Q4_K, scale), offset_of!(Q4_K, minimum)],
        Format::Q5_K => &[offset_of!(Q5_K, scale), offset_of!(Q5_K, minimum)],
        Format::Q6_K => &[offset_of!(Q6_K, scale)],
        _ => &[],
    }
}

/// Marsaglia's xorshift.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 24
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, but for what `spoil` does to one format's products.
    fn check_spoiled(format: Format, spoil: impl Fn(&Job<'_>)) -> Result<(), Mismatch> {
        check("tested", &mut |job, rows| {
            // SAFETY: nobody else computes these rows.
            #[allow(unsafe_code)]
            unsafe {
                job.scalar(rows);
            }
            if job.format() == format {
                spoil(job);
            }
        })
    }

    /// Changes one product's last bit.
    fn flip(job: &Job<'_>, position: usize, row: usize) {
        let product = job.out(position, row);
        // SAFETY: the job has this position and row, and nobody else uses them.
        #[allow(unsafe_code)]
        unsafe {
            *product = f32::from_bits((*product).to_bits() ^ 1);
        }
    }

    #[test]
    fn a_wrong_bit_anywhere_is_found() {
        let known = || Format::ALL.iter().copied().filter(|format| scalar::knows(*format));
        assert_eq!(known().count(), 6);
        for format in known() {
            assert_eq!(check_spoiled(format, |_| {}), Ok(()));
            for row in [0, 3, 15, 16] {
                let found = check_spoiled(format, |job| flip(job, 0, row));
                assert_eq!(found, Err(Mismatch { backend: "tested", format, positions: 1 }), "row {row}");
            }
            for (position, positions) in [(1, 2), (2, 3), (4, 5), (7, 11), (10, 11)] {
                let spoil = |job: &Job<'_>| {
                    if job.positions() == positions {
                        flip(job, position, 5);
                    }
                };
                let found = check_spoiled(format, spoil);
                assert_eq!(found, Err(Mismatch { backend: "tested", format, positions }));
            }
        }
    }

    #[test]
    fn rows_left_out_are_found() {
        let nothing = check("tested", &mut |_, _| {});
        assert_eq!(nothing.map_err(|error| error.positions), Err(1));
        // SAFETY: nobody else computes these rows.
        #[allow(unsafe_code)]
        let all_but_the_last =
            check("tested", &mut |job, rows| unsafe { job.scalar(rows.start..rows.end - 1) });
        assert!(all_but_the_last.is_err());
    }

    #[test]
    fn weights_are_numbers_and_differ() {
        // Otherwise all products could be the same NaN, or zero.
        check("tested", &mut |job, rows| {
            // SAFETY: nobody else computes these rows, and all have been when they are read.
            #[allow(unsafe_code)]
            unsafe {
                job.scalar(rows);
                let products: std::vec::Vec<f32> = (0..ROWS).map(|row| *job.out(0, row)).collect();
                assert!(products.iter().all(|product| product.is_normal()), "{products:?}");
                assert!(products.windows(2).all(|pair| pair[0] != pair[1]), "{products:?}");
            }
        })
        .unwrap();
    }
}
