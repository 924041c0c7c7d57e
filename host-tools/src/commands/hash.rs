//! `ouro hash`: one number for every bit that a model computes.

use crate::args::{ModelArgs, parse_ids};
use crate::commands::output::{print, print_json};
use crate::compute::ComputeArgs;
use crate::error::Error;
use crate::open::{Memories, Memory, Opened, session, session_error};
use crate::store::HostStore;
use ouro_runtime::fingerprint::{self, Seen};
use ouro_runtime::session::{Session, SessionError};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Show that a model computes the same bits here as elsewhere.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ouro hash -m model.gguf --tokens 1,42,7
  ouro hash -m model.gguf --tokens 1,42,7 --backend scalar --threads 3

Prints the SHA-256 of the logits (f32, little endian) of the last position after every loop: of the
prompt, and of 16 greedy tokens, with shared K/V in int8 and the exit gate at q=0.5 where there is
one. It is the same on every machine, for every back end but reference, and for any number of
threads.")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The prompt: token ids separated by commas
    #[arg(long, value_name = "IDS")]
    tokens: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Runs the command.
///
/// # Errors
/// [`Error`].
pub fn run(args: &Args) -> Result<(), Error> {
    let prompt = parse_ids(&args.tokens).map_err(Error::Usage)?;
    let compute = args.compute.start()?;
    let mut store = args.model.open()?;
    let mut memories = Memories::default();
    let opened = Opened::open(&args.model.model, &mut store, &mut memories)?;
    let mut memory = Memory::default();
    let settings = fingerprint::settings(&opened.model, prompt.len());
    let (mut session, _) = session(&opened.model, settings, &mut memory)?;
    compute.lend(&mut session);
    let hashed = hash(&mut session, &mut store, &prompt).map_err(session_error)?;
    if args.json { print_json(&hashed) } else { print(&format!("{}\n", hashed.sha256)) }
}

/// What was computed.
#[derive(Debug, Serialize)]
struct Hashed {
    sha256: String,
    backend: &'static str,
    /// Greedy ids, and the depth of each.
    tokens: Vec<u32>,
    depths: Vec<usize>,
}

fn hash(session: &mut Session<'_>, store: &mut HostStore, prompt: &[u32]) -> Result<Hashed, SessionError> {
    let mut digest = Sha256::new();
    let mut logits = vec![0.0; session.model().config().vocab];
    let (mut tokens, mut depths) = (Vec::new(), Vec::new());
    fingerprint::run(session, store, prompt, &mut logits, &mut |seen| match seen {
        Seen::Logits(logits) => logits.iter().for_each(|logit| digest.update(logit.to_le_bytes())),
        Seen::Token(token, depth) => {
            tokens.push(token);
            depths.push(depth.loops);
        }
    })?;
    let sha256 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Hashed { sha256, backend: session.backend().name(), tokens, depths })
}
