//! Ouro on aarch64 without an operating system: start-up, memory map and counter. What the image
//! does is in `ouro-firmware`.

#![no_std]
#![no_main]

use aarch64_rt::{
    ExceptionHandlers, InitialPagetable, RegisterStateRef, entry, exception_handlers, initial_pagetable,
};
use core::arch::asm;
use core::ops::Range;
use critical_section::RawRestoreState;
use ouro_firmware::{Board, FAULT};
use semihosting::eprintln;

ouro_firmware::model!();

/// A block of a GiB: valid, in normal memory that others may share, already accessed.
const BLOCK: usize = 1 | 1 << 2 | 3 << 8 | 1 << 10;
/// For reading alone, and not for code.
const READ_ONLY: usize = 1 << 7 | 3 << 53;

initial_pagetable!({
    let mut blocks = [0; 512];
    // Flash: a write that went astray is a fault. No device here is used.
    blocks[0] = BLOCK | READ_ONLY;
    blocks[1] = BLOCK | 0x4000_0000;
    InitialPagetable(blocks)
});

/// RAM for heap and stack: 512 KiB.
const PAGES: usize = 128;
entry!(main, PAGES);

unsafe extern "C" {
    /// Where that begins, of aarch64-rt.
    static boot_stack_begin: u32;
    /// The top of the stack.
    static boot_stack_end: u32;
}

struct Virt;

impl Board for Virt {
    fn name(&self) -> &'static str {
        env!("OURO_BOARD")
    }

    fn free_ram(&self) -> Range<usize> {
        (&raw const boot_stack_begin).addr()..(&raw const boot_stack_end).addr()
    }

    fn instructions(&mut self) -> u64 {
        let cycles: u64;
        // SAFETY: reads a counter. QEMU counts a cycle for each instruction.
        unsafe { asm!("mrs {}, pmccntr_el0", out(reg) cycles, options(nomem, nostack)) }
        cycles
    }
}

fn main(_: u64, _: u64, _: u64, _: u64) -> ! {
    // SAFETY: switches the cycle counter on, which nothing else uses.
    unsafe {
        asm!(
            "msr pmccfiltr_el0, xzr",
            "msr pmcntenset_el0, {counter}",
            "msr pmcr_el0, {enable}",
            "isb",
            counter = in(reg) 1u64 << 31,
            enable = in(reg) 1u64 << 6 | 1, // all 64 bits
            options(nomem, nostack),
        );
    }
    ouro_firmware::run(&mut Virt, model())
}

exception_handlers!(Exceptions);

struct Exceptions;

impl ExceptionHandlers for Exceptions {
    extern "C" fn sync_current(state: RegisterStateRef<'_>) {
        eprintln!("fault at {:#x}", state.elr);
        ouro_firmware::exit(FAULT)
    }
}

struct Daif;

critical_section::set_impl!(Daif);

// SAFETY: one core, on which interrupts are all that could come between.
unsafe impl critical_section::Impl for Daif {
    unsafe fn acquire() -> RawRestoreState {
        let before: u64;
        // SAFETY: masks interrupts.
        unsafe { asm!("mrs {}, daif", "msr daifset, #2", out(reg) before, options(nostack)) }
        before
    }

    unsafe fn release(before: RawRestoreState) {
        // SAFETY: puts back what was there.
        unsafe { asm!("msr daif, {}", in(reg) before, options(nostack)) }
    }
}
