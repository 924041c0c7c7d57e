//! Any bytes as a model: whatever opens also runs, ends, and gives the same bits from any store.
#![no_main]

#[path = "../../src/model_check.rs"]
mod model_check;
#[path = "../../src/paged_store.rs"]
mod paged_store;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let _ = model_check::check_model(file);
});
