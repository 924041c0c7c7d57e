//! JSON Lines: one object per line, with errors that name the line.

use crate::error::Error;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::path::Path;

/// One line of a file.
#[derive(Debug)]
pub struct Line<'p> {
    path: &'p Path,
    /// Counted from 1.
    pub number: usize,
    fields: Map<String, Value>,
}

impl<'p> Line<'p> {
    /// The lines of a file; empty ones are passed over.
    ///
    /// # Errors
    /// [`Error::BadInput`] with the number of the first line that is no object in UTF-8, or if there
    /// is none at all.
    pub fn read_all(path: &'p Path) -> Result<Vec<Self>, Error> {
        let bytes = std::fs::read(path).map_err(|error| Error::reading(path, &error))?;
        let lines = bytes.split(|byte| *byte == b'\n').enumerate();
        let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
        let lines = lines.map(|(index, bytes)| Self::read(path, index + 1, bytes));
        let lines: Vec<Self> = lines.collect::<Result<_, _>>()?;
        if lines.is_empty() {
            let text = format!("{}: the file is empty; expected one JSON object per line", path.display());
            return Err(Error::BadInput(text));
        }
        Ok(lines)
    }

    fn read(path: &'p Path, number: usize, bytes: &[u8]) -> Result<Self, Error> {
        let mut line = Self { path, number, fields: Map::new() };
        let text = std::str::from_utf8(bytes).map_err(|error| line.error(format!("not UTF-8: {error}")))?;
        // A byte order mark, which some editors write, is no part of the text.
        let text = if number == 1 { text.trim_start_matches('\u{FEFF}') } else { text };
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => line.fields = fields,
            Ok(other) => return Err(line.error(format!("{} found, expected an object", kind(&other)))),
            // The place that serde_json names is one in this line.
            Err(error) => return Err(line.error(format!("not JSON: {error} of this line"))),
        }
        Ok(line)
    }

    /// A field that holds a string with something in it, if it is there.
    ///
    /// # Errors
    /// [`Error::BadInput`] if it holds something else.
    pub fn optional(&self, field: &str) -> Result<Option<&str>, Error> {
        match self.fields.get(field) {
            None => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => {
                Err(self.error(format!("`{field}` is empty")))
            }
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.error(format!("`{field}` is {}, expected a string", kind(other)))),
        }
    }

    /// A field that must be there, and holds such a string.
    ///
    /// # Errors
    /// [`Error::BadInput`] if it is missing or holds something else.
    pub fn text(&self, field: &str) -> Result<&str, Error> {
        self.optional(field)?.ok_or_else(|| self.error(format!("the field `{field}` is missing")))
    }

    /// An error of this line.
    #[must_use]
    pub fn error(&self, text: impl Display) -> Error {
        Error::BadInput(format!("{}:{}: {text}", self.path.display(), self.number))
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
