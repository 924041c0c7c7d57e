//! Standard output for reports and for programs.

use crate::error::Error;
use serde::Serialize;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Prints a report. A reader that has seen enough (`ouro ... | head`) is no error.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    match stream(text) {
        Err(Error::OutputClosed) => Ok(()),
        done => done,
    }
}

/// Prints a part of a text that is still being made: [`Error::OutputClosed`] if nobody waits for
/// the rest.
pub(crate) fn stream(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Error::OutputClosed,
        _ => Error::writing(Path::new("the standard output"), error),
    })
}

/// Prints one JSON object on a line of its own.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string(value).map_err(anyhow::Error::new)?;
    print(&format!("{text}\n"))
}

/// A float with the digits that an f32 has, not with those of the f64 nearest to it. JSON knows no
/// infinities and no NaN: they become null.
pub(crate) fn json_f32(value: f32) -> serde_json::Value {
    value.to_string().parse::<f64>().map_or(serde_json::Value::Null, Into::into)
}
