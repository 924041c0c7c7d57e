//! Options that several commands share.

use crate::error::Error;
use crate::ram::block_buffer;
use crate::store::{BUILT_IN, HostStore, StoreKind, Verify, is_built_in};
use clap::ValueEnum;
use ouro_runtime::depth::{ExitPolicy, FixedDepth, Margin, QExit, StepDifference, TopProbability};
use ouro_runtime::kv::{KvSettings, KvSharing, KvType};
use ouro_runtime::model::{Config, ExitDefault, ExitKind, Model};
use ouro_runtime::sample::{Sampler, Sampling};
use ouro_runtime::session::Settings;
use std::path::PathBuf;
use std::str::FromStr;

/// Which model, and where its weights live.
#[derive(Clone, Debug, clap::Args)]
pub struct ModelArgs {
    /// The model: a GGUF file, or pico for the one that is built in
    #[arg(short, long, value_name = "FILE", default_value = BUILT_IN)]
    pub model: PathBuf,
    /// Where the weights live while the model runs [default: memory; file with --ram]
    #[arg(long, value_enum)]
    pub store: Option<StoreKind>,
    /// Bytes of the one buffer that tiles pass through with --store file, one half filled while the
    /// other is computed with; K, M and G are powers of 1024 [default: 4M, less with a small --ram]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub block_buffer: Option<usize>,
    /// When to compare weights with the checksums that `ouro quantize` writes
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub verify: Verify,
}

impl ModelArgs {
    /// Opens the store.
    ///
    /// # Errors
    /// [`Error::BadInput`], or [`Error::Usage`] if the built-in model is wanted as a file.
    pub fn open(&self) -> Result<HostStore, Error> {
        self.open_within(None)
    }

    /// Opens the store for a process that may have so much memory in all: then weights stay in the
    /// file, and the block buffer is a small part of it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_within(&self, ram: Option<usize>) -> Result<HostStore, Error> {
        let kind = self.kind(ram)?;
        if kind == StoreKind::File && is_built_in(&self.model) {
            let text =
                "the built-in model is in memory already; --store file and --ram need a file: give -m FILE";
            return Err(Error::Usage(text.to_owned()));
        }
        let max_tile = block_buffer(self.block_buffer, ram) / 2;
        Ok(HostStore::open(&self.model, kind, max_tile)?.verifying(self.verify))
    }

    /// Where weights live in a process that may have so much memory.
    ///
    /// # Errors
    /// [`Error::Usage`] for options that contradict each other.
    pub fn kind(&self, ram: Option<usize>) -> Result<StoreKind, Error> {
        let kind = match (self.store, ram) {
            (Some(StoreKind::Memory), Some(_)) => {
                let text = "--store memory keeps all of the model, and --ram only what fits: leave out one";
                return Err(Error::Usage(text.to_owned()));
            }
            (None, Some(_)) => StoreKind::File,
            (kind, _) => kind.unwrap_or_default(),
        };
        if kind == StoreKind::Memory && self.block_buffer.is_some() {
            let text = "--block-buffer is for weights that are read from a file, and all are in memory: \
                        give --store file or --ram, too";
            return Err(Error::Usage(text.to_owned()));
        }
        Ok(kind)
    }
}

/// A number of bytes: `4096`, `64K`, `600M`, `1.5G` (powers of 1024).
pub(crate) fn parse_bytes(text: &str) -> Result<usize, String> {
    let expected = || format!("{text} found, expected a number of bytes such as 65536, 64K or 600M");
    let (number, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1u64 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    let bytes = number.parse::<f64>().map_err(|_| expected())? * unit as f64;
    if (1.0..1e15).contains(&bytes) { Ok(bytes as usize) } else { Err(expected()) }
}

/// How deep a token goes.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Depth")]
pub struct DepthArgs {
    /// The largest depth D, in loops; the trained depth unless given, and may exceed it
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u8).range(1..))]
    pub loops: Option<u8>,
    /// No token stops before this depth
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    pub min_loops: u8,
    /// When a token may stop early: fixed, q=X (the exit gate's quantile), confidence=X (top
    /// probability), margin=X (between the top two), step=X (relative change of the state)
    /// [default: what the file asks for, see `ouro calibrate`; else fixed]
    #[arg(long, value_name = "POLICY")]
    pub exit: Option<Exit>,
}

impl DepthArgs {
    /// D for this model.
    #[must_use]
    pub fn max_loops(&self, config: &Config) -> usize {
        self.loops.map_or(config.loops, usize::from)
    }

    /// The policy asked for, else the one that the file asks for.
    #[must_use]
    pub fn exit(&self, model: &Model<'_>) -> Exit {
        self.exit.unwrap_or_else(|| Exit::default_of(model))
    }
}

/// Tells the user of a D and a context, in positions, that the model was not trained for.
pub fn note_untrained(loops: usize, context: usize, config: &Config) {
    if loops > config.loops {
        eprintln!("note: {loops} loops are more than the {} the model was trained with", config.loops);
    }
    if context > config.context {
        let trained = config.context;
        eprintln!(
            "note: a context of {context} is longer than the {trained} the model was made for; text beyond may make no sense"
        );
    }
}

/// An exit policy on the command line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Exit {
    /// Every token runs all loops.
    Fixed,
    /// See [`QExit`].
    Q(f32),
    /// See [`TopProbability`].
    Confidence(f32),
    /// See [`Margin`].
    Margin(f32),
    /// See [`StepDifference`].
    Step(f32),
}

impl Exit {
    /// The policy that a model's file asks for; [`Exit::Fixed`] if it asks for none.
    #[must_use]
    pub fn default_of(model: &Model<'_>) -> Self {
        model.exit_default().map_or(Self::Fixed, |&ExitDefault { kind, threshold }| match kind {
            ExitKind::Fixed => Self::Fixed,
            ExitKind::Q => Self::Q(threshold),
            ExitKind::Confidence => Self::Confidence(threshold),
            ExitKind::Margin => Self::Margin(threshold),
            ExitKind::Step => Self::Step(threshold),
        })
    }

    /// The policy itself.
    #[must_use]
    pub fn policy(self) -> Box<dyn ExitPolicy> {
        match self {
            Self::Fixed => Box::new(FixedDepth),
            Self::Q(q) => Box::new(QExit(q)),
            Self::Confidence(p) => Box::new(TopProbability(p)),
            Self::Margin(margin) => Box::new(Margin(margin)),
            Self::Step(change) => Box::new(StepDifference(change)),
        }
    }
}

impl FromStr for Exit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!("{text} found, expected fixed, q=X, confidence=X, margin=X or step=X with X from 0 to 1")
        };
        if text == "fixed" {
            return Ok(Self::Fixed);
        }
        let (name, value) = text.split_once('=').ok_or_else(expected)?;
        let value: f32 = value.parse().map_err(|_| expected())?;
        if !(0.0..=1.0).contains(&value) {
            return Err(expected());
        }
        match name {
            "q" => Ok(Self::Q(value)),
            "confidence" => Ok(Self::Confidence(value)),
            "margin" => Ok(Self::Margin(value)),
            "step" => Ok(Self::Step(value)),
            _ => Err(expected()),
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed => write!(f, "fixed"),
            Self::Q(x) => write!(f, "q={x}"),
            Self::Confidence(x) => write!(f, "confidence={x}"),
            Self::Margin(x) => write!(f, "margin={x}"),
            Self::Step(x) => write!(f, "step={x}"),
        }
    }
}

/// The KV cache.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "KV cache")]
pub struct KvArgs {
    /// What older positions offer: every loop's K/V, the last loop's, or the mean over the loops
    /// [default: what the file asks for; else last]
    #[arg(long, value_enum)]
    pub kv: Option<Sharing>,
    /// How many of the latest positions keep every loop's K/V [default: one less than the trained depth,
    /// or than D if that is more]
    #[arg(long, value_name = "POSITIONS")]
    pub kv_window: Option<usize>,
    /// How K and V are stored
    #[arg(long, value_enum, default_value_t)]
    pub kv_type: Element,
    /// Positions that the cache holds [default: what prompt and answer need; in chat, up to 2048]
    #[arg(long, value_name = "POSITIONS")]
    pub ctx: Option<usize>,
}

impl KvArgs {
    /// The settings of a session.
    #[must_use]
    pub fn settings(&self, depth: &DepthArgs, model: &Model<'_>, context: usize, rows: usize) -> Settings {
        let max_loops = depth.max_loops(model.config());
        let sharing = self.kv.map(KvSharing::from).or(model.kv_sharing_default()).unwrap_or(KvSharing::Last);
        let window = self.kv_window.unwrap_or_else(|| model.config().kv_window(max_loops));
        let kv = KvSettings { sharing, element: self.kv_type.into(), window };
        Settings { context, rows, max_loops, min_loops: depth.min_loops.into(), kv }
    }
}

/// How prompts are read.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Memory")]
pub struct PromptArgs {
    /// Read a prompt so many tokens at a time: less memory for activations, but every part goes through
    /// all weights anew. With --kv per-loop the answer is the same to the bit; else a part reads those before
    /// it as it would earlier turns, and the answer may differ [default: all of it at once]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt_part: Option<u32>,
}

impl PromptArgs {
    /// Positions in flight at most, of prompts up to so many tokens: [`Settings::rows`].
    #[must_use]
    pub fn rows(&self, prompt: usize) -> usize {
        self.prompt_part.map_or(prompt, |part| prompt.min(part as usize))
    }
}

/// [`KvSharing`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs)]
pub enum Sharing {
    PerLoop,
    Last,
    Averaged,
}

impl From<Sharing> for KvSharing {
    fn from(sharing: Sharing) -> Self {
        match sharing {
            Sharing::PerLoop => Self::PerLoop,
            Sharing::Last => Self::Last,
            Sharing::Averaged => Self::Averaged,
        }
    }
}

/// [`KvType`] on the command line.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
#[allow(missing_docs)]
pub enum Element {
    F32,
    #[default]
    F16,
    Int8,
    Int4,
}

impl From<Element> for KvType {
    fn from(element: Element) -> Self {
        match element {
            Element::F32 => Self::F32,
            Element::F16 => Self::F16,
            Element::Int8 => Self::Int8,
            Element::Int4 => Self::Int4,
        }
    }
}

/// How the next token is chosen: greedily, unless one of these is given.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Always take the likeliest token; the default unless another of these options is given
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "min_p"])]
    pub greedy: bool,
    /// Divide the logits before drawing [default: 1 if another sampling option is given]
    #[arg(long, value_name = "T")]
    pub temperature: Option<f32>,
    /// Draw from the K likeliest tokens
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Draw from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P")]
    pub top_p: Option<f32>,
    /// Draw from tokens at least this times as probable as the likeliest
    #[arg(long, value_name = "P")]
    pub min_p: Option<f32>,
    /// Make the last 64 tokens less likely; 1 is off
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub repetition_penalty: f32,
    /// Where the random numbers begin; the same seed gives the same text [default: 0, or with
    /// --load-kv, where they stood]
    #[arg(long)]
    pub seed: Option<u64>,
}

impl SamplingArgs {
    /// The sampler; its random numbers begin at `state` unless there is a seed.
    ///
    /// # Errors
    /// [`Error::Usage`] for values out of range.
    pub fn sampler(&self, state: u64) -> Result<Sampler, Error> {
        let random = self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some();
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(if random { 1.0 } else { 0.0 }),
            top_k: self.top_k.unwrap_or(0),
            top_p: self.top_p.unwrap_or(1.0),
            min_p: self.min_p.unwrap_or(0.0),
            repetition_penalty: self.repetition_penalty,
        };
        Sampler::new(sampling, self.seed.unwrap_or(state)).map_err(|error| Error::Usage(error.to_string()))
    }
}

/// Token ids separated by commas.
///
/// # Errors
/// A sentence about the part that is no id.
pub fn parse_ids(text: &str) -> Result<Vec<u32>, String> {
    text.split(',')
        .map(|part| {
            let id = part.trim().parse();
            id.map_err(|_| {
                format!("\"{}\" found, expected token ids separated by commas, as in 1,42,7", part.trim())
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_with_units() {
        for (text, bytes) in [("4096", 4096), ("64K", 65536), ("600m", 600 << 20), ("1.5G", 3 << 29)] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "-1", "1T", "0", "1e300", "NaN"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn policies_read_back() {
        for text in ["fixed", "q=0.5", "confidence=0.9", "margin=0.25", "step=0.01"] {
            assert_eq!(text.parse::<Exit>().unwrap().to_string(), text);
        }
        for text in ["", "q", "q=", "q=2", "q=nan", "x=0.5", "confidence=-1"] {
            assert!(text.parse::<Exit>().is_err(), "{text}");
        }
    }
}
