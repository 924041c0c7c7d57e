//! Memory for set-up. Sizes are known once the model is seen, so arenas come from a heap; then it
//! is closed. Whoever asks after that gets nothing, and is counted.

use alloc::alloc::alloc_zeroed;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::ptr::null_mut;
use core::slice;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use embedded_alloc::LlffHeap;
use ouro_runtime::arena::{ALIGN, ArenaFull};

#[global_allocator]
static HEAP: ClosingHeap =
    ClosingHeap { heap: LlffHeap::empty(), closed: AtomicBool::new(false), late: AtomicU32::new(0) };

struct ClosingHeap {
    heap: LlffHeap,
    closed: AtomicBool,
    /// Allocations that were refused since.
    late: AtomicU32,
}

// SAFETY: the heap behind it keeps the contract; refusing is allowed at any time.
unsafe impl GlobalAlloc for ClosingHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.closed.load(Ordering::Relaxed) {
            // Not fetch_add, which the smallest cores lack; there is one thread.
            self.late.store(self.late.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
            return null_mut();
        }
        // SAFETY: as the caller says.
        unsafe { self.heap.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller says.
        unsafe { self.heap.dealloc(pointer, layout) }
    }
}

/// Opens the heap over RAM that nothing else uses. Called once.
pub(crate) fn open(ram: Range<usize>) {
    // SAFETY: the board says that the range is free RAM, and this is called once, before anything
    // is allocated.
    unsafe { HEAP.heap.init(ram.start, ram.len()) }
}

/// From here on nothing is allocated.
pub(crate) fn close() {
    HEAP.closed.store(true, Ordering::Relaxed);
}

/// Allocations that came after [`close`], all refused.
pub(crate) fn late_allocations() -> u32 {
    HEAP.late.load(Ordering::Relaxed)
}

/// Zeroed memory for an arena, for good.
pub(crate) fn take(bytes: usize) -> Result<&'static mut [u8], ArenaFull> {
    let full = ArenaFull { wanted: bytes, left: HEAP.heap.free() };
    if bytes == 0 {
        return Ok(&mut []);
    }
    let layout = Layout::from_size_align(bytes, ALIGN).map_err(|_| full)?;
    // SAFETY: the layout has a size.
    let start = unsafe { alloc_zeroed(layout) };
    if start.is_null() {
        return Err(full);
    }
    // SAFETY: `bytes` zeroed bytes begin there, and nobody else has them or gives them back.
    Ok(unsafe { slice::from_raw_parts_mut(start, bytes) })
}

/// A list with room for `count` items, which is all that it may ever hold.
pub(crate) fn reserve<T>(count: usize) -> Result<Vec<T>, ArenaFull> {
    let mut list = Vec::new();
    let wanted = count.saturating_mul(size_of::<T>());
    list.try_reserve_exact(count).map_err(|_| ArenaFull { wanted, left: HEAP.heap.free() })?;
    Ok(list)
}
