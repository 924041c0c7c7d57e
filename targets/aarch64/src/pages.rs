//! Address translation: every address is its own, flash is read-only, and a page below the stack is nobody's.

use aarch64_rt::{InitialPagetable, initial_pagetable};
use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Of a descriptor: memory as large as its level has, not what follows in a table.
const BLOCK: usize = 1;
/// A table of the next level, or, at the last one, a page.
const TABLE: usize = 3;
/// Normal memory that others may share, already accessed. Not global: entries of one set of tables are
/// never taken for those of another.
const MEMORY: usize = 1 << 2 | 3 << 8 | 1 << 10 | 1 << 11;
/// For reading alone, and not for code.
const READ_ONLY: usize = 1 << 7 | 3 << 53;

initial_pagetable!({
    let mut blocks = [0; 512];
    // Flash: a write that went astray is a fault. No device here is used.
    blocks[0] = BLOCK | MEMORY | READ_ONLY;
    blocks[1] = BLOCK | MEMORY | 0x4000_0000;
    InitialPagetable(blocks)
});

/// Descriptors of a level. Atomic, so that they may change behind a shared reference.
#[repr(C, align(4096))]
struct Table([AtomicUsize; 512]);

impl Table {
    const fn new() -> Self {
        Self([const { AtomicUsize::new(0) }; 512])
    }

    fn fill(&self, descriptor: impl Fn(usize) -> usize) {
        for (number, place) in self.0.iter().enumerate() {
            place.store(descriptor(number), Relaxed);
        }
    }
}

/// Of GiBs, of 2 MiBs, of pages.
static TABLES: [Table; 3] = [const { Table::new() }; 3];

/// Makes any access to these pages, which lie in one 2 MiB block, a fault.
pub(crate) fn guard(pages: Range<usize>) {
    let [gigabytes, megabytes, last] = &TABLES;
    let table = |table: &Table| (&raw const *table).addr() | TABLE;
    let [gigabyte, megabyte] = [30, 21].map(|bits| pages.start >> bits << bits);
    let [in_gigabytes, in_megabytes] = [gigabyte >> 30, (megabyte - gigabyte) >> 21];
    gigabytes.fill(|n| if n == in_gigabytes { table(megabytes) } else { INITIAL_PAGETABLE.0[n] });
    megabytes.fill(|n| if n == in_megabytes { table(last) } else { gigabyte | n << 21 | BLOCK | MEMORY });
    last.fill(|n| {
        let page = megabyte | n << 12;
        if pages.contains(&page) { 0 } else { page | TABLE | MEMORY }
    });
    // SAFETY: the tables map what the first one does but for the guard, in which nothing is. They have
    // another number of address space than that, so no entry of it is taken for one of theirs.
    unsafe {
        asm!(
            "dsb ishst",
            "msr ttbr0_el1, {tables}",
            "isb",
            tables = in(reg) (&raw const *gigabytes).addr() | 1 << 48,
            options(nostack),
        );
    }
}
