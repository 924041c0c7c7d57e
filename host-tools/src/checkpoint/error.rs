//! What can be wrong with a checkpoint folder.

use super::config::KNOWN_ARCHITECTURES;
use crate::error::unreadable;
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
        /// What would be there.
        expected: &'static str,
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
        /// What it is, or what the parser said.
        found: String,
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
    /// A setting of the model or its tokenizer asks for something that the runtime does not do.
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The setting and its value.
        found: String,
        /// What is supported.
        expected: &'static str,
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
        /// The index, or a shard.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// Tensors that the configuration asks for are not there.
    MissingTensors {
        /// Some of their names.
        names: Vec<String>,
        /// What should be there.
        expected: &'static str,
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
        /// What is wrong.
        found: String,
        /// What should be there.
        expected: String,
    },
}

/// What to do about files that are damaged or belong to different models.
pub(super) const COPY_AGAIN: &str = "copy the checkpoint again, all files together";
const FROM_ORIGINAL: &str = "take this file from the original checkpoint";
const ANOTHER_MODEL: &str = "convert another model, as this one does not run here";

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, source } => f.write_str(&unreadable(path, source)),
            Self::MissingFile { path, expected, advice } => {
                write!(f, "{} is missing, expected {expected}; {advice}", path.display())
            }
            Self::TooLarge { path, found, limit } => {
                write!(f, "{} has {found} bytes, expected at most {limit}; {FROM_ORIGINAL}", path.display())
            }
            Self::Json { path, found } => {
                write!(f, "{}: {found}, expected a JSON object; {FROM_ORIGINAL}", path.display())
            }
            Self::MissingKey { path, key, expected } => {
                write!(f, "{}: `{key}` is missing, expected {expected}; {FROM_ORIGINAL}", path.display())
            }
            Self::BadKey { path, key, found, expected } => {
                write!(f, "{}: `{key}` is {found}, expected {expected}; {FROM_ORIGINAL}", path.display())
            }
            Self::UnknownArchitecture { path, found } => write!(
                f,
                "{}: unknown architecture {found}, expected {}; {ANOTHER_MODEL}",
                path.display(),
                KNOWN_ARCHITECTURES.join(" or ")
            ),
            Self::Unsupported { path, found, expected } => {
                let path = path.display();
                write!(f, "{path}: {found} is not supported, expected {expected}; {ANOTHER_MODEL}")
            }
            Self::Header { path, detail } => {
                write!(f, "{}: {detail}, expected a whole safetensors file; {COPY_AGAIN}", path.display())
            }
            Self::Index { path, detail } => write!(
                f,
                "{}: {detail}, expected an index and shards that belong together; {COPY_AGAIN}",
                path.display()
            ),
            Self::MissingTensors { names, expected, advice } => {
                write!(f, "tensors are missing: {}, expected {expected}; {advice}", names.join(", "))
            }
            Self::ExtraTensors { names, architecture } => write!(
                f,
                "tensors that the architecture {architecture} does not have: {}, expected none; \
                 correct `model_type` and `num_hidden_layers` in config.json, or {ANOTHER_MODEL}",
                names.join(", ")
            ),
            Self::Shape { name, found, expected } => {
                write!(f, "{name} has shape {found:?}, expected {expected:?} from config.json; {COPY_AGAIN}")
            }
            Self::Dtype { name, found } => write!(
                f,
                "{name} holds {found} values, expected F32, F16 or BF16; \
                 load and save the model in one of these with transformers"
            ),
            Self::NotFinite { name, found } => {
                write!(f, "{name} holds {found}, expected finite numbers; {COPY_AGAIN}")
            }
            Self::Tokenizer { path, found, expected } => {
                write!(f, "{}: {found}, expected {expected}; {FROM_ORIGINAL}", path.display())
            }
        }
    }
}

impl std::error::Error for CheckpointError {}

impl From<CheckpointError> for crate::error::Error {
    fn from(error: CheckpointError) -> Self {
        Self::BadInput(error.to_string())
    }
}
