//! What an image reports: lines `name: value`.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// The report of a run.
#[derive(Clone, Debug)]
pub struct Report<'t>(pub &'t str);

impl<'t> Report<'t> {
    /// The value of a name.
    ///
    /// # Errors
    /// If no line has it.
    pub fn get(&self, name: &str) -> Result<&'t str> {
        let value = |line: &'t str| line.strip_prefix(name)?.strip_prefix(": ");
        self.0.lines().find_map(value).with_context(|| format!("no {name} in the report:\n{}", self.0))
    }

    /// A number.
    ///
    /// # Errors
    /// As [`get`](Self::get), or if it is none.
    pub fn number(&self, name: &str) -> Result<u64> {
        let value = self.get(name)?;
        value.parse().with_context(|| format!("{name}: {value}"))
    }

    /// Instructions per token of the prompt.
    ///
    /// # Errors
    /// As [`number`](Self::number).
    pub fn prefill_per_token(&self) -> Result<f64> {
        let tokens = self.get("prompt ids")?.split(',').count();
        Ok(self.number("prefill instructions")? as f64 / tokens as f64)
    }

    /// Instructions per token of the answer, but for the first, which is the prompt's.
    ///
    /// # Errors
    /// As [`number`](Self::number).
    pub fn decode_per_token(&self) -> Result<f64> {
        let tokens = self.get("ids")?.split(',').count() - 1;
        Ok(self.number("decode instructions")? as f64 / tokens.max(1) as f64)
    }

    /// The answer as it was given.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn answer(&self) -> Result<String> {
        let mut text = String::new();
        let mut escaped = false;
        for character in self.get("answer")?.chars() {
            match (escaped, character) {
                (false, '\\') => escaped = true,
                (true, 'n') => (escaped, _) = (false, text.push('\n')),
                _ => (escaped, _) = (false, text.push(character)),
            }
        }
        Ok(text)
    }

    /// The kernel that computes wrong on this core, and is not used.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn refused(&self) -> Result<Option<&'t str>> {
        Ok(Some(self.get("refused")?).filter(|refused| *refused != "nothing"))
    }

    /// Everything, lists of numbers as such.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub fn to_json(&self) -> Result<Map<String, Value>> {
        let mut object = Map::new();
        for (name, value) in self.0.lines().filter_map(|line| line.split_once(": ")) {
            let list = || value.split(',').map(Value::from).collect();
            let value = match name {
                "answer" => json!(self.answer()?),
                "reasons" => list(),
                "refused" => self.refused()?.map_or(Value::Null, Value::from),
                "prompt ids" | "ids" | "depths" => {
                    let numbers: Result<Vec<u32>, _> = value.split(',').map(str::parse).collect();
                    json!(numbers?)
                }
                _ => value.parse::<u64>().map_or_else(|_| json!(value), |number| json!(number)),
            };
            object.insert(name.replace(' ', "_"), value);
        }
        Ok(object)
    }
}

/// Text as an argument of an image: letters and digits as they are, other bytes as `%` and two
/// hexadecimal digits.
#[must_use]
pub fn escape(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02x}"),
    };
    text.bytes().map(byte).collect()
}
