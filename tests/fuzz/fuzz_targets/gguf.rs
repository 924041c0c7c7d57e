//! Any bytes as a GGUF file: read from memory and through a small page, with the same result.
#![no_main]

#[path = "../../src/gguf_contents.rs"]
mod gguf_contents;
#[path = "../../src/paged_store.rs"]
mod paged_store;

use gguf_contents::read_contents;
use libfuzzer_sys::fuzz_target;
use ouro_runtime::store::{MIN_TILE, SliceStore};
use paged_store::PagedStore;

fuzz_target!(|file: &[u8]| {
    let found = read_contents(&mut SliceStore::new(file));
    assert_eq!(found, read_contents(&mut PagedStore::new(file, MIN_TILE)));
    if let Err(error) = found {
        assert!(!error.to_string().is_empty());
    }
});
