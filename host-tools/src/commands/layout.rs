//! `ouro layout`: the same weights, in the order in which they are read.

use crate::commands::output::{print, print_json};
use crate::error::Error;
use crate::quantize;
use crate::report::counted;
use serde_json::json;
use std::path::PathBuf;

/// Copy a GGUF into the order in which a token reads it.
///
/// Nothing is quantized again: not a bit of a tensor changes. Tensors lie in order of execution
/// then, on pages, with checksums, so that a tile is fetched with one request and what is damaged is
/// noticed. Files in any other order run too, with more requests. `ouro quantize` writes this order
/// anyway.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ouro layout published.gguf streams.gguf
  ouro run -m streams.gguf --ram 400M \"Name three rivers.\"")]
pub struct Args {
    /// The GGUF to copy
    pub src: PathBuf,
    /// The GGUF to write
    pub out: PathBuf,
    /// Print what was done as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Error`]; nothing is left behind then.
pub fn run(args: &Args) -> Result<(), Error> {
    let (tensors, bytes) = quantize::lay_out(&args.src, &args.out)?;
    if args.json {
        return print_json(&json!({ "out": args.out, "tensors": tensors, "bytes": bytes }));
    }
    let (out, tensors) = (args.out.display(), counted(tensors, "tensor"));
    print(&format!("{out}: {tensors} in order of execution, {bytes} bytes\n"))
}
