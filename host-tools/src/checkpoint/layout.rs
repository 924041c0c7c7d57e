//! The tensors of an architecture: what Hugging Face and GGUF call them, and their shapes.

use super::config::{Architecture, Config};

/// A tensor that a checkpoint must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedTensor {
    /// Its name in the checkpoint.
    pub hf: String,
    /// Its name in a GGUF.
    pub gguf: String,
    /// Rows first; one number for a vector.
    pub shape: Vec<u64>,
    /// For q and k: the rows of a head, whose halves are to be interleaved.
    pub interleave: Option<u64>,
}

/// The exit gate's weight `[1, H]` and bias `[1]`.
pub(crate) const GATE: [&str; 2] = ["model.early_exit_gate.weight", "model.early_exit_gate.bias"];

/// Left over in some checkpoints, and computed from the configuration instead.
pub(crate) fn is_redundant(hf: &str) -> bool {
    hf.ends_with(".rotary_emb.inv_freq")
}

impl Config {
    /// What precedes the stack.
    #[must_use]
    pub fn embedding(&self) -> ExpectedTensor {
        let shape = vec![self.vocab_size.into(), self.hidden.into()];
        tensor("model.embed_tokens.weight", "token_embd.weight", shape)
    }

    /// What follows the stack: the final norm, and the head unless it is tied.
    #[must_use]
    pub fn head(&self) -> Vec<ExpectedTensor> {
        let norm = tensor("model.norm.weight", "output_norm.weight", vec![self.hidden.into()]);
        let output =
            tensor("lm_head.weight", "output.weight", vec![self.vocab_size.into(), self.hidden.into()]);
        if self.tied { vec![norm] } else { vec![norm, output] }
    }

    /// The tensors of one layer, in the order in which they are used.
    #[must_use]
    pub fn layer(&self, layer: u32) -> Vec<ExpectedTensor> {
        let [h, ffn] = [self.hidden, self.feed_forward].map(u64::from);
        let head_dim = u64::from(self.head_dim);
        let q = u64::from(self.heads) * head_dim;
        let kv = u64::from(self.kv_heads) * head_dim;
        let ouro = self.architecture == Architecture::Ouro;
        let interleave = Some(head_dim);
        let rows = [
            ("input_layernorm", "attn_norm", vec![h], None),
            ("self_attn.q_proj", "attn_q", vec![q, h], interleave),
            ("self_attn.k_proj", "attn_k", vec![kv, h], interleave),
            ("self_attn.v_proj", "attn_v", vec![kv, h], None),
            ("self_attn.o_proj", "attn_output", vec![h, q], None),
            ("input_layernorm_2", "post_attention_norm", vec![h], None),
            // Not a slip: this is the norm before the feed-forward part.
            ("post_attention_layernorm", "ffn_norm", vec![h], None),
            ("mlp.gate_proj", "ffn_gate", vec![ffn, h], None),
            ("mlp.up_proj", "ffn_up", vec![ffn, h], None),
            ("mlp.down_proj", "ffn_down", vec![h, ffn], None),
            ("post_attention_layernorm_2", "post_ffw_norm", vec![h], None),
        ];
        let is_sandwich = |gguf: &str| gguf.starts_with("post_");
        let rows = rows.into_iter().filter(|(_, gguf, ..)| ouro || !is_sandwich(gguf));
        rows.map(|(hf, gguf, shape, interleave)| ExpectedTensor {
            hf: format!("model.layers.{layer}.{hf}.weight"),
            gguf: format!("blk.{layer}.{gguf}.weight"),
            shape,
            interleave,
        })
        .collect()
    }
}

fn tensor(hf: &str, gguf: &str, shape: Vec<u64>) -> ExpectedTensor {
    ExpectedTensor { hf: hf.to_owned(), gguf: gguf.to_owned(), shape, interleave: None }
}
