//! The model's memory as read-only, as flash is: on QEMU's MPS2 boards it could be written to.
//! A write that went astray is then a fault.

use cortex_m::asm::{dsb, isb};
use cortex_m::peripheral::MPU;

/// PRIVDEFENA and ENABLE: everything else stays as it is.
const ON: u32 = 0b101;

/// Makes a write to any byte of the region that `model` lies in a fault. `MPU_TYPE.DREGION` tells
/// whether there is an MPU; without one nothing is done.
pub(crate) fn protect(mpu: &mut MPU, model: &'static [u8]) {
    if mpu._type.read() >> 8 & 0xff == 0 {
        return;
    }
    let begin = model.as_ptr().addr() as u32;
    let end = begin + model.len() as u32;
    // SAFETY: nothing writes to the model, so taking the right to do so breaks nothing.
    unsafe { region(mpu, begin, end) }
    dsb();
    isb();
}

/// ARMv8-M: from a first to a last block of 32 bytes.
#[cfg(armv8m)]
unsafe fn region(mpu: &mut MPU, begin: u32, end: u32) {
    const READ_ONLY: u32 = 0b10 << 1;
    // SAFETY: as the caller says; attribute 0 is normal memory without cache.
    unsafe {
        mpu.mair[0].write(0x44);
        mpu.rnr.write(0);
        mpu.rbar.write(begin & !31 | READ_ONLY);
        mpu.rlar.write((end - 1) & !31 | 1);
        mpu.ctrl.write(ON);
    }
}

/// ARMv7-M: the smallest aligned power of two around it, where there is nothing but flash.
#[cfg(not(armv8m))]
unsafe fn region(mpu: &mut MPU, begin: u32, end: u32) {
    const READ_ONLY: u32 = 0b110 << 24;
    /// Normal memory: in memory of other kinds unaligned loads are faults, and blocks are unaligned.
    const NORMAL: u32 = 1 << 17;
    let bits = (begin ^ (end - 1)).max(255).ilog2() + 1;
    // SAFETY: as the caller says.
    unsafe {
        mpu.rnr.write(0);
        mpu.rbar.write(begin >> bits << bits);
        mpu.rasr.write(READ_ONLY | NORMAL | (bits - 1) << 1 | 1);
        mpu.ctrl.write(ON);
    }
}
