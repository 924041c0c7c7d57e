//! Which model a cache was computed with.

use crate::gguf::{Gguf, GgufError, Value};
use crate::model::Model;
use crate::store::{Span, Store, StoreError};
use xxhash_rust::xxh3::Xxh3;

/// Tells models apart, so that a saved cache goes on with the one it was computed with. How tensors
/// are laid out in the file is no part of it, nor is metadata that changes no K and no V.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Identity {
    /// XXH3 of the configuration, and of names, shapes, types and samples of all tensors.
    pub model: u64,
    /// XXH3 of the tokenizer; that of nothing for a file without one.
    pub tokenizer: u64,
}

/// What decides which ids a text has.
const TOKENIZER: [&str; 5] = [
    "tokenizer.ggml.model",
    "tokenizer.ggml.pre",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.merges",
];

/// Bytes of a sample; every tensor is sampled at its beginning, middle and end. To train or to merge
/// changes almost all weights, so a few of each tensor tell.
const SAMPLE: usize = 64;

impl Identity {
    /// Reads the tokenizer, and three samples of each tensor.
    ///
    /// # Errors
    /// The store's.
    pub fn of<S: Store>(store: &mut S, gguf: &Gguf<'_>, model: &Model<'_>) -> Result<Self, GgufError> {
        let mut tokenizer = Xxh3::new();
        for key in TOKENIZER {
            match gguf.get(store, key)? {
                Some(Value::String(span)) => hash_span(store, span, &mut tokenizer)?,
                Some(Value::Array(array)) => hash_span(store, array.data, &mut tokenizer)?,
                _ => {}
            }
        }
        let config = model.config();
        let sizes = [config.layers, config.loops, config.heads, config.kv_heads, config.head_dim];
        let mut sum = Xxh3::new();
        sizes.iter().for_each(|size| sum.update(&(*size as u64).to_le_bytes()));
        sum.update(&config.rope_theta.to_le_bytes());
        sum.update(&config.eps.to_le_bytes());
        // Added up, so that the order of tensors in the file makes no difference.
        let mut tensors = 0u64;
        for tensor in gguf.tensors() {
            let mut sum = Xxh3::new();
            hash_span(store, tensor.name(), &mut sum)?;
            tensor.dims.iter().for_each(|size| sum.update(&size.to_le_bytes()));
            sum.update(&tensor.type_id.to_le_bytes());
            let len = SAMPLE.min(usize::try_from(tensor.len).unwrap_or(SAMPLE));
            let last = tensor.len.saturating_sub(len as u64);
            for start in [0, last / 2, last] {
                let offset = tensor.offset.saturating_add(start);
                hash_span(store, Span { offset, len }, &mut sum)?;
            }
            tensors = tensors.wrapping_add(sum.digest());
        }
        sum.update(&tensors.to_le_bytes());
        Ok(Self { model: sum.digest(), tokenizer: tokenizer.digest() })
    }
}

/// Hashes bytes of the file, in as many pieces as the store makes necessary.
fn hash_span<S: Store>(store: &mut S, span: Span, sum: &mut Xxh3) -> Result<(), StoreError> {
    let mut left = span;
    while left.len > 0 {
        let part = Span { len: left.len.min(store.max_tile().max(1)), ..left };
        store.load(part, None)?;
        sum.update(store.tile());
        left = Span { offset: part.end(), len: left.len.saturating_sub(part.len) };
    }
    Ok(())
}
