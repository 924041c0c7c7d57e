//! Start-up on aarch64.

use aarch64_rt::{
    ExceptionHandlers, InitialPagetable, RegisterStateRef, entry, exception_handlers, initial_pagetable,
};
use semihosting::{eprintln, process};

/// A block of a GiB: valid, in normal memory that others may share, already accessed.
const BLOCK: usize = 1 | 1 << 2 | 3 << 8 | 1 << 10;

initial_pagetable!({
    let mut blocks = [0; 512];
    blocks[1] = BLOCK | 0x4000_0000; // RAM
    InitialPagetable(blocks)
});

/// Of the stack: 512 KiB.
const PAGES: usize = 128;
entry!(start, PAGES);

fn start(_: u64, _: u64, _: u64, _: u64) -> ! {
    crate::main()
}

exception_handlers!(Exceptions);

struct Exceptions;

impl ExceptionHandlers for Exceptions {
    extern "C" fn sync_current(state: RegisterStateRef<'_>) {
        eprintln!("fault at {:#x}", state.elr);
        process::exit(102)
    }
}
