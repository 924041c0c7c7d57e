//! Reading a Hugging Face checkpoint folder: configuration, tokenizer, and where each tensor lies.
//!
//! Opening reads JSON and safetensors headers only, and checks all of it: whatever passes here can be
//! converted. Weights are read later, a piece at a time. Nothing is allocated in proportion to a number
//! that a file merely claims.

mod config;
mod error;
pub(crate) mod json;
mod layout;
mod shards;
mod special;
mod tokenizer;

pub use config::{Architecture, Config};
pub use error::CheckpointError;
pub use layout::ExpectedTensor;
pub use shards::{Shards, StoredTensor, parse_header};
pub use special::SpecialTokens;
pub use tokenizer::Tokenizer;

use error::COPY_AGAIN;
use json::JsonFile;
use layout::GATE;
use safetensors::tensor::Dtype;
use std::{
    collections::HashSet,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// How many tensor names an error lists.
const NAMES_IN_ERRORS: usize = 6;

/// A checkpoint folder that is whole and of a kind we know.
#[derive(Debug)]
pub struct Checkpoint {
    /// The folder.
    pub dir: PathBuf,
    /// The model's shape.
    pub config: Config,
    /// Its name, from the configuration or the folder.
    pub name: String,
    /// The safetensors files.
    pub files: Vec<PathBuf>,
    /// Every tensor but the gate, in the order in which a pass uses them.
    pub tensors: Vec<(ExpectedTensor, StoredTensor)>,
    /// The exit gate, where there is one.
    pub gate: Option<Gate>,
    /// The tokenizer's tables.
    pub tokenizer: Tokenizer,
}

/// The exit gate: lambda = sigmoid(weight . h + bias).
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// `[H]`.
    pub weight: Vec<f32>,
    /// One number.
    pub bias: f32,
    /// The Q-exit threshold that the checkpoint recommends.
    pub threshold: f32,
}

impl Checkpoint {
    /// Opens a folder and checks all but the weights' values.
    ///
    /// # Errors
    /// [`CheckpointError`]: the first thing found wrong.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let json = open_config(dir)?;
        let config = Config::read(&json)?;
        let shards = Shards::open(dir)?;
        let gate = read_gate(&config, &shards)?;
        let tensors = find_tensors(&config, &shards)?;
        let advice = "write it with AutoTokenizer.from_pretrained(...).save_pretrained(...)";
        let tokenizer_json = open_json(dir, "tokenizer.json", "a fast tokenizer", advice)?;
        // The embedding's shape has been checked, so that vocab_size is no longer a mere claim.
        let mut tokenizer = Tokenizer::read(&tokenizer_json, config.vocab_size)?;
        tokenizer.special = SpecialTokens::read(dir, &json, &tokenizer)?;
        let name = model_name(dir, &json);
        Ok(Self { dir: dir.to_owned(), config, name, files: shards.files, tensors, gate, tokenizer })
    }
}

impl Gate {
    /// The exit gate of a folder, whatever else is in it.
    ///
    /// # Errors
    /// [`CheckpointError`], also if there is no gate.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let json = open_config(dir)?;
        let config = Config::read(&json)?;
        let gate = read_gate(&config, &Shards::open(dir)?)?;
        gate.ok_or_else(|| CheckpointError::MissingTensors {
            names: GATE.map(str::to_owned).to_vec(),
            expected: "an exit gate",
            advice: "take the gate of the original Ouro checkpoint",
        })
    }
}

fn open_config(dir: &Path) -> Result<JsonFile, CheckpointError> {
    open_json(dir, "config.json", "it beside the weights", "give a folder as transformers saves it")
}

fn open_json(
    dir: &Path,
    name: &str,
    expected: &'static str,
    advice: &'static str,
) -> Result<JsonFile, CheckpointError> {
    let path = dir.join(name);
    JsonFile::read(path.clone())?.ok_or(CheckpointError::MissingFile { path, expected, advice })
}

fn model_name(dir: &Path, json: &JsonFile) -> String {
    let from_config = json.get("_name_or_path").and_then(serde_json::Value::as_str);
    let path = from_config.filter(|name| !name.is_empty()).map(PathBuf::from);
    let path = path.or_else(|| dir.canonicalize().ok()).unwrap_or_else(|| dir.to_owned());
    path.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Pairs every tensor of the architecture with its place; none may be missing, none left over.
fn find_tensors(
    config: &Config,
    shards: &Shards,
) -> Result<Vec<(ExpectedTensor, StoredTensor)>, CheckpointError> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    let layers = (0..config.layers).flat_map(|layer| config.layer(layer));
    // Lazily: a made-up number of layers ends at the first few that are missing.
    for expected in [config.embedding()].into_iter().chain(layers).chain(config.head()) {
        match shards.tensors.get(&expected.hf) {
            Some(stored) => {
                check(&expected.hf, &expected.shape, stored)?;
                found.push((expected, stored.clone()));
            }
            None => missing.push(expected.hf),
        }
        if missing.len() == NAMES_IN_ERRORS {
            break;
        }
    }
    if !missing.is_empty() {
        let expected = "all that config.json asks for";
        let advice = "copy the checkpoint again, or correct num_hidden_layers, model_type and \
                      tie_word_embeddings in config.json";
        return Err(CheckpointError::MissingTensors { names: missing, expected, advice });
    }
    refuse_extra(config, shards, &found)?;
    Ok(found)
}

fn refuse_extra(
    config: &Config,
    shards: &Shards,
    found: &[(ExpectedTensor, StoredTensor)],
) -> Result<(), CheckpointError> {
    let mut known: HashSet<&str> = found.iter().map(|(expected, _)| expected.hf.as_str()).collect();
    if config.architecture == Architecture::Ouro {
        known.extend(GATE);
    }
    if config.tied {
        // Saved by some tools all the same; the embedding is what counts.
        known.insert("lm_head.weight");
    }
    let names = shards.tensors.keys().map(String::as_str);
    let mut extra: Vec<&str> =
        names.filter(|name| !known.contains(name) && !layout::is_redundant(name)).collect();
    if extra.is_empty() {
        return Ok(());
    }
    extra.sort_unstable();
    extra.truncate(NAMES_IN_ERRORS);
    Err(CheckpointError::ExtraTensors {
        names: extra.into_iter().map(str::to_owned).collect(),
        architecture: config.architecture.name(),
    })
}

fn check(name: &str, shape: &[u64], stored: &StoredTensor) -> Result<(), CheckpointError> {
    if stored.shape != shape {
        return Err(CheckpointError::Shape {
            name: name.to_owned(),
            found: stored.shape.clone(),
            expected: shape.to_vec(),
        });
    }
    if !matches!(stored.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        let found = format!("{:?}", stored.dtype);
        return Err(CheckpointError::Dtype { name: name.to_owned(), found });
    }
    Ok(())
}

fn read_gate(config: &Config, shards: &Shards) -> Result<Option<Gate>, CheckpointError> {
    if config.architecture != Architecture::Ouro {
        return Ok(None);
    }
    let [weight, bias] = GATE.map(|name| shards.tensors.get(name));
    match (weight, bias) {
        (None, None) => Ok(None),
        (Some(weight), Some(bias)) => {
            let [weight_name, bias_name] = GATE;
            check(weight_name, &[1, config.hidden.into()], weight)?;
            check(bias_name, &[1], bias)?;
            let bias = read_floats(bias_name, shards, bias)?;
            Ok(Some(Gate {
                weight: read_floats(weight_name, shards, weight)?,
                bias: bias.first().copied().unwrap_or_default(),
                threshold: config.exit_threshold,
            }))
        }
        (weight, _) => Err(CheckpointError::MissingTensors {
            names: vec![GATE[usize::from(weight.is_some())].to_owned()],
            expected: "both weight and bias of the exit gate",
            advice: COPY_AGAIN,
        }),
    }
}

fn read_floats(name: &str, shards: &Shards, tensor: &StoredTensor) -> Result<Vec<f32>, CheckpointError> {
    let path = &shards.files[tensor.file];
    let io_error = |source| CheckpointError::Io { path: path.clone(), source };
    let mut file = File::open(path).map_err(io_error)?;
    file.seek(SeekFrom::Start(tensor.offset)).map_err(io_error)?;
    let mut bytes = Vec::new();
    file.take(tensor.len).read_to_end(&mut bytes).map_err(io_error)?;
    let values: Vec<f32> = match tensor.dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
        _ => bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
    };
    match values.iter().find(|value| !value.is_finite()) {
        Some(found) => Err(CheckpointError::NotFinite { name: name.to_owned(), found: *found }),
        None => Ok(values),
    }
}
