//! What is converted: metadata, and tensors as they lie in files. A checkpoint folder and a GGUF both
//! become this, so that the conversion knows only one kind of input.

use crate::{
    checkpoint::{Architecture, Checkpoint, Config, Gate, SpecialTokens, Tokenizer},
    gguf_writer::{Metadata, Value},
};
use ouro_quant::Format;
use safetensors::tensor::Dtype;
use std::path::PathBuf;

/// A model to convert.
#[derive(Debug)]
pub(crate) struct Source {
    /// What it is, for messages.
    pub(crate) about: String,
    pub(crate) files: Vec<PathBuf>,
    /// Whether they are GGUFs, which may have checksums.
    pub(crate) is_gguf: bool,
    pub(crate) architecture: Architecture,
    /// H.
    pub(crate) hidden: u64,
    pub(crate) layers: u32,
    /// Keys and values in the order in which they are written.
    pub(crate) metadata: Metadata,
    /// In file order for a GGUF, in order of execution for a checkpoint.
    pub(crate) tensors: Vec<SourceTensor>,
    /// Where tensors begin in the source: on multiples of this.
    pub(crate) alignment: u32,
}

/// A tensor as it lies in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceTensor {
    /// Its name in a GGUF.
    pub(crate) name: String,
    /// Row length first.
    pub(crate) dims: Vec<u64>,
    pub(crate) format: Format,
    /// Index into [`Source::files`].
    pub(crate) file: usize,
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) len: u64,
    /// Rows of a head, whose halves are to be interleaved.
    pub(crate) interleave: Option<u64>,
}

impl Source {
    /// The same model as a GGUF describes it.
    pub(crate) fn from_checkpoint(checkpoint: Checkpoint) -> Self {
        let config = &checkpoint.config;
        let mut metadata = Metadata::default();
        metadata.set("general.architecture", config.architecture.name());
        metadata.set("general.type", "model");
        metadata.set("general.name", checkpoint.name.as_str());
        super::describe_file(&mut metadata, super::FileType::F32);
        describe_model(&mut metadata, config);
        if let Some(gate) = &checkpoint.gate {
            set_gate(&mut metadata, gate);
        }
        describe_tokenizer(&mut metadata, &checkpoint.tokenizer);
        let tensors = checkpoint.tensors.into_iter().map(|(expected, stored)| SourceTensor {
            name: expected.gguf,
            dims: expected.shape.into_iter().rev().collect(),
            format: match stored.dtype {
                Dtype::F16 => Format::F16,
                Dtype::BF16 => Format::BF16,
                _ => Format::F32,
            },
            file: stored.file,
            offset: stored.offset,
            len: stored.len,
            interleave: expected.interleave,
        });
        Self {
            about: format!("checkpoint {}", checkpoint.dir.display()),
            files: checkpoint.files,
            is_gguf: false,
            architecture: config.architecture,
            hidden: config.hidden.into(),
            layers: config.layers,
            metadata,
            tensors: tensors.collect(),
            alignment: super::ALIGNMENT,
        }
    }
}

/// The keys that llama.cpp writes and reads for these architectures.
pub(crate) fn describe_model(metadata: &mut Metadata, config: &Config) {
    let architecture = config.architecture;
    let mut set = |key: &str, value: Value| metadata.set(format!("{architecture}.{key}"), value);
    set("block_count", config.layers.into());
    set("context_length", config.context_length.into());
    set("embedding_length", config.hidden.into());
    set("feed_forward_length", config.feed_forward.into());
    set("vocab_size", config.vocab_size.into());
    if architecture == Architecture::Ouro {
        set("num_loops", config.loops.into());
        set("skip_loop_final_norm", false.into());
    }
    set("rope.freq_base", config.rope_theta.into());
    set("rope.dimension_count", config.head_dim.into());
    set("attention.head_count", config.heads.into());
    set("attention.head_count_kv", config.kv_heads.into());
    set("attention.layer_norm_rms_epsilon", config.rms_epsilon.into());
    if config.head_dim_is_explicit() {
        set("attention.key_length", config.head_dim.into());
        set("attention.value_length", config.head_dim.into());
    }
}

/// The gate goes into metadata: llama.cpp refuses unknown tensors, but not unknown keys.
pub(crate) fn set_gate(metadata: &mut Metadata, gate: &Gate) {
    metadata.set("ouro.exit_gate.weight", Value::f32s(&gate.weight));
    metadata.set("ouro.exit_gate.bias", gate.bias);
    metadata.set("ouro.exit_gate.threshold", gate.threshold);
}

/// The keys under which llama.cpp keeps a tokenizer.
pub(crate) fn describe_tokenizer(metadata: &mut Metadata, tokenizer: &Tokenizer) {
    metadata.set("tokenizer.ggml.model", "gpt2");
    metadata.set("tokenizer.ggml.pre", tokenizer.pre);
    metadata.set("tokenizer.ggml.tokens", Value::strings(&tokenizer.tokens));
    metadata.set("tokenizer.ggml.token_type", Value::i32s(&tokenizer.types));
    metadata.set("tokenizer.ggml.merges", Value::strings(&tokenizer.merges));
    let SpecialTokens { bos, eos, unk, pad, add_bos, add_eos, chat_template } = &tokenizer.special;
    for (key, id) in [("bos", bos), ("eos", eos), ("unknown", unk), ("padding", pad)] {
        if let Some(id) = *id {
            metadata.set(format!("tokenizer.ggml.{key}_token_id"), id);
        }
    }
    metadata.set("tokenizer.ggml.add_space_prefix", false);
    for (key, flag) in [("add_bos_token", add_bos), ("add_eos_token", add_eos)] {
        if let Some(flag) = *flag {
            metadata.set(format!("tokenizer.ggml.{key}"), flag);
        }
    }
    if let Some(template) = chat_template {
        metadata.set("tokenizer.chat_template", template.as_str());
    }
}
