//! Any bytes as a model: whatever opens also runs, ends, and gives the same bits from any store.
#![no_main]

#[path = "../../src/paged_store.rs"]
mod paged_store;

use libfuzzer_sys::fuzz_target;
use ouro_runtime::arena::Arena;
use ouro_runtime::depth::TopProbability;
use ouro_runtime::gguf::Gguf;
use ouro_runtime::model::Model;
use ouro_runtime::session::{Feed, Session, Settings};
use ouro_runtime::store::{SliceStore, Store};
use paged_store::PagedStore;

/// More than any file of a few kilobytes can need for a model that is not mostly a lie.
const ARENA: usize = 1 << 20;

/// The bits of the logits after two prompts and a token, or what went wrong.
fn run<S: Store>(store: &mut S) -> Result<Vec<u32>, String> {
    let mut memory = vec![0u128; ARENA / size_of::<u128>()];
    let mut arena = Arena::new(bytemuck::cast_slice_mut(&mut memory));
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let gguf = Gguf::open(store, &mut arena).map_err(|error| text(&error))?;
    let model = Model::open(store, &gguf, &mut arena).map_err(|error| text(&error))?;
    // Time is bounded too: a lie about loops or layers must not make a run long.
    let mut settings = Settings::new(&model, 8, 3);
    settings.max_loops = settings.max_loops.min(4);
    settings.kv.window = settings.max_loops - 1;
    let mut session = Session::new(&model, settings, &mut arena).map_err(|error| text(&error))?;
    for (tokens, feed) in [(&[0, 1, 0][..], Feed::Prompt), (&[1], Feed::Generated), (&[0, 0], Feed::Prompt)] {
        session.feed(tokens, feed).map_err(|error| text(&error))?;
        session.run(store, &TopProbability(0.5)).map_err(|error| text(&error))?;
    }
    Ok(session.logits().iter().map(|logit| logit.to_bits()).collect())
}

fuzz_target!(|file: &[u8]| {
    let found = run(&mut SliceStore::new(file));
    assert_eq!(found, run(&mut PagedStore::new(file, 1 << 16)));
    if let Err(error) = found {
        assert!(!error.is_empty());
    }
});
