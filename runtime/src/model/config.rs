//! The model's configuration, from metadata, checked before any weight is read.

use super::ModelError;
use crate::gguf::{Gguf, Name};
use crate::store::{Span, Store};
use heapless::String;

/// The longest metadata key that is looked up.
const KEY: usize = 64;

/// The families of models that run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Architecture {
    /// A looped language model (arXiv 2510.25741).
    Ouro,
    /// A Llama-like model: one loop, no norms after attention and feed-forward.
    Llama,
}

impl Architecture {
    /// Every architecture, in the order in which errors list them.
    pub const ALL: [Architecture; 2] = [Architecture::Ouro, Architecture::Llama];

    /// The value of `general.architecture`, which also begins the names of its keys.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ouro => "ouro",
            Self::Llama => "llama",
        }
    }
}

/// Sizes and constants of a model. All are at least 1, and head counts divide.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config {
    /// Which equations apply.
    pub architecture: Architecture,
    /// Layers of the stack.
    pub layers: usize,
    /// Loops the model was trained with, T; 1 for `llama`.
    pub loops: usize,
    /// Width of the hidden state.
    pub hidden: usize,
    /// Width of the feed-forward part.
    pub ffn: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Positions the model was trained with.
    pub context: usize,
    /// Base of the rotary position embedding.
    pub rope_theta: f32,
    /// Epsilon of all norms.
    pub eps: f32,
}

impl Config {
    /// Width of all query heads together.
    #[must_use]
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key heads together, and of all value heads.
    #[must_use]
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Query heads that share a KV head.
    #[must_use]
    pub fn heads_per_kv_head(&self) -> usize {
        self.heads.checked_div(self.kv_heads).unwrap_or_default()
    }

    /// How far back positions keep their K/V of every loop in a run of at most `max_loops`, unless told
    /// otherwise: T - 1, as the model was trained, or D - 1, as decoding several positions in one pass needs,
    /// whichever is more. Fewer loops than T don't narrow it.
    #[must_use]
    pub fn kv_window(&self, max_loops: usize) -> usize {
        self.loops.max(max_loops).saturating_sub(1)
    }

    /// Whether attention and feed-forward are normed before they are added (sandwich norm).
    #[must_use]
    pub fn post_norms(&self) -> bool {
        self.architecture == Architecture::Ouro
    }

    /// Norms of a layer.
    pub(super) fn norms_per_layer(&self) -> usize {
        self.norm_names().len()
    }

    /// The names of a layer's norms in order of execution: four in a sandwich, two in Llama.
    pub(super) fn norm_names(&self) -> &'static [&'static str] {
        match self.architecture {
            Architecture::Ouro => &["attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"],
            Architecture::Llama => &["attn_norm", "ffn_norm"],
        }
    }

    /// Reads and checks the configuration. `embedding` is the shape of `token_embd.weight`,
    /// `[hidden, vocab]`.
    pub(super) fn read<S: Store>(
        gguf: &Gguf<'_>,
        store: &mut S,
        architecture: Architecture,
        embedding: [u64; 2],
    ) -> Result<Self, ModelError> {
        let mut keys = Keys { gguf, store, architecture };
        if keys.flag("skip_loop_final_norm")? == Some(true) {
            return Err(ModelError::SkipsLoopNorm);
        }
        keys.refuse_scaling()?;
        let loops = match architecture {
            Architecture::Ouro => keys.size("num_loops", 255)?,
            Architecture::Llama => 1,
        };
        let hidden = keys.size("embedding_length", MAX_WIDTH)?;
        let heads = keys.size("attention.head_count", MAX_WIDTH)?;
        let kv_heads = keys.optional("attention.head_count_kv", MAX_WIDTH)?.unwrap_or(heads);
        let head_dim = keys.optional("attention.key_length", MAX_WIDTH)?;
        let explicit = head_dim.is_some();
        let head_dim = head_dim.unwrap_or(hidden.checked_div(heads).unwrap_or_default());
        let width = heads.checked_mul(head_dim).filter(|width| *width <= MAX_WIDTH);
        let vocab = keys.optional("vocab_size", MAX_VOCAB)?;
        let [embedding_width, embedding_rows] = embedding;
        let vocab = vocab.unwrap_or(usize::try_from(embedding_rows).unwrap_or(usize::MAX));
        let rope_dims = keys.optional("rope.dimension_count", MAX_WIDTH)?.unwrap_or(head_dim);
        let value_dim = keys.optional("attention.value_length", MAX_WIDTH)?.unwrap_or(head_dim);
        let config = Self {
            architecture,
            layers: keys.size("block_count", MAX_LAYERS)?,
            loops,
            hidden,
            ffn: keys.size("feed_forward_length", MAX_WIDTH)?,
            heads,
            kv_heads,
            head_dim,
            vocab,
            context: keys.size("context_length", MAX_CONTEXT)?,
            rope_theta: keys.positive("rope.freq_base", 10_000.0)?,
            eps: keys.positive("attention.layer_norm_rms_epsilon", 1e-5)?,
        };
        let key_length = ("attention.key_length", head_dim as u64);
        let width_of_heads = ("the width of a head", head_dim as u64);
        let head_count = ("attention.head_count", heads as u64);
        let embedding_length = ("embedding_length", hidden as u64);
        let agree = [
            (
                ("attention.head_count_kv", kv_heads as u64),
                head_count,
                "the first to divide the second",
                heads.is_multiple_of(kv_heads),
            ),
            (
                head_count,
                embedding_length,
                "the first to divide the second, or attention.key_length to be given",
                explicit || width == Some(hidden),
            ),
            (key_length, head_count, "a product of at most 1048576", width.is_some()),
            (
                if explicit { key_length } else { embedding_length },
                head_count,
                "heads of an even width",
                head_dim.is_multiple_of(2),
            ),
            (("attention.value_length", value_dim as u64), width_of_heads, "the same", value_dim == head_dim),
            (("rope.dimension_count", rope_dims as u64), width_of_heads, "the same", rope_dims == head_dim),
            (
                embedding_length,
                ("the row length of token_embd.weight", embedding_width),
                "the same",
                embedding_width == hidden as u64,
            ),
            (
                ("vocab_size", vocab as u64),
                ("the number of rows of token_embd.weight", embedding_rows),
                "the same",
                embedding_rows == vocab as u64,
            ),
        ];
        match agree.into_iter().find(|(.., holds)| !holds) {
            Some(((key, found), (other, value), expected, _)) => {
                Err(ModelError::Contradiction { key, found, other, value, expected })
            }
            None => Ok(config),
        }
    }
}

/// Limits that keep every product of two sizes inside 64 bits and every sane model inside them.
const MAX_WIDTH: usize = 1 << 20;
const MAX_LAYERS: usize = 1 << 12;
const MAX_VOCAB: usize = 1 << 24;
const MAX_CONTEXT: usize = 1 << 28;

pub(super) fn architecture<S: Store>(gguf: &Gguf<'_>, store: &mut S) -> Result<Architecture, ModelError> {
    let key = "general.architecture";
    let name = gguf.string(store, key)?.ok_or_else(|| ModelError::missing(key))?;
    store.load(Span { len: name.len.min(KEY), ..name }, None)?;
    let found = store.tile();
    Architecture::ALL
        .into_iter()
        .find(|architecture| architecture.name().as_bytes() == found)
        .ok_or(ModelError::UnknownArchitecture { found: Name::new(found) })
}

/// Metadata of one architecture.
struct Keys<'k, 'a, S> {
    gguf: &'k Gguf<'a>,
    store: &'k mut S,
    architecture: Architecture,
}

impl<S: Store> Keys<'_, '_, S> {
    fn full(&self, key: &str) -> String<KEY> {
        let mut full = String::new();
        for part in [self.architecture.name(), ".", key] {
            let _ = full.push_str(part);
        }
        full
    }

    fn optional(&mut self, key: &str, max: usize) -> Result<Option<usize>, ModelError> {
        let key = self.full(key);
        let Some(found) = self.gguf.u64(self.store, &key)? else { return Ok(None) };
        match usize::try_from(found) {
            Ok(value) if (1..=max).contains(&value) => Ok(Some(value)),
            _ => Err(ModelError::OutOfRange { key: Name::new(key.as_bytes()), found, max: max as u64 }),
        }
    }

    fn size(&mut self, key: &str, max: usize) -> Result<usize, ModelError> {
        self.optional(key, max)?.ok_or_else(|| ModelError::missing(&self.full(key)))
    }

    fn flag(&mut self, key: &str) -> Result<Option<bool>, ModelError> {
        Ok(self.gguf.bool(self.store, &self.full(key))?)
    }

    fn positive(&mut self, key: &str, default: f32) -> Result<f32, ModelError> {
        let key = self.full(key);
        let found = self.gguf.f32(self.store, &key)?.unwrap_or(default);
        if found.is_finite() && found > 0.0 {
            Ok(found)
        } else {
            Err(ModelError::NotPositive { key: Name::new(key.as_bytes()), found })
        }
    }

    /// The equations here stretch no positions.
    fn refuse_scaling(&mut self) -> Result<(), ModelError> {
        let key = self.full("rope.scaling.type");
        let Some(kind) = self.gguf.string(self.store, &key)? else { return Ok(()) };
        self.store.load(Span { len: kind.len.min(KEY), ..kind }, None)?;
        match self.store.tile() {
            b"none" => Ok(()),
            found => Err(ModelError::RopeScaling { found: Name::new(found) }),
        }
    }
}
