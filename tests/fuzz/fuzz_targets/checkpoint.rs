//! A checkpoint folder with one file replaced by any bytes: the first byte says which file.
#![no_main]

// Of `ouro` only what reads checkpoints: all of it takes minutes to build for a fuzzer.
extern crate self as ouro;

#[path = "../../../host-tools/src/checkpoint/mod.rs"]
#[allow(dead_code, unused_imports)]
mod checkpoint;
#[path = "../../src/checkpoint_check.rs"]
mod checkpoint_check;
#[path = "../../../host-tools/src/counted.rs"]
mod counted;
#[path = "../../../host-tools/src/error.rs"]
#[allow(dead_code)]
mod error;

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
