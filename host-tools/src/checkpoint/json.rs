//! A JSON file whose keys are asked for one by one, each error naming file and key.

use super::CheckpointError;
use crate::counted::counted;
use serde_json::{Map, Value};
use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

/// No configuration is longer, and no tokenizer by far.
const MAX_BYTES: u64 = 256 << 20;

/// A JSON file that holds an object.
#[derive(Debug)]
pub(crate) struct JsonFile {
    path: PathBuf,
    keys: Map<String, Value>,
}

impl JsonFile {
    /// Reads a file; `None` if there is none.
    pub(crate) fn read(path: PathBuf) -> Result<Option<Self>, CheckpointError> {
        let Some(bytes) = read_limited(&path, MAX_BYTES)? else { return Ok(None) };
        Self::parse(path, &bytes).map(Some)
    }

    /// The object in `bytes`; errors name `path`.
    pub(crate) fn parse(path: PathBuf, bytes: &[u8]) -> Result<Self, CheckpointError> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(keys)) => Ok(Self { path, keys }),
            Ok(other) => Err(CheckpointError::Json { path, found: shorten(&other) }),
            Err(error) => Err(CheckpointError::Json { path, found: format!("not valid JSON ({error})") }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The value of a key; null counts as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn bad(&self, key: &str, found: &Value, expected: impl Into<String>) -> CheckpointError {
        CheckpointError::BadKey {
            path: self.path.clone(),
            key: key.to_owned(),
            found: shorten(found),
            expected: expected.into(),
        }
    }

    pub(crate) fn missing(&self, key: &str, expected: &'static str) -> CheckpointError {
        CheckpointError::MissingKey { path: self.path.clone(), key: key.to_owned(), expected }
    }

    pub(crate) fn unsupported(&self, found: impl Into<String>, expected: &'static str) -> CheckpointError {
        CheckpointError::Unsupported { path: self.path.clone(), found: found.into(), expected }
    }

    pub(crate) fn tokenizer_error(
        &self,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> CheckpointError {
        CheckpointError::Tokenizer { path: self.path.clone(), found: found.into(), expected: expected.into() }
    }

    /// A count: an integer from 1 to `u32::MAX`.
    pub(crate) fn count(&self, key: &str) -> Result<Option<u32>, CheckpointError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let count = value.as_u64().and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0);
        count.map(Some).ok_or_else(|| self.bad(key, value, "a positive integer below 2^32"))
    }

    pub(crate) fn required_count(&self, key: &str) -> Result<u32, CheckpointError> {
        self.count(key)?.ok_or_else(|| self.missing(key, "a positive integer"))
    }

    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>, CheckpointError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.bad(key, value, "true or false"))
    }

    /// A finite number, as f32.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f32>, CheckpointError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_f64().map(|number| number as f32).filter(|number| number.is_finite());
        number.map(Some).ok_or_else(|| self.bad(key, value, "a number that f32 holds"))
    }
}

/// The bytes of a file, if there is one and it is no longer than `limit`.
pub(crate) fn read_limited(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, CheckpointError> {
    let io_error = |source| CheckpointError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        // Or a file where a folder was expected.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(io_error(error)),
    };
    let found = file.metadata().map_err(io_error)?.len();
    if found > limit {
        return Err(CheckpointError::TooLarge { path: path.to_owned(), found, limit });
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(io_error)?;
    Ok(Some(bytes))
}

/// A JSON value in an error message: whole if short.
pub(crate) fn shorten(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(keys) => format!("an object of {}", counted(keys.len(), "key")),
        Value::String(text) if text.chars().count() > 60 => {
            format!("{:?}…", text.chars().take(60).collect::<String>())
        }
        other => other.to_string(),
    }
}
