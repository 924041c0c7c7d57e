//! `ouro inspect`: what a GGUF file is.

mod check;
mod layout;
mod metadata;
mod show;
mod summary;

use crate::commands::output::{print, print_json};
use crate::error::Error;
use crate::store::{BUILT_IN, HostStore, StoreKind};
use std::path::PathBuf;
use summary::Summary;

/// Bytes of the file in memory at a time; a vector of the longest model fits.
const BUFFER: usize = 4 << 20;

/// Say what a GGUF file is; of any architecture.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ouro inspect model.gguf
  ouro inspect model.gguf --tensors
  ouro inspect downloaded.gguf --check && echo whole
  ouro inspect model.gguf --json | jq .reads.per_token")]
pub struct Args {
    /// A GGUF file, or pico for the built-in model
    #[arg(default_value = BUILT_IN)]
    file: PathBuf,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Read everything, and name the first thing that is wrong
    #[arg(long)]
    check: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Error::BadInput`] for a file that is no well-formed GGUF, or that a check found fault with.
pub fn run(args: &Args) -> Result<(), Error> {
    let mut store = HostStore::open(&args.file, StoreKind::File, BUFFER)?;
    let mut summary = Summary::read(&args.file, &mut store)?;
    if args.check {
        summary.check = Some(check::check(&args.file, &summary)?);
    }
    if !args.tensors {
        summary.tensors.clear();
    }
    if args.json {
        print_json(&summary)?;
    } else {
        print(&summary.to_string())?;
    }
    match summary.check.and_then(|check| check.error) {
        Some(error) => Err(Error::BadInput(format!("{}: {error}", args.file.display()))),
        None => Ok(()),
    }
}
