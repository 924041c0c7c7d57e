//! The shapes of known models, as their published configurations state them.

use crate::checkpoint::{Architecture, Config};
use clap::ValueEnum;

/// A model whose shape is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Like {
    /// ByteDance's Ouro-1.4B (and -Thinking): 24 layers, 4 loops.
    #[value(name = "ouro-1.4b")]
    Ouro1B4,
    /// ByteDance's Ouro-2.6B (and -Thinking): 48 layers, 4 loops.
    #[value(name = "ouro-2.6b")]
    Ouro2B6,
    /// SmolLM2-135M: 30 layers, no loops.
    #[value(name = "smollm2-135m")]
    SmolLm2,
    /// TinyLlama-1.1B: 22 layers, no loops.
    #[value(name = "tinyllama-1.1b")]
    TinyLlama,
    /// The built-in model.
    #[value(name = "pico", alias = "ouro-pico")]
    Pico,
}

impl Like {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ouro1B4 => "ouro-1.4b",
            Self::Ouro2B6 => "ouro-2.6b",
            Self::SmolLm2 => "smollm2-135m",
            Self::TinyLlama => "tinyllama-1.1b",
            Self::Pico => "pico",
        }
    }

    pub(super) fn config(self) -> Config {
        let ouro = Config {
            architecture: Architecture::Ouro,
            vocab_size: 49152,
            context_length: 65536,
            hidden: 2048,
            feed_forward: 5632,
            layers: 24,
            heads: 16,
            kv_heads: 16,
            head_dim: 128,
            rope_theta: 1e6,
            rms_epsilon: 1e-6,
            loops: 4,
            exit_threshold: 1.0,
            tied: false,
        };
        match self {
            Self::Ouro1B4 => ouro,
            Self::Ouro2B6 => Config { layers: 48, ..ouro },
            Self::SmolLm2 => Config {
                architecture: Architecture::Llama,
                context_length: 8192,
                hidden: 576,
                feed_forward: 1536,
                layers: 30,
                heads: 9,
                kv_heads: 3,
                head_dim: 64,
                rope_theta: 1e5,
                rms_epsilon: 1e-5,
                loops: 1,
                tied: true,
                ..ouro
            },
            Self::TinyLlama => Config {
                architecture: Architecture::Llama,
                vocab_size: 32000,
                context_length: 2048,
                layers: 22,
                heads: 32,
                kv_heads: 4,
                head_dim: 64,
                rope_theta: 1e4,
                rms_epsilon: 1e-5,
                loops: 1,
                ..ouro
            },
            Self::Pico => Config {
                vocab_size: 384,
                context_length: 512,
                hidden: 128,
                feed_forward: 352,
                layers: 3,
                heads: 4,
                kv_heads: 4,
                head_dim: 32,
                rope_theta: 1e4,
                exit_threshold: 0.95,
                ..ouro
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parameters as the authors count them.
    #[test]
    fn parameters_are_those_of_the_models() {
        let parameters = |like: Like| -> u64 {
            let config = like.config();
            let layers = (0..config.layers).flat_map(|layer| config.layer(layer));
            let tensors = std::iter::once(config.embedding()).chain(layers).chain(config.head());
            tensors.map(|tensor| tensor.shape.iter().product::<u64>()).sum()
        };
        assert_eq!(parameters(Like::SmolLm2), 134_515_008);
        assert_eq!(parameters(Like::TinyLlama), 1_100_048_384);
        let billions = |like| (parameters(like) as f64 / 1e8).floor() / 10.0;
        assert_eq!([billions(Like::Ouro1B4), billions(Like::Ouro2B6)], [1.4, 2.6]);
    }
}
