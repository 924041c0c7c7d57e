//! Ouro on Cortex-M: start-up, memory map and counter. What the image does is in `ouro-firmware`.

#![no_std]
#![no_main]

mod mpu;

use core::ops::Range;
use cortex_m::Peripherals;
use cortex_m::peripheral::{MPU, SYST, syst::SystClkSource};
use cortex_m_rt::{ExceptionFrame, entry, exception, heap_start};
use ouro_firmware::{Board, FAULT};
use semihosting::eprintln;

ouro_firmware::model!();

/// Nanoseconds of a SysTick tick are instructions in QEMU's `-icount shift=0`: 25 MHz on the M4
/// and M7 boards, 20 on the M33's, 32 on the M55's.
const INSTRUCTIONS_PER_8_TICKS: u64 = match env!("OURO_BOARD").as_bytes() {
    b"mps2-an505" => 8 * 50,
    b"mps3-an547" => 250,
    _ => 8 * 40,
};
/// SysTick has 24 bits.
const WRAP: u32 = 0x00ff_ffff;

unsafe extern "C" {
    /// The top of the stack, of cortex-m-rt.
    static _stack_start: u32;
}

struct Mps {
    mpu: MPU,
    last: u32,
    ticks: u64,
}

impl Board for Mps {
    fn name(&self) -> &'static str {
        env!("OURO_BOARD")
    }

    fn free_ram(&self) -> Range<usize> {
        heap_start().addr()..(&raw const _stack_start).addr()
    }

    fn guard(&mut self, bytes: Range<usize>) -> bool {
        mpu::guard(&mut self.mpu, bytes)
    }

    fn instructions(&mut self) -> u64 {
        let now = SYST::get_current(); // counts down
        self.ticks += u64::from(self.last.wrapping_sub(now) & WRAP);
        self.last = now;
        self.ticks * INSTRUCTIONS_PER_8_TICKS / 8
    }
}

#[entry]
fn main() -> ! {
    // There is a main function, and it is called once.
    let Some(mut peripherals) = Peripherals::take() else { ouro_firmware::exit(1) };
    mpu::protect(&mut peripherals.MPU, model());
    let mut syst = peripherals.SYST;
    syst.set_clock_source(SystClkSource::Core);
    syst.set_reload(WRAP);
    syst.clear_current();
    syst.enable_counter();
    ouro_firmware::run(&mut Mps { mpu: peripherals.MPU, last: WRAP, ticks: 0 }, model())
}

/// Leaves with a status: without this the processor would spin for ever. Here the MPU is off, so an
/// overflown stack may go on below its guard.
// SAFETY: reads nothing that the fault could have left half-written, and never returns.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    if mpu::is_overflow() {
        ouro_firmware::overflow();
    }
    eprintln!("hard fault: {frame:?}");
    ouro_firmware::exit(FAULT)
}
