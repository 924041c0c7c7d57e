//! Ouro on RISC-V: start-up, memory map and counter. What the image does is in `ouro-firmware`.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::ops::Range;
use ouro_firmware::{Board, FAULT};
use riscv as _; // the critical section
use riscv::register::{mcause, mepc, mtval};
use riscv_rt::{TrapFrame, entry};
use semihosting::eprintln;

ouro_firmware::model!();

// Where QEMU starts; `boards/virt/memory.x` says why the code is elsewhere.
global_asm!(".section .reset, \"ax\"", "la t0, _start", "jr t0", ".previous");

unsafe extern "C" {
    /// Where RAM is free, of riscv-rt.
    static __sheap: u32;
    /// The top of the stack.
    static _stack_start: u32;
}

struct Virt {
    last: u32,
    instructions: u64,
}

impl Board for Virt {
    fn name(&self) -> &'static str {
        env!("OURO_BOARD")
    }

    fn free_ram(&self) -> Range<usize> {
        (&raw const __sheap).addr().next_multiple_of(16)..(&raw const _stack_start).addr()
    }

    fn instructions(&mut self) -> u64 {
        let counter: usize;
        // SAFETY: reads a counter. 32-bit cores give its lower half, which is all that is used.
        unsafe { asm!("csrr {}, minstret", out(reg) counter, options(nomem, nostack)) }
        let now = counter as u32;
        self.instructions += u64::from(now.wrapping_sub(self.last));
        self.last = now;
        self.instructions
    }
}

#[entry]
fn main() -> ! {
    // SAFETY: nothing else uses the vector unit.
    #[cfg(feature = "rvv")]
    unsafe {
        use riscv::register::mstatus::{VS, set_vs};
        set_vs(VS::Initial);
    }
    protect_flash(model());
    ouro_firmware::run(&mut Virt { last: 0, instructions: 0 }, model())
}

/// Makes a write that went astray into the model's memory a fault: entry 0 of the physical memory
/// protection is its naturally aligned power of two, readable, for machine mode too.
fn protect_flash(model: &'static [u8]) {
    const LOCKED_NAPOT_READ: usize = 0x80 | 3 << 3 | 1;
    let range = model.as_ptr_range();
    let (begin, last) = (range.start.addr(), range.end.addr() - 1);
    // The smallest aligned power of two that has both.
    let bytes = ((begin ^ last) + 1).next_power_of_two().max(4096);
    let begin = begin & !(bytes - 1);
    let napot = begin >> 2 | (bytes / 2 - 1) >> 2;
    // SAFETY: nothing writes to the model, so taking the right to do so breaks nothing.
    unsafe {
        asm!(
            "csrw pmpaddr0, {napot}",
            "csrw pmpcfg0, {config}",
            napot = in(reg) napot,
            config = in(reg) LOCKED_NAPOT_READ,
            options(nostack),
        );
    }
}

/// Leaves with a status: without this the processor would spin for ever.
// SAFETY: the name by which riscv-rt calls it, with this signature.
#[unsafe(export_name = "ExceptionHandler")]
unsafe extern "C" fn exception(_: &TrapFrame) -> ! {
    eprintln!(
        "fault: mcause {:#x}, mepc {:#x}, mtval {:#x}",
        mcause::read().bits(),
        mepc::read(),
        mtval::read()
    );
    ouro_firmware::exit(FAULT)
}
