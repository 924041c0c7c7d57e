//! Opening a model: each part in memory of exactly its size.

use crate::failure::Failure;
use crate::heap;
use ouro_runtime::arena::Arena;
use ouro_runtime::gguf::Gguf;
use ouro_runtime::model::{Model, check_metadata, checksums};
use ouro_runtime::store::{PIECE, Span, Store, StoreError, checksum};
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
    check_metadata(store, &gguf)?;
    let model_bytes = Model::arena_bytes(store, &gguf)?;
    let model = Model::open(store, &gguf, &mut Arena::new(heap::take(model_bytes)?))?;
    let tokenizer_bytes = Tokenizer::arena_bytes(store, &gguf)?;
    let tokenizer = Tokenizer::open(store, &gguf, &mut Arena::new(heap::take(tokenizer_bytes)?))?;
    verify(store, &gguf)?;
    let config = model.config();
    defmt::info!("{} layers, {} loops, {} tokens", config.layers, config.loops, config.vocab);
    Ok(Opened { model, tokenizer, arena_bytes: directory_bytes + model_bytes + tokenizer_bytes })
}

/// Compares all weights with the checksums in the file, if it has any and pages fit the block buffer.
fn verify<S: Store>(store: &mut S, gguf: &Gguf<'_>) -> Result<(), Failure> {
    let Some(array) = checksums(store, gguf)? else { return Ok(()) };
    if store.max_tile() < PIECE {
        defmt::warn!("weights not checked: that takes a block buffer of {} bytes", PIECE);
        return Ok(());
    }
    let mut offset = gguf.data_offset();
    for number in 0..array.count {
        store.load(Span { offset: array.data.offset + 4 * number, len: 4 }, []).map_err(Failure::Store)?;
        let sum = store.tile().first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let end = (offset / PIECE as u64 + 1) * PIECE as u64;
        let span = Span { offset, len: (end.min(store.len()) - offset) as usize };
        store.load(span, []).map_err(Failure::Store)?;
        if Some(checksum(store.tile())) != sum {
            return Err(Failure::Store(StoreError::Corrupt { span }));
        }
        offset = end;
    }
    Ok(())
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
