//! Memory that nothing may write to: the model's, which on QEMU's MPS2 boards is not read-only as flash
//! is, and some below the stack. A write that went astray, or a stack that grew too deep, is then a fault.

use core::ops::Range;
use cortex_m::asm::{dsb, isb};
use cortex_m::peripheral::MPU;

/// PRIVDEFENA and ENABLE: everything else stays as it is.
const ON: u32 = 0b101;

/// Makes a write to any byte of the region that `model` lies in a fault. `MPU_TYPE.DREGION` tells
/// whether there is an MPU; without one nothing is done.
pub(crate) fn protect(mpu: &mut MPU, model: &'static [u8]) {
    let begin = model.as_ptr().addr();
    read_only(mpu, 0, begin..begin + model.len());
}

/// The same for memory below the stack, of a power of two's bytes and aligned to as many. False without an MPU.
pub(crate) fn guard(mpu: &mut MPU, bytes: Range<usize>) -> bool {
    read_only(mpu, 1, bytes)
}

/// Whether the fault being handled is a write to the guard, or what the processor itself pushed there.
pub(crate) fn is_overflow() -> bool {
    const CFSR: *const u32 = 0xe000_ed28 as *const u32;
    const MMFAR: *const usize = 0xe000_ed34 as *const usize;
    /// Of an exception's frame, and of floating-point registers that were left for later.
    const STACKING: u32 = 1 << 4 | 1 << 5;
    const ADDRESS_IS_KNOWN: u32 = 1 << 7;
    // SAFETY: registers of every core with an MPU but the M0+, which reads zero.
    let (status, address) = unsafe { (CFSR.read_volatile(), MMFAR.read_volatile()) };
    status & STACKING != 0 || status & ADDRESS_IS_KNOWN != 0 && ouro_firmware::in_guard(address)
}

fn read_only(mpu: &mut MPU, number: u32, bytes: Range<usize>) -> bool {
    if mpu._type.read() >> 8 & 0xff == 0 {
        return false;
    }
    // SAFETY: nothing writes there, so taking the right to do so breaks nothing.
    unsafe { region(mpu, number, bytes.start as u32, bytes.end as u32) }
    dsb();
    isb();
    true
}

/// ARMv8-M: from a first to a last block of 32 bytes.
#[cfg(armv8m)]
unsafe fn region(mpu: &mut MPU, number: u32, begin: u32, end: u32) {
    const READ_ONLY: u32 = 0b10 << 1;
    // SAFETY: as the caller says; attribute 0 is normal memory without cache.
    unsafe {
        mpu.mair[0].write(0x44);
        mpu.rnr.write(number);
        mpu.rbar.write(begin & !31 | READ_ONLY);
        mpu.rlar.write((end - 1) & !31 | 1);
        mpu.ctrl.write(ON);
    }
}

/// ARMv7-M: the smallest aligned power of two around it, where there is nothing but flash.
#[cfg(not(armv8m))]
unsafe fn region(mpu: &mut MPU, number: u32, begin: u32, end: u32) {
    const READ_ONLY: u32 = 0b110 << 24;
    /// Normal memory: in memory of other kinds unaligned loads are faults, and blocks are unaligned.
    const NORMAL: u32 = 1 << 17;
    let bits = (begin ^ (end - 1)).max(255).ilog2() + 1;
    // SAFETY: as the caller says.
    unsafe {
        mpu.rnr.write(number);
        mpu.rbar.write(begin >> bits << bits);
        mpu.rasr.write(READ_ONLY | NORMAL | (bits - 1) << 1 | 1);
        mpu.ctrl.write(ON);
    }
}
