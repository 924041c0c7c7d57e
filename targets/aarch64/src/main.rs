//! Ouro on aarch64 without an operating system: start-up, memory map and counter. What the image
//! does is in `ouro-firmware`.

#![no_std]
#![no_main]

mod pages;

use aarch64_rt::{ExceptionHandlers, RegisterStateRef, entry, exception_handlers};
use core::arch::asm;
use core::ops::Range;
use critical_section::RawRestoreState;
use ouro_firmware::{Board, FAULT};
use semihosting::eprintln;

ouro_firmware::model!();

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

    fn guard(&mut self, bytes: Range<usize>) -> bool {
        pages::guard(bytes);
        true
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
    leave_exceptions_a_stack();
    ouro_firmware::run(&mut Virt, model())
}

/// From here on the stack pointer is that of exception level 0, with the same value. The one that exceptions
/// take stays where it is: each ends the image, so what they overwrite is needed no more, and an overflown
/// stack is not theirs.
#[inline(always)]
fn leave_exceptions_a_stack() {
    // SAFETY: the stack pointer has the value that it had.
    unsafe { asm!("mov {sp}, sp", "msr sp_el0, {sp}", "msr spsel, #0", sp = out(reg) _) }
}

exception_handlers!(Exceptions);

struct Exceptions;

impl ExceptionHandlers for Exceptions {
    extern "C" fn sync_current(state: RegisterStateRef<'_>) {
        const DATA_ABORT: u64 = 0x25;
        let (syndrome, address): (u64, usize);
        // SAFETY: reads what the exception is and where.
        unsafe {
            asm!("mrs {}, esr_el1", out(reg) syndrome, options(nomem, nostack));
            asm!("mrs {}, far_el1", out(reg) address, options(nomem, nostack));
        }
        if syndrome >> 26 == DATA_ABORT && ouro_firmware::in_guard(address) {
            ouro_firmware::overflow();
        }
        eprintln!("fault at {:#x}: syndrome {syndrome:#x}, address {address:#x}", state.elr);
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
