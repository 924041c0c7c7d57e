//! A checkpoint folder with one file replaced by any bytes: the first byte says which file.
#![no_main]

#[path = "../../src/checkpoint_check.rs"]
mod checkpoint_check;

use checkpoint_check::Checkpoints;
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

static CHECKPOINTS: OnceLock<Checkpoints> = OnceLock::new();

fuzz_target!(|input: &[u8]| {
    let checkpoints = CHECKPOINTS.get_or_init(|| {
        Checkpoints::new(&std::env::temp_dir().join(format!("ouro-fuzz-{}", std::process::id())))
    });
    checkpoints.check(input);
});
