//! Opening a model: each part in memory of exactly its size.

use crate::failure::Failure;
use crate::heap;
use ouro_runtime::arena::Arena;
use ouro_runtime::gguf::Gguf;
use ouro_runtime::model::Model;
use ouro_runtime::store::Store;
use ouro_runtime::text::{Message, Role, Symbol, Tokenizer, chatml_needs};

/// A model and its tokenizer, for good.
pub(crate) struct Opened {
    pub(crate) model: Model<'static>,
    pub(crate) tokenizer: Tokenizer<'static>,
    /// Bytes of arena that they take.
    pub(crate) arena_bytes: usize,
}

pub(crate) fn open<S: Store>(store: &mut S) -> Result<Opened, Failure> {
    let directory_bytes = Gguf::arena_bytes(store)?;
    let gguf = Gguf::open(store, &mut Arena::new(heap::take(directory_bytes)?))?;
    let model_bytes = Model::arena_bytes(store, &gguf)?;
    let model = Model::open(store, &gguf, &mut Arena::new(heap::take(model_bytes)?))?;
    let tokenizer_bytes = Tokenizer::arena_bytes(store, &gguf)?;
    let tokenizer = Tokenizer::open(store, &gguf, &mut Arena::new(heap::take(tokenizer_bytes)?))?;
    let config = model.config();
    defmt::info!("{} layers, {} loops, {} tokens", config.layers, config.loops, config.vocab);
    Ok(Opened { model, tokenizer, arena_bytes: directory_bytes + model_bytes + tokenizer_bytes })
}

/// The ids of a conversation that begins with `prompt`, up to where the model speaks.
pub(crate) fn prompt_ids(tokenizer: &Tokenizer<'_>, prompt: &str) -> Result<&'static [u32], Failure> {
    let messages = [Message { role: Role::User, content: prompt }];
    let needs = chatml_needs(&messages);
    let mut sizes = Arena::measure();
    sizes.take::<u32>(needs.ids)?;
    sizes.take::<Symbol>(needs.scratch)?;
    let mut arena = Arena::new(heap::take(sizes.used())?);
    let ids = arena.take::<u32>(needs.ids)?;
    let count = tokenizer.chatml(&messages, arena.take(needs.scratch)?, ids)?;
    Ok(ids.get(..count).unwrap_or_default())
}
