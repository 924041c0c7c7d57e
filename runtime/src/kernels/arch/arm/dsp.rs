//! The DSP instructions: two products of 16-bit numbers at a time, exact (SMLAD).
//!
//! Activations are widened once for all rows, a chunk of columns at a time; weights are widened as
//! they are read, for two rows side by side, which share what they load of the activations. Formats
//! of 256 values take the scalar definition.
//!
//! Stable Rust has no intrinsics for these instructions, and what the compiler makes of asm blocks
//! for each spills half of the operands (2.7 instructions a product instead of 1.5), so a panel of
//! two rows is a function in assembler, called as C would. It needs the floating-point unit.

use crate::kernels::activations::Group;
use crate::kernels::job::Job;
use core::arch::global_asm;
use core::mem::offset_of;
use core::ops::Range;
use ouro_quant::Format;
use ouro_quant::layout::{Q4_0, Q4_1, Q8_0};

/// Groups of a chunk: 1.2 kilobytes of stack.
const CHUNK: usize = 16;

/// A group of activations, made ready, in the order in which it is read.
#[derive(Clone, Copy)]
#[repr(C)]
struct Wide {
    /// Where the integer sums begin.
    start: i32,
    /// Of four levels the even ones and the odd ones, 16 bits each.
    pairs: [[u32; 2]; 8],
    scale: f32,
    scaled_sum: f32,
}

impl Wide {
    const ZERO: Self = Self { start: 0, pairs: [[0; 2]; 8], scale: 0.0, scaled_sum: 0.0 };

    fn new(x: &Group, format: Format) -> Self {
        let pair = |low: i8, high: i8| {
            let [low, high] = [low, high].map(|level| i16::from(level).cast_unsigned());
            u32::from(high) << 16 | u32::from(low)
        };
        let fours: [[i8; 4]; 8] = bytemuck::must_cast(x.levels);
        let mut pairs = fours.map(|[a, b, c, d]| [pair(a, c), pair(b, d)]);
        if format != Format::Q8_0 {
            // A word of 4-bit weights has low halves from the first 16, high ones from the others.
            let [a, b, c, d, e, f, g, h] = pairs;
            pairs = [a, e, b, f, c, g, d, h];
        }
        let total = i32::from(x.sums[0]) + i32::from(x.sums[1]);
        let start = if format == Format::Q4_0 { -8 * total } else { 0 };
        Self { start, pairs, scale: x.scale, scaled_sum: x.scaled_sum }
    }
}

/// Two rows and a chunk of one position, as the functions in assembler read it.
#[repr(C)]
struct Panel {
    x: *const Wide,
    /// The rows' blocks.
    blocks: [*const u8; 2],
    /// Groups, at least one.
    groups: usize,
    /// The rows' sums, which are added to.
    sums: [*mut f32; 2],
}

/// Where the fields of blocks are, as below.
const _: () = assert!(
    offset_of!(Q4_0, levels) == 2
        && offset_of!(Q4_1, levels) == 4
        && offset_of!(Q4_1, minimum) == 2
        && offset_of!(Q8_0, levels) == 2
);

// r0: x. r1, r2: blocks. r3: mask. r4 to r7: pairs of x. r8, r9: integer sums. r10, r11: scratch.
// r12: groups left. lr: the panel. s0, s1: the rows' sums. VMLA rounds its product before it adds,
// unlike VFMA.
global_asm!(
    ".cpu cortex-m33", // the instructions are the same on all
    ".fpu fpv5-sp-d16",
    ".macro ouro_dsp_begin name",
    ".section .text.\\name, \"ax\", %progbits",
    ".global \\name",
    ".type \\name, %function",
    ".thumb_func",
    "\\name:",
    "push {{r4-r11, lr}}",
    "mov lr, r0",
    "ldm lr, {{r0, r1, r2, r12}}",
    "ldr r4, [lr, #16]",
    "ldr r5, [lr, #20]",
    "vldr s0, [r4]",
    "vldr s1, [r5]",
    "mov r3, #0x000f000f",
    ".endm",
    ".macro ouro_dsp_end",
    "subs r12, #1",
    "bne 2b",
    "ldr r4, [lr, #16]",
    "ldr r5, [lr, #20]",
    "vstr s0, [r4]",
    "vstr s1, [r5]",
    "pop {{r4-r11, pc}}",
    ".endm",
    // A word of 4-bit levels of one row.
    ".macro ouro_dsp_word block, at, sum",
    "ldr r10, [\\block, #\\at]",
    "and r11, r3, r10",
    "smlad \\sum, r11, r4, \\sum",
    "and r11, r3, r10, lsr #8",
    "smlad \\sum, r11, r5, \\sum",
    "and r11, r3, r10, lsr #4",
    "smlad \\sum, r11, r6, \\sum",
    "and r11, r3, r10, lsr #12",
    "smlad \\sum, r11, r7, \\sum",
    ".endm",
    ".macro ouro_dsp_nibbles at",
    "ldm r0!, {{r4-r7}}",
    "ouro_dsp_word r1, \\at, r8",
    "ouro_dsp_word r2, \\at, r9",
    ".endm",
    // Two words of 8-bit levels of one row.
    ".macro ouro_dsp_words block, at, next, sum",
    "ldr r10, [\\block, #\\at]",
    "sxtb16 r11, r10",
    "sxtb16 r10, r10, ror #8",
    "smlad \\sum, r11, r4, \\sum",
    "smlad \\sum, r10, r5, \\sum",
    "ldr r10, [\\block, #\\next]",
    "sxtb16 r11, r10",
    "sxtb16 r10, r10, ror #8",
    "smlad \\sum, r11, r6, \\sum",
    "smlad \\sum, r10, r7, \\sum",
    ".endm",
    ".macro ouro_dsp_bytes at, next",
    "ldm r0!, {{r4-r7}}",
    "ouro_dsp_words r1, \\at, \\next, r8",
    "ouro_dsp_words r2, \\at, \\next, r9",
    ".endm",
    // s4, s5 = scale * x.scale, and s6, s7 = f32(sum); then to the next block.
    ".macro ouro_dsp_scale bytes",
    "ldrh r10, [r1], #\\bytes",
    "ldrh r11, [r2], #\\bytes",
    "vmov s4, s5, r10, r11",
    "vcvtb.f32.f16 s4, s4",
    "vcvtb.f32.f16 s5, s5",
    "vldmia r0!, {{s2, s3}}",
    "vmul.f32 s4, s4, s2",
    "vmul.f32 s5, s5, s2",
    "vmov s6, s7, r8, r9",
    "vcvt.f32.s32 s6, s6",
    "vcvt.f32.s32 s7, s7",
    ".endm",
    //
    "ouro_dsp_begin ouro_dsp_q4_0",
    "2:",
    "ldr r8, [r0], #4",
    "mov r9, r8",
    "ouro_dsp_nibbles 2",
    "ouro_dsp_nibbles 6",
    "ouro_dsp_nibbles 10",
    "ouro_dsp_nibbles 14",
    "ouro_dsp_scale 18",
    "vmla.f32 s0, s4, s6",
    "vmla.f32 s1, s5, s7",
    "ouro_dsp_end",
    //
    "ouro_dsp_begin ouro_dsp_q4_1",
    "2:",
    "ldr r8, [r0], #4",
    "mov r9, r8",
    "ouro_dsp_nibbles 4",
    "ouro_dsp_nibbles 8",
    "ouro_dsp_nibbles 12",
    "ouro_dsp_nibbles 16",
    "ldrh r10, [r1, #2]",
    "ldrh r11, [r2, #2]",
    "vmov s8, s9, r10, r11",
    "vcvtb.f32.f16 s8, s8",
    "vcvtb.f32.f16 s9, s9",
    "ouro_dsp_scale 20",
    "vmul.f32 s4, s4, s6",
    "vmul.f32 s5, s5, s7",
    "vmla.f32 s4, s8, s3",
    "vmla.f32 s5, s9, s3",
    "vadd.f32 s0, s0, s4",
    "vadd.f32 s1, s1, s5",
    "ouro_dsp_end",
    //
    "ouro_dsp_begin ouro_dsp_q8_0",
    "2:",
    "ldr r8, [r0], #4",
    "mov r9, r8",
    "ouro_dsp_bytes 2, 6",
    "ouro_dsp_bytes 10, 14",
    "ouro_dsp_bytes 18, 22",
    "ouro_dsp_bytes 26, 30",
    "ouro_dsp_scale 34",
    "vmla.f32 s0, s4, s6",
    "vmla.f32 s1, s5, s7",
    "ouro_dsp_end",
    ".text",
);

unsafe extern "C" {
    fn ouro_dsp_q4_0(panel: &Panel);
    fn ouro_dsp_q4_1(panel: &Panel);
    fn ouro_dsp_q8_0(panel: &Panel);
}

/// Computes some rows of a job.
///
/// # Safety
/// The core has the instructions, the job these rows, and nobody else computes them.
pub(super) unsafe fn matmul(job: &Job<'_>, rows: Range<usize>) {
    // SAFETY: as the caller says; each function is for the format's blocks.
    unsafe {
        match job.format() {
            Format::Q4_0 if const { Format::Q4_0.is_built() } => {
                chunks(job, rows, size_of::<Q4_0>(), ouro_dsp_q4_0);
            }
            Format::Q4_1 if const { Format::Q4_1.is_built() } => {
                chunks(job, rows, size_of::<Q4_1>(), ouro_dsp_q4_1);
            }
            Format::Q8_0 if const { Format::Q8_0.is_built() } => {
                chunks(job, rows, size_of::<Q8_0>(), ouro_dsp_q8_0);
            }
            _ => job.scalar(rows),
        }
    }
}

/// All positions, one after the other, each chunk after chunk. Between chunks the rows' sums lie in
/// the output.
unsafe fn chunks(
    job: &Job<'_>,
    rows: Range<usize>,
    block_bytes: usize,
    kernel: unsafe extern "C" fn(&Panel),
) {
    let mut wide = [Wide::ZERO; CHUNK];
    for position in 0..job.positions() {
        for row in rows.clone() {
            // SAFETY: the job has a place for each product.
            unsafe { *job.out(position, row) = 0.0 };
        }
        let mut done = 0;
        while done < job.groups() {
            let groups = CHUNK.min(job.groups() - done);
            for (g, wide) in wide.iter_mut().enumerate().take(groups) {
                // SAFETY: the position has this many groups.
                *wide = Wide::new(unsafe { &*job.x(position).add(done + g) }, job.format());
            }
            let block = |row| job.row(row).wrapping_add(done * block_bytes);
            for row in rows.clone().step_by(2) {
                // An odd row at the end is computed twice at a time.
                let other = (row + 1).min(rows.end - 1);
                let panel = Panel {
                    x: wide.as_ptr(),
                    blocks: [block(row), block(other)],
                    groups,
                    sums: [job.out(position, row), job.out(position, other)],
                };
                // SAFETY: the job has these rows with a block for each group, and a place for
                // their sums.
                unsafe { kernel(&panel) };
            }
            done += groups;
        }
    }
}
