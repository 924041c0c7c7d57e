//! What must hold of any bytes as a model: what opens also runs, ends, and gives the same bits from any
//! store. The fuzz target has this file too, so it uses nothing but its neighbour and the runtime.

use super::paged_store::PagedStore;
use ouro_runtime::arena::Arena;
use ouro_runtime::depth::TopProbability;
use ouro_runtime::gguf::Gguf;
use ouro_runtime::model::Model;
use ouro_runtime::session::{Feed, Session, Settings};
use ouro_runtime::store::{SliceStore, Store};
use std::fmt::Display;

/// More than any file of a few kilobytes can need for a model that is not mostly a lie.
const ARENA: usize = 1 << 20;

/// Runs two prompts and a token. Gives the bits of the logits, or what went wrong.
///
/// # Errors
/// The message of the first error.
///
/// # Panics
/// If two stores give different results, or an error has no message.
pub fn check_model(file: &[u8]) -> Result<Vec<u32>, String> {
    let found = run(&mut SliceStore::new(file));
    assert_eq!(found, run(&mut PagedStore::new(file, 1 << 16)));
    assert!(found.as_ref().err().is_none_or(|error| !error.is_empty()));
    found
}

fn run<S: Store>(store: &mut S) -> Result<Vec<u32>, String> {
    let mut memory = vec![0u128; ARENA / size_of::<u128>()];
    let mut arena = Arena::new(bytemuck::cast_slice_mut(&mut memory));
    let text = |error: &dyn Display| error.to_string();
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
