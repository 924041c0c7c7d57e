//! A tiny model of constant weights, right in every way until a test changes it.

use crate::{GgufBuilder, Random};

/// A tiny looped model, described so that a test can change any part of it.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Draft {
    pub architecture: &'static str,
    pub sizes: Vec<(&'static str, u32)>,
    pub tensors: Vec<(String, Vec<u64>)>,
    /// Draws all weights at random, so that positions and loops differ.
    pub seed: Option<u64>,
    /// Overrides one value of a tensor.
    pub poison: Option<(&'static str, f32)>,
    pub type_of: Option<(&'static str, u32)>,
    pub gate: Vec<f32>,
    pub gate_bias: Option<f32>,
    pub theta: f32,
    pub extra: fn(GgufBuilder) -> GgufBuilder,
}

/// Width of the hidden state.
pub const HIDDEN: u64 = 8;
/// Width of the feed-forward part.
pub const FFN: u64 = 12;
/// Tokens in the vocabulary.
pub const VOCAB: u64 = 10;

/// A model that is right in every way.
#[must_use]
pub fn draft() -> Draft {
    let mut tensors = vec![("token_embd".to_owned(), vec![HIDDEN, VOCAB])];
    let layer: [(&str, &[u64]); 11] = [
        ("attn_norm", &[HIDDEN]),
        ("attn_q", &[HIDDEN, 8]),
        ("attn_k", &[HIDDEN, 4]),
        ("attn_v", &[HIDDEN, 4]),
        ("attn_output", &[8, HIDDEN]),
        ("post_attention_norm", &[HIDDEN]),
        ("ffn_norm", &[HIDDEN]),
        ("ffn_gate", &[HIDDEN, FFN]),
        ("ffn_up", &[HIDDEN, FFN]),
        ("ffn_down", &[FFN, HIDDEN]),
        ("post_ffw_norm", &[HIDDEN]),
    ];
    tensors.extend(layer.map(|(name, dims)| (format!("blk.0.{name}"), dims.to_vec())));
    tensors.push(("output_norm".to_owned(), vec![HIDDEN]));
    tensors.push(("output".to_owned(), vec![HIDDEN, VOCAB]));
    Draft {
        architecture: "ouro",
        sizes: vec![
            ("block_count", 1),
            ("context_length", 64),
            ("embedding_length", HIDDEN as u32),
            ("feed_forward_length", FFN as u32),
            ("num_loops", 3),
            ("vocab_size", VOCAB as u32),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
        ],
        tensors,
        seed: None,
        poison: None,
        type_of: None,
        gate: vec![0.5; HIDDEN as usize],
        gate_bias: Some(0.0),
        theta: 10_000.0,
        extra: |file| file,
    }
}

impl Draft {
    /// Another value for a size.
    #[must_use]
    pub fn set(mut self, key: &'static str, value: u32) -> Self {
        self.sizes.retain(|(name, _)| *name != key);
        self.sizes.push((key, value));
        self
    }

    /// No such key.
    #[must_use]
    pub fn unset(mut self, key: &str) -> Self {
        self.sizes.retain(|(name, _)| *name != key);
        self
    }

    /// Another shape for a tensor, or one more tensor.
    #[must_use]
    pub fn shape(mut self, tensor: &str, dims: &[u64]) -> Self {
        self.tensors.retain(|(name, _)| name != tensor);
        self.tensors.push((tensor.to_owned(), dims.to_vec()));
        self
    }

    /// No such tensor.
    #[must_use]
    pub fn without(mut self, tensor: &str) -> Self {
        self.tensors.retain(|(name, _)| name != tensor);
        self
    }

    /// Any other change.
    #[must_use]
    pub fn with(self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self;
        change(&mut changed);
        changed
    }

    /// The file.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let prefix = self.architecture;
        let mut file = GgufBuilder::new().string("general.architecture", self.architecture);
        for (key, value) in &self.sizes {
            file = file.u32(&format!("{prefix}.{key}"), *value);
        }
        file = file
            .f32(&format!("{prefix}.rope.freq_base"), self.theta)
            .f32(&format!("{prefix}.attention.layer_norm_rms_epsilon"), 1e-6);
        if !self.gate.is_empty() {
            file = file.f32s("ouro.exit_gate.weight", &self.gate);
        }
        if let Some(bias) = self.gate_bias {
            file = file.f32("ouro.exit_gate.bias", bias);
        }
        file = (self.extra)(file);
        let mut random = self.seed.map(Random::new);
        for (name, dims) in &self.tensors {
            let count = dims.iter().product::<u64>() as usize;
            let mut values = vec![0.25; count];
            if let Some(random) = &mut random {
                values.fill_with(|| (random.below(2001) as f32 - 1000.0) / 1000.0);
            }
            if let Some((tensor, value)) = self.poison
                && tensor == name
            {
                values[count / 2] = value;
            }
            let name = format!("{name}.weight");
            file = match self.type_of {
                Some((tensor, type_id)) if name.starts_with(tensor) => {
                    file.tensor(&name, type_id, dims, &vec![0; 4 * count])
                }
                _ => file.tensor_f32(&name, dims, &values),
            };
        }
        file.build()
    }
}
