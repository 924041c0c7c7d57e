//! `ouro random`: a file of random weights, to measure before anything is downloaded.

mod shapes;
mod weights;

pub use shapes::Like;
pub(crate) use weights::Weights;

use crate::checkpoint::{Architecture, Config, ExpectedTensor, Gate};
use crate::commands::output::{print, print_json};
use crate::error::Error;
use crate::gguf_writer::{Metadata, TensorInfo, Value};
use crate::progress;
use crate::quantize::{
    ALIGNMENT, FileType, Source, SourceTensor, check_out, choose, describe_file, describe_model, infos,
    set_gate, write_with,
};
use ouro_quant::Format;
use serde_json::json;
use std::path::PathBuf;

/// Write a GGUF of random weights in the shape of a known model.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ouro random ouro-1.4b.gguf --like ouro-1.4b --type q4_0
  ouro bench -m ouro-1.4b.gguf

The file has every tensor of the model, at the size, type and place that `ouro quantize` would give
it, and an exit gate. Speed and memory are the real model's; its text is noise, and its depths mean
nothing. The tokenizer is the built-in model's, filled up with ids that have no text: a text has
more tokens than with the real one. The same seed writes the same bytes.")]
pub struct Args {
    /// The GGUF to write
    out: PathBuf,
    /// The model whose shape it has
    #[arg(long, value_name = "MODEL", value_enum)]
    like: Like,
    /// What the matrices are stored as; norms stay f32
    #[arg(long = "type", short = 't', value_name = "TYPE", value_enum, ignore_case = true)]
    file_type: FileType,
    /// Where the random numbers begin
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print what was written as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Error`]; nothing is left behind then.
pub fn run(args: &Args) -> Result<(), Error> {
    let Args { out, like, file_type, seed, json } = args;
    check_out(out)?;
    let mut weights = Weights::new(*seed);
    let source = source_with(*like, *file_type, &mut weights)?;
    let choices = choose(&source.tensors, source.layers, Some(*file_type), &[])?;
    let infos = infos(&source, &choices)?;
    let progress = progress::writing(infos.iter().map(|info| info.len).sum());
    let bytes = write_with(&source.metadata, &infos, source.alignment, out, |index, sink| {
        let info = &infos[index];
        progress.set_message(info.name.clone());
        weights.write(info, |bytes| {
            progress.inc(bytes.len() as u64);
            sink(bytes)
        })
    })?;
    progress.finish_and_clear();
    let parameters: u64 = infos.iter().map(parameters).sum();
    if *json {
        return print_json(&json!({
            "out": out, "like": like.name(), "seed": seed, "parameters": parameters, "bytes": bytes,
        }));
    }
    let (out, like) = (out.display(), like.name());
    print(&format!("{out}: {parameters} random weights in the shape of {like}, {bytes} bytes\n"))
}

fn parameters(info: &TensorInfo) -> u64 {
    info.dims.iter().product()
}

/// The model as [`choose`] and [`infos`] want it; there are no files behind it.
pub(crate) fn source(like: Like, file_type: FileType) -> Result<Source, Error> {
    source_with(like, file_type, &mut Weights::new(0))
}

fn source_with(like: Like, file_type: FileType, weights: &mut Weights) -> Result<Source, Error> {
    let config = &like.config();
    let layers = (0..config.layers).flat_map(|layer| config.layer(layer));
    let tensors = std::iter::once(config.embedding()).chain(layers).chain(config.head());
    Ok(Source {
        about: String::new(),
        files: Vec::new(),
        is_gguf: false,
        architecture: config.architecture,
        hidden: config.hidden.into(),
        layers: config.layers,
        metadata: metadata(like, config, file_type, weights)?,
        tensors: tensors.map(tensor).collect(),
        alignment: ALIGNMENT,
    })
}

fn tensor(expected: ExpectedTensor) -> SourceTensor {
    SourceTensor {
        name: expected.gguf,
        dims: expected.shape.into_iter().rev().collect(),
        format: Format::F32,
        file: 0,
        offset: 0,
        len: 0,
        interleave: None,
    }
}

fn metadata(
    like: Like,
    config: &Config,
    file_type: FileType,
    weights: &mut Weights,
) -> Result<Metadata, Error> {
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", config.architecture.name());
    metadata.set("general.type", "model");
    metadata.set("general.name", format!("random weights in the shape of {}", like.name()).as_str());
    describe_file(&mut metadata, file_type);
    describe_model(&mut metadata, config);
    if config.architecture == Architecture::Ouro {
        let weight = weights.vector(config.hidden as usize);
        set_gate(&mut metadata, &Gate { weight, bias: 0.0, threshold: config.exit_threshold });
    }
    let built_in = Source::built_in()?;
    for (key, value) in built_in.metadata.entries().filter(|(key, _)| key.starts_with("tokenizer.")) {
        metadata.set(key, filled_up(key, value, config.vocab_size));
    }
    Ok(metadata)
}

/// ggml's type of a token that stands for nothing.
const UNUSED: i32 = 5;

/// A table of tokens as long as the vocabulary; other values as they are.
fn filled_up(key: &str, value: &Value, vocab: u32) -> Value {
    let known = value.array_len().unwrap_or(0);
    let unused = u32::try_from(known).unwrap_or(vocab)..vocab;
    let more = match key {
        "tokenizer.ggml.tokens" => Value::strings(&unused.map(|id| format!("[PAD{id}]")).collect::<Vec<_>>()),
        "tokenizer.ggml.token_type" => Value::i32s(&unused.map(|_| UNUSED).collect::<Vec<_>>()),
        _ => return value.clone(),
    };
    value.followed_by(&more).unwrap_or_else(|| value.clone())
}
