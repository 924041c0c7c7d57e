//! `ouro trace`: what every loop makes of every position of a text.

mod record;
mod show;
mod tensors;

use crate::args::{DepthArgs, Exit, ModelArgs, note_untrained, parse_ids};
use crate::commands::input::text_or_stdin;
use crate::commands::output::{print, print_json};
use crate::commands::pieces::token_bytes;
use crate::compute::{Compute, ComputeArgs};
use crate::error::Error;
use crate::open::{Memories, Memory, Opened, session, session_error};
use crate::store::HostStore;
use crate::template::ChatTemplate;
use crate::text::{Conversation, encode};
use clap::ArgGroup;
use ouro_runtime::depth::ExitPolicy;
use ouro_runtime::kv::{KvSettings, KvSharing, KvType};
use ouro_runtime::model::Model;
use ouro_runtime::session::{SessionError, Settings};
use ouro_runtime::text::Specials;
use record::{Position, Recorder};
use show::Shown;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tensors::{Sizes, TensorFile};

/// Show what every loop makes of every position of a text.
#[derive(Clone, Debug, clap::Args)]
#[command(group(ArgGroup::new("input").required(true)))]
#[command(after_help = "\
Examples:
  ouro trace -m model.gguf \"What is the capital of France?\"
  ouro trace -m model.gguf --raw \"Once upon a\" --top 5 --exit q=0.6 --exit confidence=0.8
  ouro trace -m model.gguf --tokens 1,42,7 --loops 6 --out trace.safetensors

The table shows for each position and loop: lambda, the exit gate's probability to stop there; cdf,
the probability to have stopped by then; step, the relative change of the hidden state; and the
leading tokens with their probabilities. --out writes input_ids [S], hidden [T, S, H] after each
loop's norm, gate_logits [T, S] where there is a gate, and logits [T, S, V].")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The text; - reads it from the standard input
    #[arg(group = "input")]
    text: Option<String>,
    /// Token ids instead of text, separated by commas
    #[arg(long, value_name = "IDS", group = "input")]
    tokens: Option<String>,
    /// Take the text as it is, without the chat template
    #[arg(long)]
    raw: bool,
    /// The largest depth D, in loops; the trained depth unless given, and may exceed it
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u8).range(1..))]
    loops: Option<u8>,
    /// How many leading tokens are shown
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    top: u8,
    /// A policy to show the depth of: q=X, confidence=X, margin=X, step=X or fixed; may be repeated
    /// [default: the file's own, and a choice of others]
    #[arg(long, value_name = "POLICY")]
    exit: Vec<Exit>,
    /// Write all values to a safetensors file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
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
    let compute = args.compute.start()?;
    let mut store = args.model.open()?;
    let mut memories = Memories::default();
    let opened = Opened::open(&args.model.model, &mut store, &mut memories)?;
    let model = &opened.model;
    let exits = exits(args, model)?;
    let ids = ids(args, &opened, &mut store)?;
    let positions = record(args, compute, model, &mut store, &ids, &exits)?;

    let pieces = pieces(&opened, &mut store, &ids, &positions)?;
    let has_gate = model.gate().is_some();
    let shown = Shown { ids: &ids, positions: &positions, exits: &exits, has_gate, pieces: &pieces };
    if args.json { print_json(&shown.to_json()) } else { print(&shown.to_string()) }
}

/// The policies asked for, or the file's own and a choice of those that the model allows.
fn exits(args: &Args, model: &Model<'_>) -> Result<Vec<Exit>, Error> {
    if args.exit.iter().any(|exit| exit.policy().needs().gate) && model.gate().is_none() {
        return Err(session_error(SessionError::NoGate));
    }
    if !args.exit.is_empty() {
        return Ok(args.exit.clone());
    }
    let gate = model.gate().map(|gate| [gate.threshold, 0.5, 0.7, 0.9].map(Exit::Q));
    let others = [Exit::Confidence(0.9), Exit::Margin(0.5), Exit::Step(0.1)];
    let mut exits = Vec::new();
    for exit in [Exit::default_of(model)].into_iter().chain(gate.into_iter().flatten()).chain(others) {
        if exit != Exit::Fixed && !exits.contains(&exit) {
            exits.push(exit);
        }
    }
    Ok(exits)
}

fn ids(args: &Args, opened: &Opened<'_>, store: &mut HostStore) -> Result<Vec<u32>, Error> {
    if let Some(ids) = &args.tokens {
        return parse_ids(ids).map_err(Error::Usage);
    }
    let text = text_or_stdin(args.text.as_deref())?;
    let tokenizer = opened.tokenizer(&args.model.model)?;
    if args.raw {
        return encode(tokenizer, &text, Specials::Recognize);
    }
    let template = ChatTemplate::of_file(store, &opened.gguf, tokenizer)?;
    let prompt = Conversation::new(tokenizer, &template, None, None).user(&text)?;
    Ok(prompt.ids().to_vec())
}

/// Runs the session with the K/V of the original model: every loop's for itself, in f32.
fn record(
    args: &Args,
    compute: Compute,
    model: &Model<'_>,
    store: &mut HostStore,
    ids: &[u32],
    exits: &[Exit],
) -> Result<Vec<Position>, Error> {
    let config = model.config();
    let depth = DepthArgs { loops: args.loops, min_loops: 1, exit: None };
    let max_loops = depth.max_loops(config);
    note_untrained(max_loops, ids.len(), config);
    let kv = KvSettings { sharing: KvSharing::PerLoop, element: KvType::F32, window: 0 };
    let rows = ids.len().max(1);
    let settings = Settings { context: rows, rows, max_loops, min_loops: 1, kv };
    let mut memory = Memory::default();
    let (mut session, _) = session(model, settings, &mut memory)?;
    compute.lend(&mut session);
    let sizes = Sizes {
        loops: max_loops,
        positions: ids.len(),
        hidden: config.hidden,
        vocab: config.vocab,
        gate: model.gate().is_some(),
    };
    let mut out = args.out.as_deref().map(|path| TensorFile::create(path, sizes, ids)).transpose()?;
    let policies: Vec<Box<dyn ExitPolicy>> = exits.iter().map(|exit| exit.policy()).collect();
    let mut recorder = Recorder { config, policies: &policies, top: args.top.into(), out: out.as_mut() };
    let positions = recorder.run(&mut session, store, ids)?;
    if let Some(out) = out {
        out.finish()?;
    }
    Ok(positions)
}

/// The bytes of every token that occurs, if there is a tokenizer that knows them.
fn pieces(
    opened: &Opened<'_>,
    store: &mut HostStore,
    ids: &[u32],
    positions: &[Position],
) -> Result<BTreeMap<u32, Vec<u8>>, Error> {
    let Ok(tokenizer) = &opened.tokenizer else { return Ok(BTreeMap::new()) };
    let leading = positions.iter().flat_map(|position| &position.loops).flat_map(|record| &record.top);
    let all = ids.iter().copied().chain(leading.map(|(id, _)| *id));
    // The vocabulary of a model may be larger than its tokenizer's.
    let known = all.filter(|id| *id < tokenizer.vocab_len());
    known.map(|id| Ok((id, token_bytes(tokenizer, store, id)?))).collect()
}
