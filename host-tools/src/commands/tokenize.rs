//! `ouro tokenize`: text to token ids and back.

use crate::checkpoint::Tokenizer as Tables;
use crate::commands::input::text_or_stdin;
use crate::commands::output::{print, print_json};
use crate::commands::pieces::{quoted, token_bytes};
use crate::error::Error;
use crate::gguf_writer::{GgufWriter, Metadata};
use crate::open::{Memory, directory};
use crate::quantize::describe_tokenizer;
use crate::store::{BUILT_IN, HostStore, StoreKind};
use crate::text::encode;
use ouro_runtime::text::{Specials, Tokenizer, Utf8Stream};
use serde_json::json;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Bytes of a model file in memory at a time.
const BUFFER: usize = 1 << 20;

/// Turn text into token ids, or ids into text.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ouro tokenize -m model.gguf \"Hello, world!\"
  ouro tokenize --tokenizer Ouro-1.4B/tokenizer.json --json < book.txt
  ouro tokenize -m model.gguf --decode 2340,14,2946,3

Text from the standard input is taken as it is, with the newline at its end.")]
pub struct Args {
    /// A GGUF file, whose weights are not read, or pico for the built-in model
    #[arg(short, long, value_name = "FILE", default_value = BUILT_IN)]
    model: PathBuf,
    /// A tokenizer.json as Hugging Face has it
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    tokenizer: Option<PathBuf>,
    /// The text, or with --decode ids; from the standard input unless given, or if -
    text: Option<String>,
    /// Turn ids, separated by commas or spaces, into text
    #[arg(long, conflicts_with = "plain")]
    decode: bool,
    /// Read what looks like a special token as plain text
    #[arg(long)]
    plain: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Error`].
pub fn run(args: &Args) -> Result<(), Error> {
    let (path, mut store) = match &args.tokenizer {
        Some(path) => (path, HostStore::of_bytes(convert(path)?)),
        None => (&args.model, HostStore::open(&args.model, StoreKind::File, BUFFER)?),
    };
    let bad = |error: &dyn Display| Error::BadInput(format!("{}: {error}", path.display()));
    let (mut directory_memory, mut memory) = (Memory::default(), Memory::default());
    let gguf = directory(path, &mut store, &mut directory_memory)?;
    let bytes = Tokenizer::arena_bytes(&mut store, &gguf).map_err(|error| bad(&error))?;
    let tokenizer =
        Tokenizer::open(&mut store, &gguf, &mut memory.arena(bytes)?).map_err(|error| bad(&error))?;

    let input = text_or_stdin(args.text.as_deref())?;
    if args.decode {
        return decode(args, &tokenizer, &mut store, &input);
    }
    let specials = if args.plain { Specials::PlainText } else { Specials::Recognize };
    let ids = encode(&tokenizer, &input, specials)?;
    let pieces = pieces(&tokenizer, &mut store, &ids)?;
    if args.json {
        return print_json(&json!({ "ids": ids, "pieces": lossy(&pieces) }));
    }
    let lines = ids.iter().zip(&pieces).map(|(id, piece)| format!("{id:>7}  {}\n", quoted(piece)));
    print(&lines.collect::<String>())
}

fn decode(args: &Args, tokenizer: &Tokenizer<'_>, store: &mut HostStore, input: &str) -> Result<(), Error> {
    let ids = parse_ids(input)?;
    let tokens = tokenizer.vocab_len();
    if let Some(id) = ids.iter().find(|id| **id >= tokens) {
        return Err(Error::Usage(format!("no token has the id {id}; expected ids below {tokens}")));
    }
    let pieces = pieces(tokenizer, store, &ids)?;
    let (mut stream, mut text) = (Utf8Stream::new(), String::new());
    // Writing to a string never fails.
    let _ = stream.push(pieces.iter().flatten().copied(), &mut text);
    let _ = stream.finish(&mut text);
    if args.json {
        return print_json(&json!({ "ids": ids, "pieces": lossy(&pieces), "text": text }));
    }
    print(&format!("{text}\n"))
}

/// Ids between commas, white space, or both.
fn parse_ids(text: &str) -> Result<Vec<u32>, Error> {
    let parts = text.split(|char: char| char == ',' || char.is_whitespace()).filter(|part| !part.is_empty());
    let id = |part: &str| {
        let expected =
            || format!("\"{part}\" found, expected token ids between commas or spaces, as in 1,42,7");
        part.parse().map_err(|_| Error::Usage(expected()))
    };
    parts.map(id).collect()
}

fn pieces(tokenizer: &Tokenizer<'_>, store: &mut HostStore, ids: &[u32]) -> Result<Vec<Vec<u8>>, Error> {
    ids.iter().map(|id| token_bytes(tokenizer, store, *id)).collect()
}

/// JSON has no other strings than UTF-8: of a token that ends inside a character, only what can be
/// shown.
fn lossy(pieces: &[Vec<u8>]) -> Vec<String> {
    pieces.iter().map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
}

/// A tokenizer.json as a GGUF file without tensors, so that there is one tokenizer for both.
fn convert(path: &Path) -> Result<Vec<u8>, Error> {
    let tables = Tables::open(path).map_err(|error| Error::BadInput(error.to_string()))?;
    let mut metadata = Metadata::default();
    describe_tokenizer(&mut metadata, &tables);
    let writer = GgufWriter::new(Vec::new(), &metadata, &[], 32).map_err(anyhow::Error::new)?;
    Ok(writer.finish().map_err(anyhow::Error::new)?)
}
