//! Ouro on RISC-V: start-up, memory map and counter. What the image does is in `ouro-firmware`.

#![no_std]
#![no_main]

mod pmp;

use core::arch::{asm, global_asm};
use core::ops::Range;
use ouro_firmware::{Board, FAULT};
use riscv as _; // the critical section
use riscv::register::{mcause, mepc, mtval};
use riscv_rt::entry;
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

    fn guard(&mut self, bytes: Range<usize>) -> bool {
        pmp::guard(bytes)
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
    pmp::protect(model());
    ouro_firmware::run(&mut Virt { last: 0, instructions: 0 }, model())
}

// A trap ends the image, so its handler has the stack from the top on, even where all of it was in use.
global_asm!(
    ".section .trap.start, \"ax\"",
    ".balign 4",
    ".global _start_trap",
    "_start_trap:",
    "la sp, _stack_start",
    "tail {trap}",
    ".previous",
    trap = sym trap,
);

/// Leaves with a status: without this the processor would spin for ever.
extern "C" fn trap() -> ! {
    const ACCESS_FAULTS: [usize; 2] = [5, 7]; // of a load, of a store
    let (cause, address) = (mcause::read().bits(), mtval::read());
    if ACCESS_FAULTS.contains(&cause) && ouro_firmware::in_guard(address) {
        ouro_firmware::overflow();
    }
    eprintln!("fault: mcause {cause:#x}, mepc {:#x}, mtval {address:#x}", mepc::read());
    ouro_firmware::exit(FAULT)
}
