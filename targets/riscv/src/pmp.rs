//! Physical memory protection, locked so that it holds in machine mode: what an access that went astray must
//! not reach is a fault.

use core::arch::asm;
use core::ops::Range;

const READ: usize = 1;
/// A naturally aligned power of two of bytes.
const NAPOT: usize = 3 << 3;
const LOCKED: usize = 1 << 7;

/// Makes a write to the smallest aligned power of two of bytes around the model a fault.
pub(crate) fn protect(model: &'static [u8]) {
    let range = model.as_ptr_range();
    let (begin, last) = (range.start.addr(), range.end.addr() - 1);
    let bytes = ((begin ^ last) + 1).next_power_of_two().max(4096);
    // SAFETY: nothing writes to the model, so taking the right to do so breaks nothing.
    unsafe {
        asm!("csrw pmpaddr0, {}", in(reg) napot(begin & !(bytes - 1), bytes), options(nostack));
        asm!("csrs pmpcfg0, {}", in(reg) LOCKED | NAPOT | READ, options(nostack));
    }
}

/// Makes any access to these bytes, an aligned power of two, a fault. False if the core has no such entry.
pub(crate) fn guard(bytes: Range<usize>) -> bool {
    const CONFIG: usize = (LOCKED | NAPOT) << 8;
    let config: usize;
    // SAFETY: nothing is in the memory below the stack.
    unsafe {
        asm!("csrw pmpaddr1, {}", in(reg) napot(bytes.start, bytes.len()), options(nostack));
        asm!("csrs pmpcfg0, {}", in(reg) CONFIG, options(nostack));
        asm!("csrr {}, pmpcfg0", out(reg) config, options(nostack));
    }
    config & CONFIG == CONFIG
}

/// What an address register says of `bytes` from `begin` on.
fn napot(begin: usize, bytes: usize) -> usize {
    begin >> 2 | (bytes / 2 - 1) >> 2
}
