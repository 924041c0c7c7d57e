//! What can be wrong with a checkpoint folder.

use super::config::KNOWN_ARCHITECTURES;
use std::{fmt, io, path::PathBuf};

/// Why a checkpoint was refused: what was found, what was expected, what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file can't be read.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder lacks a file that a checkpoint has.
    MissingFile {
        /// The file that was looked for.
        path: PathBuf,
        /// What to do.
        advice: &'static str,
    },
    /// A file is larger than any file of its kind.
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
        /// The largest length that is read.
        limit: u64,
    },
    /// A file is not the JSON that it should be.
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        detail: String,
    },
    /// A key is missing.
    MissingKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What its value would be.
        expected: &'static str,
    },
    /// A key's value is of the wrong type, out of range or contradicts another.
    BadKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The value, or a part of it.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// The model is of a kind that we can't convert.
    UnknownArchitecture {
        /// The file.
        path: PathBuf,
        /// `model_type` as found.
        found: String,
    },
    /// A setting asks for something that the runtime does not compute.
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The setting and its value.
        found: String,
        /// What is supported.
        expected: String,
    },
    /// A safetensors header is truncated, lies, or is not one.
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A shard index and its shards disagree.
    Index {
        /// The index file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// Tensors that the configuration asks for are not there.
    MissingTensors {
        /// Some of their names.
        names: Vec<String>,
        /// What to do.
        advice: &'static str,
    },
    /// Tensors that the architecture does not have.
    ExtraTensors {
        /// Some of their names.
        names: Vec<String>,
        /// The architecture that does not have them.
        architecture: &'static str,
    },
    /// A tensor's shape does not follow from the configuration.
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<u64>,
        /// The shape that config.json implies.
        expected: Vec<u64>,
    },
    /// A tensor's element type is not one we read.
    Dtype {
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
    },
    /// A value that is not a finite number.
    NotFinite {
        /// The tensor.
        name: String,
        /// What was found.
        found: f32,
    },
    /// The tokenizer's tables contradict each other or the configuration.
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what was expected.
        detail: String,
    },
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::MissingFile { path, advice } => {
                write!(f, "{} is missing: {advice}", path.display())
            }
            Self::TooLarge { path, found, limit } => write!(
                f,
                "{} has {found} bytes, more than {limit}: it is not what its name says",
                path.display()
            ),
            Self::Json { path, detail } => {
                write!(f, "{} is not valid JSON ({detail}): copy the checkpoint again", path.display())
            }
            Self::MissingKey { path, key, expected } => {
                write!(f, "{}: `{key}` is missing; expected {expected}", path.display())
            }
            Self::BadKey { path, key, found, expected } => {
                write!(f, "{}: `{key}` is {found}; expected {expected}", path.display())
            }
            Self::UnknownArchitecture { path, found } => write!(
                f,
                "{}: unknown architecture {found}; known are {}",
                path.display(),
                KNOWN_ARCHITECTURES.join(", ")
            ),
            Self::Unsupported { path, found, expected } => {
                write!(f, "{}: {found} is not supported; {expected}", path.display())
            }
            Self::Header { path, detail } => write!(
                f,
                "{}: {detail}; expected a whole safetensors file: copy the checkpoint again",
                path.display()
            ),
            Self::Index { path, detail } => {
                write!(f, "{}: {detail}; index and shards must belong together", path.display())
            }
            Self::MissingTensors { names, advice } => {
                write!(f, "tensors are missing: {}; {advice}", names.join(", "))
            }
            Self::ExtraTensors { names, architecture } => write!(
                f,
                "tensors that the architecture {architecture} does not have: {}; \
                 is `model_type` in config.json right?",
                names.join(", ")
            ),
            Self::Shape { name, found, expected } => write!(
                f,
                "{name} has shape {found:?}; config.json asks for {expected:?}: \
                 do the files belong to the same model?"
            ),
            Self::Dtype { name, found } => write!(
                f,
                "{name} holds {found} values; F32, F16 and BF16 are read: \
                 load and save the model in one of these with transformers"
            ),
            Self::NotFinite { name, found } => {
                write!(f, "{name} holds {found}; expected finite numbers: the checkpoint is damaged")
            }
            Self::Tokenizer { path, detail } => write!(f, "{}: {detail}", path.display()),
        }
    }
}

impl std::error::Error for CheckpointError {}

impl From<CheckpointError> for crate::error::Error {
    fn from(error: CheckpointError) -> Self {
        Self::BadInput(error.to_string())
    }
}
