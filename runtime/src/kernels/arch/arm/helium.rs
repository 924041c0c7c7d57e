//! Helium (MVE): 16 products of bytes at a time, summed up across the register (VMLADAV), for four
//! rows side by side, whose sums then lie in one register for the f32 part.
//!
//! Stable Rust knows neither the instructions nor the registers, so a panel of four rows is a
//! function in assembler, called as C would. Formats of 256 values take the scalar definition.
//!
//! Helium's floating point flushes subnormal numbers to zero, and the definition does not. Sums of
//! products of numbers that are not tiny never meet any: a product of scales of at least 2^-103 is a
//! multiple of 2^-126, and so is all that follows. A weight's scale is 2^-24 or more, hence
//! [`SMALLEST`]. A position with smaller activations takes the scalar definition.

use crate::kernels::activations::Group;
use crate::kernels::job::Job;
use crate::kernels::scalar;
use core::arch::global_asm;
use core::mem::offset_of;
use core::ops::Range;
use core::slice;
use ouro_quant::Format;
use ouro_quant::layout::{Q4_0, Q4_1, Q8_0};

/// Rows of a panel.
const LANES: usize = 4;

/// Activations' scales below this may lead to subnormal numbers: 2^-79.
const SMALLEST: f32 = f32::from_bits((127 - 79) << 23);

/// Four rows and one position, as the functions in assembler read it.
#[repr(C)]
struct Panel {
    /// The first row's first block, at an even address.
    block: *const u8,
    /// Bytes from row to row.
    stride: usize,
    x: *const Group,
    /// Groups, at least one.
    groups: usize,
    out: *mut f32,
}

/// Where the fields of groups and blocks are, as below.
const _: () = assert!(
    size_of::<Group>() == 44
        && offset_of!(Group, scale) == 0
        && offset_of!(Group, scaled_sum) == 4
        && offset_of!(Group, sums) == 8
        && offset_of!(Group, levels) == 12
        && offset_of!(Q4_0, levels) == 2
        && offset_of!(Q4_1, levels) == 4
        && offset_of!(Q8_0, levels) == 2
);

// r0: x. r1, r3, r5, r7: levels of the rows. r4, r6, r8, r10: their sums. r12: the first row's block.
// r2, r9, r11: scratch. q0, q1: levels of x. q2: masks. q3: offsets of the rows. q4: the rows' f32
// sums. q5 to q7: scratch.
global_asm!(
    ".cpu cortex-m55",
    ".macro ouro_begin name, levels",
    ".section .text.\\name, \"ax\", %progbits",
    ".global \\name",
    ".type \\name, %function",
    ".thumb_func",
    "\\name:",
    "push {{r4-r11, lr}}",
    "sub sp, #4",
    "vpush {{d8-d15}}",
    "mov r2, r0",
    "ldr r12, [r2]",
    "ldr r3, [r2, #4]", // the stride
    "ldr r0, [r2, #8]",
    "ldr lr, [r2, #12]",
    "str r2, [sp, #64]",
    "mov r4, #0",
    "vidup.u32 q3, r4, #1",
    "vmul.i32 q3, q3, r3",
    "add r1, r12, #\\levels",
    "add r5, r1, r3, lsl #1",
    "add r7, r5, r3",
    "add r3, r1, r3",
    "vmov.i8 q2, #15",
    "vmov.i32 q4, #0",
    "dls lr, lr",
    ".endm",
    // The group's levels.
    ".macro ouro_x",
    "vldrb.u8 q0, [r0, #12]",
    "vldrb.u8 q1, [r0, #28]",
    ".endm",
    // One row's products of 4-bit levels.
    ".macro ouro_nibbles at, sum, bytes",
    "vldrb.u8 q5, [\\at], #\\bytes",
    "vand q6, q5, q2",
    "vshr.u8 q5, q5, #4",
    "vmladav.s8 \\sum, q6, q0",
    "vmladava.s8 \\sum, q5, q1",
    ".endm",
    // One row's products of 8-bit levels.
    ".macro ouro_bytes at, sum",
    "vldrb.u8 q5, [\\at, #16]",
    "vldrb.u8 q6, [\\at], #34",
    "vmladav.s8 \\sum, q6, q0",
    "vmladava.s8 \\sum, q5, q1",
    ".endm",
    // q5 = (scale * x.scale) * f32(sum), of integers in q5.
    ".macro ouro_symmetric",
    "ldr r11, [r0]",
    "vldrh.u32 q6, [r12, q3]",
    "vcvtb.f32.f16 q6, q6",
    "vcvt.f32.s32 q5, q5",
    "vmul.f32 q6, q6, r11",
    "vmul.f32 q5, q6, q5",
    ".endm",
    ".macro ouro_gather",
    "vmov q5[2], q5[0], r4, r8",
    "vmov q5[3], q5[1], r6, r10",
    ".endm",
    ".macro ouro_end bytes",
    "vadd.f32 q4, q4, q5",
    "add r12, #\\bytes",
    "add r0, #44",
    "le lr, 2b",
    "ldr r2, [sp, #64]",
    "ldr r2, [r2, #16]",
    "vstrw.32 q4, [r2]",
    "vpop {{d8-d15}}",
    "add sp, #4",
    "pop {{r4-r11, pc}}",
    ".endm",
    //
    "ouro_begin ouro_helium_q4_0, 2",
    "2:",
    "ouro_x",
    "ouro_nibbles r1, r4, 18",
    "ouro_nibbles r3, r6, 18",
    "ouro_nibbles r5, r8, 18",
    "ouro_nibbles r7, r10, 18",
    "ouro_gather",
    "ldrsh r2, [r0, #8]",
    "ldrsh r9, [r0, #10]",
    "add r2, r9",
    "lsl r2, r2, #3",
    "vsub.i32 q5, q5, r2",
    "ouro_symmetric",
    "ouro_end 18",
    //
    "ouro_begin ouro_helium_q4_1, 4",
    "2:",
    "ouro_x",
    "ouro_nibbles r1, r4, 20",
    "ouro_nibbles r3, r6, 20",
    "ouro_nibbles r5, r8, 20",
    "ouro_nibbles r7, r10, 20",
    "ouro_gather",
    "ouro_symmetric",
    "ldr r11, [r0, #4]",
    "add r2, r12, #2",
    "vldrh.u32 q6, [r2, q3]",
    "vcvtb.f32.f16 q6, q6",
    "vmul.f32 q6, q6, r11",
    "vadd.f32 q5, q5, q6",
    "ouro_end 20",
    //
    "ouro_begin ouro_helium_q8_0, 2",
    "2:",
    "ouro_x",
    "ouro_bytes r1, r4",
    "ouro_bytes r3, r6",
    "ouro_bytes r5, r8",
    "ouro_bytes r7, r10",
    "ouro_gather",
    "ouro_symmetric",
    "ouro_end 34",
    ".text",
);

unsafe extern "C" {
    fn ouro_helium_q4_0(panel: &Panel);
    fn ouro_helium_q4_1(panel: &Panel);
    fn ouro_helium_q8_0(panel: &Panel);
}

/// Computes some rows of a job.
///
/// # Safety
/// The core has the instructions, the job these rows, and nobody else computes them.
pub(super) unsafe fn matmul(job: &Job<'_>, rows: Range<usize>) {
    let kernel = match job.format() {
        Format::Q4_0 if const { Format::Q4_0.is_built() } => ouro_helium_q4_0,
        Format::Q4_1 if const { Format::Q4_1.is_built() } => ouro_helium_q4_1,
        Format::Q8_0 if const { Format::Q8_0.is_built() } => ouro_helium_q8_0,
        // SAFETY: as the caller says.
        _ => return unsafe { job.scalar(rows) },
    };
    // Scales are gathered as 16-bit numbers, which must be aligned; rows are of an even length.
    if rows.len() < LANES || !job.row(rows.start).addr().is_multiple_of(2) {
        // SAFETY: as the caller says.
        return unsafe { job.scalar(rows) };
    }
    for position in 0..job.positions() {
        // SAFETY: the job has so many groups for each position.
        let x = unsafe { slice::from_raw_parts(job.x(position), job.groups()) };
        if x.iter().any(|x| x.scale < SMALLEST && x.scale != 0.0) {
            for row in rows.clone() {
                // SAFETY: the job has this row, and a place for its product.
                unsafe {
                    let row_bytes = slice::from_raw_parts(job.row(row), job.row_bytes());
                    *job.out(position, row) = scalar::dot(job.format(), row_bytes, x);
                }
            }
            continue;
        }
        let mut row = rows.start;
        while row < rows.end {
            // The last panel is moved back to end with the rows, and computes some again.
            let first = row.min(rows.end - LANES);
            let panel = Panel {
                block: job.row(first),
                stride: job.row_bytes(),
                x: job.x(position),
                groups: job.groups(),
                out: job.out(position, first),
            };
            // SAFETY: the job has these rows, the position, and a place for the products.
            unsafe { kernel(&panel) };
            row += LANES;
        }
    }
}
