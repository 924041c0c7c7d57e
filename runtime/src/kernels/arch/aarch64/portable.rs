//! Portable code, compiled for NEON.

use crate::kernels::halves::{Halves, LANES, Portable};
use core::arch::aarch64::*;
use core::arch::asm;
use half::f16;

/// Does the work with NEON.
///
/// # Safety
/// The CPU has the instructions.
#[inline(never)]
#[target_feature(enable = "neon")]
pub(super) unsafe fn neon<P: Portable>(work: P) {
    work.run(Quads(()));
}

/// Four values in a register. Exists only where [`neon`] made it.
#[derive(Clone, Copy)]
struct Quads(());

impl Quads {
    #[inline(always)]
    fn zip(
        a: [float32x4_t; 4],
        b: [float32x4_t; 4],
        op: impl Fn(float32x4_t, float32x4_t) -> float32x4_t,
    ) -> [float32x4_t; 4] {
        [op(a[0], b[0]), op(a[1], b[1]), op(a[2], b[2]), op(a[3], b[3])]
    }
}

impl Halves for Quads {
    type Lanes = [float32x4_t; 4];

    #[inline(always)]
    #[allow(clippy::pointers_in_nomem_asm_block)] // nothing is read that the program could notice
    fn prefetch(self, address: *const u8) {
        // SAFETY: any address may be asked for.
        unsafe { asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nomem, nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> [float32x4_t; 4] {
        // SAFETY: both sides are 16 numbers, of which any bits are valid.
        unsafe { core::mem::transmute::<[f32; LANES], [float32x4_t; 4]>(*values) }
    }

    #[inline(always)]
    fn store(self, lanes: [float32x4_t; 4]) -> [f32; LANES] {
        // SAFETY: both sides are 16 numbers, of which any bits are valid.
        unsafe { core::mem::transmute::<[float32x4_t; 4], [f32; LANES]>(lanes) }
    }

    #[inline(always)]
    fn widen(self, halves: &[f16; LANES]) -> [float32x4_t; 4] {
        let from = halves.as_ptr().cast::<u16>();
        // SAFETY: the pointer is to 32 bytes, and whoever has a value of this type has the
        // instructions.
        let (first, second) = unsafe { (vld1q_u16(from), vld1q_u16(from.add(8))) };
        let ([a, b], [c, d]) = (widen(first), widen(second));
        [a, b, c, d]
    }

    #[inline(always)]
    fn integers(self, levels: &[i8; LANES]) -> [float32x4_t; 4] {
        // SAFETY: the pointer is to 16 bytes, and whoever has a value of this type has the
        // instructions.
        unsafe {
            let levels = vld1q_s8(levels.as_ptr());
            let (low, high) = (vmovl_s8(vget_low_s8(levels)), vmovl_high_s8(levels));
            [
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                vcvtq_f32_s32(vmovl_high_s16(low)),
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                vcvtq_f32_s32(vmovl_high_s16(high)),
            ]
        }
    }

    #[inline(always)]
    fn add(self, a: [float32x4_t; 4], b: [float32x4_t; 4]) -> [float32x4_t; 4] {
        // SAFETY: whoever has a value of this type has the instructions.
        Self::zip(a, b, |a, b| unsafe { vaddq_f32(a, b) })
    }

    #[inline(always)]
    fn mul(self, a: [float32x4_t; 4], b: [float32x4_t; 4]) -> [float32x4_t; 4] {
        // SAFETY: whoever has a value of this type has the instructions.
        Self::zip(a, b, |a, b| unsafe { vmulq_f32(a, b) })
    }

    #[inline(always)]
    fn scale(self, a: [float32x4_t; 4], b: f32) -> [float32x4_t; 4] {
        // SAFETY: whoever has a value of this type has the instructions.
        self.mul(a, [unsafe { vdupq_n_f32(b) }; 4])
    }

    #[inline(always)]
    fn sum(self, [a, b, c, d]: [float32x4_t; 4]) -> f32 {
        // SAFETY: whoever has a value of this type has the instructions.
        unsafe {
            let four = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }

    #[inline(always)]
    fn sums(self, lanes: [[float32x4_t; 4]; 4]) -> [f32; 4] {
        // SAFETY: whoever has a value of this type has the instructions; the last two types are of four
        // numbers each, of which any bits are valid.
        unsafe {
            let four = lanes.map(|[a, b, c, d]| vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d)));
            let two = |a, b| {
                let (a, b) = (vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b));
                let (low, high) = (vzip1q_f64(a, b), vzip2q_f64(a, b));
                vaddq_f32(vreinterpretq_f32_f64(low), vreinterpretq_f32_f64(high))
            };
            let one = vpaddq_f32(two(four[0], four[1]), two(four[2], four[3]));
            core::mem::transmute::<float32x4_t, [f32; 4]>(one)
        }
    }

    #[inline(always)]
    fn call<P: Portable>(self, work: P) {
        // SAFETY: whoever has a value of this type has the instructions.
        unsafe { neon(work) };
    }
}

/// The first four, and the others. (`fcvtl` has no intrinsic without the unstable `f16`.)
#[inline(always)]
fn widen(halves: uint16x8_t) -> [float32x4_t; 2] {
    let (low, high);
    // SAFETY: register to register; all CPUs with NEON have the instructions.
    unsafe {
        asm!("fcvtl {low:v}.4s, {halves:v}.4h", "fcvtl2 {high:v}.4s, {halves:v}.8h",
            low = out(vreg) low, high = lateout(vreg) high, halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags));
    }
    [low, high]
}
