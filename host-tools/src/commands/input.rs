//! Text from the command line or the standard input.

use crate::error::Error;
use std::io;

/// The argument, or if it is absent or `-` all of the standard input.
pub(crate) fn text_or_stdin(argument: Option<&str>) -> Result<String, Error> {
    match argument {
        Some("-") | None => io::read_to_string(io::stdin())
            .map_err(|error| Error::BadInput(format!("the standard input: {error}; expected text in UTF-8"))),
        Some(text) => Ok(text.to_owned()),
    }
}
