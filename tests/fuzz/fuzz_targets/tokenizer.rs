//! Any tables and any text: whatever opens encodes, decodes to the same bytes, and never panics.
#![no_main]

#[path = "../../src/gguf_builder.rs"]
mod gguf_builder;
#[path = "../../src/paged_store.rs"]
mod paged_store;
#[path = "../../src/tokenizer_check.rs"]
mod tokenizer_check;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    tokenizer_check::check_tokenizer(input);
});
