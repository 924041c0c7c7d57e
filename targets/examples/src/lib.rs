#![no_std]
//! What the three programs in `bin/` share: the model in flash, opening it, and the control loop
//! beside which it thinks. How each thinks is in the program itself.

mod answer;
pub mod control;
mod failure;
mod open;

pub use answer::Answer;
pub use failure::Failure;
pub use open::{Opened, PROMPT, prompt};

use defmt_semihosting as _; // the logger; on hardware, defmt-rtt

/// The built-in model in flash, page-aligned as its tensors are.
#[must_use]
pub fn model() -> &'static [u8] {
    const FILE: &[u8] = include_bytes!("../../../models/ouro-pico/ouro-pico-Q4_0.gguf");
    #[repr(C, align(4096))]
    struct PageAligned([u8; FILE.len()]);
    // SAFETY: `.model` of memory.x is read-only and takes initialised data like this; nothing else
    // is in it.
    #[unsafe(link_section = ".model")]
    static MODEL: PageAligned = PageAligned(*include_bytes!("../../../models/ouro-pico/ouro-pico-Q4_0.gguf"));
    &MODEL.0
}
