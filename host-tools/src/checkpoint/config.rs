//! `config.json`: the shape of the model.

use super::{CheckpointError, json::JsonFile};
use serde_json::Value;
use std::fmt;

/// `model_type` of every architecture that can be converted.
pub(super) const KNOWN_ARCHITECTURES: [&str; 2] = ["ouro", "llama"];

/// A kind of model that can be converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Looped, with sandwich norms and perhaps an exit gate.
    Ouro,
    /// Llama and its many relatives (SmolLM2, …).
    Llama,
}

impl Architecture {
    /// `general.architecture`, and the prefix of the model's keys.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ouro => "ouro",
            Self::Llama => "llama",
        }
    }

    /// The architecture called `name` in a GGUF or by `model_type`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "ouro" => Some(Self::Ouro),
            "llama" => Some(Self::Llama),
            _ => None,
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The model's shape. All counts are at least 1, and fit together.
#[derive(Clone, Debug)]
pub struct Config {
    /// What kind of model it is.
    pub architecture: Architecture,
    /// Rows of the embedding.
    pub vocab_size: u32,
    /// The longest context it was trained for.
    pub context_length: u32,
    /// H, the width of the residual stream.
    pub hidden: u32,
    /// Width inside the feed-forward part.
    pub feed_forward: u32,
    /// Layers of the stack.
    pub layers: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u32,
    /// Width of a head, even.
    pub head_dim: u32,
    /// RoPE's base.
    pub rope_theta: f32,
    /// Epsilon of the norms.
    pub rms_epsilon: f32,
    /// T, the trained number of loops; 1 for Llama.
    pub loops: u32,
    /// The Q-exit threshold that the checkpoint recommends.
    pub exit_threshold: f32,
    /// Whether the output head is the embedding.
    pub tied: bool,
}

impl Config {
    /// Reads and checks `config.json`.
    ///
    /// # Errors
    /// [`CheckpointError`], naming the key.
    pub(crate) fn read(json: &JsonFile) -> Result<Self, CheckpointError> {
        let architecture = architecture(json)?;
        refuse_what_is_not_computed(json)?;
        let hidden = json.required_count("hidden_size")?;
        let heads = json.required_count("num_attention_heads")?;
        let kv_heads = json.count("num_key_value_heads")?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            let expected = format!("a divisor of num_attention_heads, {heads}");
            return Err(json.bad("num_key_value_heads", &Value::from(kv_heads), expected));
        }
        let ouro = architecture == Architecture::Ouro;
        Ok(Self {
            architecture,
            vocab_size: json.required_count("vocab_size")?,
            context_length: json.required_count("max_position_embeddings")?,
            hidden,
            feed_forward: json.required_count("intermediate_size")?,
            layers: json.required_count("num_hidden_layers")?,
            heads,
            kv_heads,
            head_dim: head_dim(json, hidden, heads)?,
            rope_theta: rope_theta(json, architecture)?,
            rms_epsilon: positive(json, "rms_norm_eps")?
                .ok_or_else(|| json.missing("rms_norm_eps", "a small positive number"))?,
            loops: if ouro { json.required_count("total_ut_steps")? } else { 1 },
            exit_threshold: exit_threshold(json)?.unwrap_or(1.0),
            tied: json.bool("tie_word_embeddings")?.unwrap_or(false),
        })
    }

    /// Whether readers can't compute `head_dim` from the other keys.
    #[must_use]
    pub fn head_dim_is_explicit(&self) -> bool {
        u64::from(self.head_dim) * u64::from(self.heads) != u64::from(self.hidden)
    }
}

fn architecture(json: &JsonFile) -> Result<Architecture, CheckpointError> {
    let value = json
        .get("model_type")
        .ok_or_else(|| json.missing("model_type", "the name of an architecture, \"ouro\" or \"llama\""))?;
    value.as_str().and_then(Architecture::from_name).ok_or_else(|| CheckpointError::UnknownArchitecture {
        path: json.path().to_owned(),
        found: super::json::shorten(value),
    })
}

fn head_dim(json: &JsonFile, hidden: u32, heads: u32) -> Result<u32, CheckpointError> {
    let head_dim = match json.count("head_dim")? {
        Some(head_dim) => head_dim,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let expected = format!("a divisor of hidden_size, {hidden}, where head_dim is not given");
            return Err(json.bad("num_attention_heads", &Value::from(heads), expected));
        }
    };
    if !head_dim.is_multiple_of(2) {
        return Err(json.bad("head_dim", &Value::from(head_dim), "an even number, as RoPE turns pairs"));
    }
    Ok(head_dim)
}

/// `rope_theta` stands at the top, or since transformers 5 in `rope_parameters`.
fn rope_theta(json: &JsonFile, architecture: Architecture) -> Result<f32, CheckpointError> {
    if let Some(theta) = positive(json, "rope_theta")? {
        return Ok(theta);
    }
    if let Some(value) = json.get("rope_parameters").and_then(|parameters| parameters.get("rope_theta")) {
        let theta =
            value.as_f64().map(|theta| theta as f32).filter(|theta| theta.is_finite() && *theta > 0.0);
        return theta.ok_or_else(|| json.bad("rope_parameters.rope_theta", value, "a positive number"));
    }
    match architecture {
        Architecture::Ouro => Err(json.missing("rope_theta", "a positive number")),
        // The default of transformers; the first Llama checkpoints lack the key.
        Architecture::Llama => Ok(10_000.0),
    }
}

fn exit_threshold(json: &JsonFile) -> Result<Option<f32>, CheckpointError> {
    let key = "early_exit_threshold";
    match json.number(key)? {
        Some(number) if !(0.0..=1.0).contains(&number) => {
            Err(json.bad(key, &Value::from(number), "a number from 0 to 1"))
        }
        other => Ok(other),
    }
}

fn positive(json: &JsonFile, key: &str) -> Result<Option<f32>, CheckpointError> {
    match json.number(key)? {
        Some(number) if number <= 0.0 => Err(json.bad(key, &Value::from(number), "a positive number")),
        other => Ok(other),
    }
}

/// Settings of the Llama family that change the arithmetic: converted silently, they would give a model
/// that answers wrongly.
fn refuse_what_is_not_computed(json: &JsonFile) -> Result<(), CheckpointError> {
    let refuse = |key: &str, value: &Value, expected| {
        Err(json.unsupported(format!("`{key}` = {}", super::json::shorten(value)), expected))
    };
    for key in ["attention_bias", "mlp_bias", "use_sliding_window"] {
        if json.bool(key)? == Some(true) {
            return refuse(key, &Value::Bool(true), "false");
        }
    }
    if let Some(value) = json.get("hidden_act").filter(|value| value.as_str() != Some("silu")) {
        return refuse("hidden_act", value, "\"silu\"");
    }
    for key in ["rope_scaling", "rope_parameters"] {
        let Some(value) = json.get(key) else { continue };
        let kind = value.get("rope_type").or_else(|| value.get("type"));
        if kind.is_some_and(|kind| kind.as_str() != Some("default")) {
            return refuse(key, value, "RoPE without scaling");
        }
    }
    if let Some(value) = json.get("layer_types") {
        let is_full = |kind: &Value| kind.as_str() == Some("full_attention");
        if !value.as_array().is_some_and(|kinds| kinds.iter().all(is_full)) {
            return refuse("layer_types", value, "\"full_attention\" in all layers");
        }
    }
    if let Some(value) = json.get("partial_rotary_factor").filter(|value| value.as_f64() != Some(1.0)) {
        return refuse("partial_rotary_factor", value, "RoPE that turns whole heads");
    }
    Ok(())
}
