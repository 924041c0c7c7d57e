#![no_std]
//! What the images of all boards share: a conversation with a model in flash, measured.
//!
//! A board says its memory map ([`Board`]) and starts up; [`run`] does the rest. It sets memory
//! aside, closes the heap, answers a prompt, computes the [fingerprint](ouro_runtime::fingerprint)
//! that can be compared with the host's, reports and exits.
//!
//! The report goes to semihosting's standard error, a line `name: value` for each fact
//! (`cargo xtask board` reads it); log frames of defmt go to its standard output. The exit status
//! is that of the command `ouro`: 0 done, 2 wrong arguments, 3 bad model, 4 too little RAM. A panic
//! exits with 101, a fault with [`FAULT`].

extern crate alloc;

mod answer;
mod arguments;
mod failure;
mod heap;
mod nor;
mod open;
mod report;
mod stack;

pub use semihosting::process::exit;
pub use stack::{GUARD_BYTES, STACK_BYTES, in_guard};

use answer::Finished;
use arguments::{Arguments, Medium};
use core::ops::Range;
use defmt_semihosting as _; // the logger
use embedded_storage::nor_flash::ReadNorFlash;
use failure::Failure;
use nor::Nor;
use ouro_runtime::store::{FlashStore, SliceStore};
use report::Report;
use semihosting::eprintln;

/// The exit status after a processor fault.
pub const FAULT: i32 = 102;

/// What a board says of itself.
pub trait Board {
    /// Its name, as `cargo xtask board` has it.
    fn name(&self) -> &'static str;

    /// Addresses of RAM that nothing uses yet, up to the top of the stack: the heap, and above it
    /// the last [`STACK_BYTES`] for the stack.
    fn free_ram(&self) -> Range<usize>;

    /// Makes a write to this memory, [`GUARD_BYTES`] below the stack, a fault whose handler asks [`in_guard`]
    /// and calls [`overflow`]. False if the board can't.
    fn guard(&mut self, bytes: Range<usize>) -> bool {
        let _ = bytes;
        false
    }

    /// Instructions so far, by a counter that may wrap: this is called at least once in every
    /// 500 million of them while it matters.
    fn instructions(&mut self) -> u64;

    /// Writes to the flash, which must be a fault: argument `stray`.
    fn write_to_flash(&mut self, model: &'static [u8]) {
        // SAFETY: none: it shows that the memory map refuses it, and the image ends here.
        unsafe {
            model.as_ptr().cast_mut().write_volatile(0);
        }
    }
}

/// Puts the file that build.rs names in `OURO_MODEL` into the section `.model`, page-aligned as
/// its tensors are, and gives `fn model() -> &'static [u8]`.
#[macro_export]
macro_rules! model {
    () => {
        fn model() -> &'static [u8] {
            #[repr(C, align(4096))]
            struct PageAligned<const N: usize>([u8; N]);
            // SAFETY: `.model` is read-only and takes initialised data like this; nothing else is
            // in it.
            #[unsafe(link_section = ".model")]
            static MODEL: PageAligned<{ include_bytes!(env!("OURO_MODEL")).len() }> =
                PageAligned(*include_bytes!(env!("OURO_MODEL")));
            &MODEL.0
        }
    };
}

/// Runs the image; what it does is in the arguments that QEMU hands over. The board is a trait
/// object so that all of this is compiled once for all boards of a target.
pub fn run(board: &mut dyn Board, model: &'static [u8]) -> ! {
    let ram = board.free_ram();
    let split = ram.end - STACK_BYTES;
    stack::paint(split);
    let guard = (split - GUARD_BYTES) & !(GUARD_BYTES - 1);
    let heap_end = if board.guard(guard..guard + GUARD_BYTES) {
        stack::guarded(guard);
        guard
    } else {
        split
    };
    heap::open(ram.start..heap_end);
    let outcome = Arguments::read().and_then(|arguments| {
        stack::limit(arguments.stack);
        if arguments.stray {
            board.write_to_flash(model);
        }
        if arguments.overflow {
            stack::overflow(0);
        }
        finish(board, model, &arguments)
    });
    let status = match outcome {
        Ok(report) => {
            eprintln!("{report}");
            0
        }
        Err(failure) => fail(&failure),
    };
    exit(status)
}

/// Ends the image because its stack ran into the guard.
pub fn overflow() -> ! {
    exit(fail(&Failure::Overflow))
}

fn fail(failure: &Failure) -> i32 {
    eprintln!("error: {failure}");
    defmt::error!("{}", failure);
    failure.status()
}

fn finish(board: &mut dyn Board, model: &'static [u8], arguments: &Arguments) -> Result<Report, Failure> {
    let model = model.get(..arguments.truncate.unwrap_or(model.len())).unwrap_or(model);
    let (finished, block_buffer): (Finished, usize) = match arguments.medium {
        Medium::Mapped => (answer::run(board, &mut SliceStore::new(model), arguments)?, 0),
        Medium::Nor => {
            let buffer = heap::take(arguments.buffer)?;
            let bytes = buffer.len();
            let chip = Nor::new(model, arguments);
            let len = chip.capacity() as u64;
            let mut store = FlashStore::new(chip, 0, len, buffer).map_err(Failure::Store)?;
            (answer::run(board, &mut store, arguments)?, bytes)
        }
    };
    let late = heap::late_allocations();
    if late > 0 {
        return Err(Failure::LateAllocations(late));
    }
    let stack = stack::check()?;
    Ok(Report { board: board.name(), finished, block_buffer, stack })
}
