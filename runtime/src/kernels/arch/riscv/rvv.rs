//! RISC-V V: as many rows side by side as a register has bytes, 16 at VLEN 128.
//!
//! A strided segment load transposes on the way: eight bytes of each row come as eight registers,
//! byte `i` of all rows in the `i`th. Each is multiplied by one level of the activations, a scalar,
//! and added up in 16 bits as far as these cannot overflow, then in 32. All loads are of bytes, so no
//! address need be aligned.
//!
//! Stable Rust knows neither the instructions nor the registers. So a panel of rows is one asm block;
//! the three below differ in the levels and share all else. Formats of 256 values take the scalar
//! definition.
//!
//! | register | |
//! |---|---|
//! | v0 | mask |
//! | v2..v8 | 16-bit sums, 16-bit scales |
//! | v8..v16 | bytes of levels; then the group's 32-bit sums in v8..v12 |
//! | v16..v24 | 16-bit and 32-bit sums, scales |
//! | v24..v28 | bytes of scales, of half levels |
//! | v28..v32 | the rows' sums, f32 |

use crate::kernels::activations::Group;
use crate::kernels::job::Job;
use core::arch::asm;
use core::mem::{offset_of, size_of};
use core::ops::Range;
use ouro_quant::Format;
use ouro_quant::layout::{Q4_0, Q4_1, Q8_0};

/// Makes f32 of f16s, which V itself does not know: from their bytes in `$low` and `$high` to
/// v16..v20. Without its sign an f16, moved to where an f32 has exponent and fraction, is 2^-112
/// times what it means, be it normal or subnormal, and f32 has subnormal numbers too, so the product
/// is exact; infinities and NaNs then still lack the upper bits of their exponent. Leaves vectors of
/// 32-bit numbers set up.
macro_rules! halves {
    ($low:literal, $high:literal) => {
        concat!(
            "vsetvli zero, {n}, e8, m1, ta, ma\n",
            "vwaddu.vv v6, ",
            $low,
            ", ",
            $high,
            "\n", // low + high
            "vwmaccu.vx v6, {all}, ",
            $high,
            "\n",                                   // low + 256 high
            "vsetvli zero, {n}, e32, m4, ta, mu\n", // undisturbed, for the masked instruction below
            "vsext.vf2 v20, v6\n",
            "vand.vx v16, v20, {magnitude}\n",
            "vmsgtu.vx v0, v16, {finite}\n",
            "vsll.vi v16, v16, 13\n",
            "vfmul.vf v16, v16, {unit}\n",
            "vor.vx v16, v16, {infinity}, v0.t\n",
            "vfsgnj.vv v16, v16, v20\n",
        )
    };
}

/// Products of 4-bit levels in `$bytes`: the low ones with the level at `$low` of a group, the high
/// ones with that at `$high`.
macro_rules! nibbles {
    ($bytes:literal, $low:literal, $high:literal) => {
        concat!(
            "lb {a}, ",
            $low,
            "({x})\n",
            "lb {b}, ",
            $high,
            "({x})\n",
            "vand.vi v24, ",
            $bytes,
            ", 15\n",
            "vsrl.vi ",
            $bytes,
            ", ",
            $bytes,
            ", 4\n",
            "vwmacc.vx v2, {a}, v24\n",
            "vwmacc.vx v4, {b}, ",
            $bytes,
            "\n",
        )
    };
    (first $bytes:literal, $low:literal, $high:literal) => {
        concat!(
            "lb {a}, ",
            $low,
            "({x})\n",
            "lb {b}, ",
            $high,
            "({x})\n",
            "vand.vi v24, ",
            $bytes,
            ", 15\n",
            "vsrl.vi ",
            $bytes,
            ", ",
            $bytes,
            ", 4\n",
            "vwmul.vx v2, v24, {a}\n",
            "vwmul.vx v4, ",
            $bytes,
            ", {b}\n",
        )
    };
}

/// Sums of products of the 4-bit levels at `{at}`, to v8..v12. Half of a group stays below
/// 16 * 15 * 127 < 2^15.
macro_rules! four_bits {
    () => {
        concat!(
            "vsetvli zero, {n}, e8, m1, ta, ma\n",
            "vlsseg8e8.v v8, ({at}), {stride}\n",
            "addi {at}, {at}, 8\n",
            nibbles!(first "v8", 12, 28),
            nibbles!("v9", 13, 29),
            nibbles!("v10", 14, 30),
            nibbles!("v11", 15, 31),
            nibbles!("v12", 16, 32),
            nibbles!("v13", 17, 33),
            nibbles!("v14", 18, 34),
            nibbles!("v15", 19, 35),
            "vlsseg8e8.v v8, ({at}), {stride}\n",
            nibbles!("v8", 20, 36),
            nibbles!("v9", 21, 37),
            nibbles!("v10", 22, 38),
            nibbles!("v11", 23, 39),
            nibbles!("v12", 24, 40),
            nibbles!("v13", 25, 41),
            nibbles!("v14", 26, 42),
            nibbles!("v15", 27, 43),
            "vsetvli zero, {n}, e16, m2, ta, ma\n",
            "vwadd.vv v8, v2, v4\n",
        )
    };
}

/// Products of two registers with two levels of a group: at most 2 * 128 * 127 < 2^15.
macro_rules! two {
    ($sum:literal, $bytes:literal, $level:literal, $next_bytes:literal, $next_level:literal) => {
        concat!(
            "lb {a}, ",
            $level,
            "({x})\n",
            "lb {b}, ",
            $next_level,
            "({x})\n",
            "vwmul.vx ",
            $sum,
            ", ",
            $bytes,
            ", {a}\n",
            "vwmacc.vx ",
            $sum,
            ", {b}, ",
            $next_bytes,
            "\n",
        )
    };
}

/// Adds products of the next eight bytes of 8-bit levels to v20..v24.
macro_rules! eight {
    ($a:literal, $b:literal, $c:literal, $d:literal, $e:literal, $f:literal, $g:literal, $h:literal) => {
        concat!(
            "vsetvli zero, {n}, e8, m1, ta, ma\n",
            "vlsseg8e8.v v8, ({at}), {stride}\n",
            "addi {at}, {at}, 8\n",
            two!("v2", "v8", $a, "v9", $b),
            two!("v4", "v10", $c, "v11", $d),
            two!("v6", "v12", $e, "v13", $f),
            two!("v16", "v14", $g, "v15", $h),
            "vsetvli zero, {n}, e16, m2, ta, ma\n",
            "vwadd.wv v20, v20, v2\n",
            "vwadd.wv v20, v20, v4\n",
            "vwadd.wv v20, v20, v6\n",
            "vwadd.wv v20, v20, v16\n",
        )
    };
}

/// `(scale * x.scale) * sum` of the integers in v8..v12 and the scales in v16..v20.
macro_rules! symmetric {
    () => {
        concat!(
            "flw {f}, 0({x})\n",
            "vfcvt.f.x.v v8, v8\n",
            "vfmul.vf v16, v16, {f}\n",
            "vfmul.vv v8, v16, v8\n",
        )
    };
}

/// Where the fields of a group are, as the asm blocks have it.
const _: () = assert!(
    offset_of!(Group, scale) == 0
        && offset_of!(Group, scaled_sum) == 4
        && offset_of!(Group, sums) == 8
        && offset_of!(Group, levels) == 12
);

/// Some rows of a job and one of its positions.
struct Panel {
    /// The first row's first block.
    block: *const u8,
    /// Bytes from row to row.
    stride: usize,
    x: *const Group,
    end: *const Group,
    /// Rows.
    n: usize,
    out: *mut f32,
}

/// Goes over all blocks; `$body` computes what a block adds to its rows' sums, to v8..v12, from its
/// levels at `{at}`. Vectors of 32-bit numbers are set up before and after.
macro_rules! panel {
    ($panel:ident, $block:ty, $body:expr) => {
        // SAFETY: the caller vouches for the instructions, and that blocks, activations and outputs
        // are where the panel says.
        unsafe {
            asm!(
                ".option push",
                ".option arch, +v",
                "vsetvli zero, {n}, e32, m4, ta, ma",
                "vmv.v.i v28, 0",
                "2:",
                "addi {at}, {block}, {levels}",
                $body,
                "vfadd.vv v28, v28, v8",
                "addi {x}, {x}, {group}",
                "addi {block}, {block}, {bytes}",
                "bne {x}, {end}, 2b",
                "vse32.v v28, ({out})",
                ".option pop",
                block = inout(reg) $panel.block => _,
                x = inout(reg) $panel.x => _,
                at = out(reg) _,
                a = out(reg) _,
                b = out(reg) _,
                f = out(freg) _,
                end = in(reg) $panel.end,
                stride = in(reg) $panel.stride,
                n = in(reg) $panel.n,
                out = in(reg) $panel.out,
                all = in(reg) 0xff,
                magnitude = in(reg) 0x7fff,
                finite = in(reg) 0x7bff,
                infinity = in(reg) 0x7f80_0000,
                unit = in(freg) f32::from_bits((127 + 112) << 23),
                levels = const offset_of!($block, levels),
                bytes = const size_of::<$block>(),
                group = const size_of::<Group>(),
                out("v0") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _,
                out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _,
                out("v13") _, out("v14") _, out("v15") _, out("v16") _, out("v17") _, out("v18") _,
                out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v24") _,
                out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _,
                out("v31") _,
                options(nostack),
            );
        }
    };
}

unsafe fn q4_0(panel: &Panel) {
    panel!(
        panel,
        Q4_0,
        concat!(
            four_bits!(),
            "vlsseg2e8.v v24, ({block}), {stride}\n",
            halves!("v24", "v25"),
            "lh {a}, 8({x})\n",
            "lh {b}, 10({x})\n",
            "add {a}, {a}, {b}\n",
            "slli {a}, {a}, 3\n",
            "neg {a}, {a}\n",
            "vadd.vx v8, v8, {a}\n",
            symmetric!(),
        )
    );
}

unsafe fn q4_1(panel: &Panel) {
    panel!(
        panel,
        Q4_1,
        concat!(
            four_bits!(),
            "vlsseg4e8.v v24, ({block}), {stride}\n",
            halves!("v24", "v25"),
            symmetric!(),
            halves!("v26", "v27"),
            "flw {f}, 4({x})\n",
            "vfmul.vf v16, v16, {f}\n",
            "vfadd.vv v8, v8, v16\n",
        )
    );
}

unsafe fn q8_0(panel: &Panel) {
    panel!(
        panel,
        Q8_0,
        concat!(
            "vmv.v.i v20, 0\n",
            eight!(12, 13, 14, 15, 16, 17, 18, 19),
            eight!(20, 21, 22, 23, 24, 25, 26, 27),
            eight!(28, 29, 30, 31, 32, 33, 34, 35),
            eight!(36, 37, 38, 39, 40, 41, 42, 43),
            "vmv4r.v v8, v20\n",
            "vlsseg2e8.v v24, ({block}), {stride}\n",
            halves!("v24", "v25"),
            symmetric!(),
        )
    );
}

/// How many rows to compute side by side, of `rows` that are left.
#[inline(always)]
fn lanes(rows: usize) -> usize {
    let lanes;
    // SAFETY: the hart has the instruction, says whoever built this file.
    unsafe {
        asm!(
            ".option push",
            ".option arch, +v",
            "vsetvli {lanes}, {rows}, e8, m1, ta, ma",
            ".option pop",
            lanes = lateout(reg) lanes,
            rows = in(reg) rows,
            options(nomem, nostack),
        );
    }
    lanes
}

/// Computes some rows of a job.
///
/// # Safety
/// The hart has the instructions, the job these rows, and nobody else computes them.
pub(super) unsafe fn matmul(job: &Job<'_>, rows: Range<usize>) {
    let kernel = match job.format() {
        Format::Q4_0 if const { Format::Q4_0.is_built() } => q4_0,
        Format::Q4_1 if const { Format::Q4_1.is_built() } => q4_1,
        Format::Q8_0 if const { Format::Q8_0.is_built() } => q8_0,
        // SAFETY: as the caller says.
        _ => return unsafe { job.scalar(rows) },
    };
    let mut row = rows.start;
    while row < rows.end {
        let n = lanes(rows.end - row);
        for position in 0..job.positions() {
            let x = job.x(position);
            let panel = Panel {
                block: job.row(row),
                stride: job.row_bytes(),
                x,
                end: x.wrapping_add(job.groups()),
                n,
                out: job.out(position, row),
            };
            // SAFETY: the job has these rows, the position, and a place for the products.
            unsafe { kernel(&panel) };
        }
        row += n;
    }
}
