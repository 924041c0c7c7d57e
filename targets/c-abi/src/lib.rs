#![no_std]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! The C interface of `ouro-runtime`. Its documentation is the header, `include/ouro.h`, which
//! cbindgen makes from this source.
//!
//! - `pointer`: what is checked of every pointer before it is used.
//! - `status`: every error, as one number and as a sentence.
//! - `source`: where the model is: memory, mapped flash, or behind a read callback.
//! - `settings`: zeroes are defaults.
//! - `handle`: what stands in the caller's memory.
//! - `open`: the memory, measured and carved.
//! - `text`, `run`, `budget`, `hash`: the calls.

mod budget;
mod handle;
mod hash;
mod open;
mod pointer;
mod run;
mod settings;
mod source;
mod status;
mod text;

/// Nothing here panics. Where the compiler can't see that, the machine stops, so that a debugger or
/// a watchdog takes over: there is no state to go on from, and C can't be unwound.
///
/// Never inlined: an image that does not contain this function can't panic.
#[panic_handler]
#[inline(never)]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        // SAFETY: traps, and touches nothing.
        unsafe {
            #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
            core::arch::asm!("ud2");
            #[cfg(target_arch = "arm")]
            core::arch::asm!("udf #0");
            #[cfg(target_arch = "aarch64")]
            core::arch::asm!("brk #1");
            #[cfg(any(target_arch = "riscv32", target_arch = "riscv64"))]
            core::arch::asm!("ebreak");
        }
    }
}
