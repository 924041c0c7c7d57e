//! `ouro eval`: how often a model is right, how well it predicts a text, and what depth and back end
//! have to do with it.

mod measure;
mod perplexity;
mod plot;
mod questions;
mod sessions;
mod table;

use crate::args::{Exit, KvArgs, ModelArgs, note_untrained};
use crate::commands::output::{print, print_json};
use crate::compute::ComputeArgs;
use crate::error::Error;
use crate::interrupt;
use crate::open::{Memories, Opened, session_error};
use crate::progress;
use crate::quantize::check_out;
use crate::ram::RamArgs;
use crate::template::ChatTemplate;
use clap::ArgGroup;
use measure::Examiner;
use ouro_runtime::model::Model;
use ouro_runtime::session::SessionError;
use serde::Serialize;
use sessions::Sessions;
use std::path::{Path, PathBuf};
use table::{Row, Table};

/// The tag of the rows over all questions.
const ALL: &str = "all";

/// More tokens than the longest right answer has, so that a wrong one shows its length in the mean
/// depth without taking forever.
const SPARE_TOKENS: usize = 8;

/// Ask the questions of a file, and count the exact answers; or predict a text, token by token.
#[derive(Clone, Debug, clap::Args)]
#[command(group(ArgGroup::new("data").required(true)))]
#[command(after_help = "\
Each line of FILE is a JSON object with `prompt`, `answer` and `tag`. A prompt goes through the chat
template, the answer is greedy, decoded as `ouro run` does (with its KV cache and exits), and it counts
if its text is `answer`, white space at both ends aside. Tags are free, and each one gets a row; --tags
names those that are expected, so that a misspelt one is found.

Examples:
  ouro eval tests/data/pico-eval.jsonl
  ouro eval questions.jsonl -m model.gguf --loops 1,2,4 --exit fixed,q=0.5,confidence=0.9
  ouro eval questions.jsonl -m model.gguf --plot depth.svg --json - > rows.json
  ouro eval --perplexity book.txt -m model.gguf --loops 1,2,3,4
  ouro eval --perplexity book.txt -m model.gguf --agreement
  ouro eval questions.jsonl -m model.gguf --ram 400M

fixed is measured with every value of --loops, any other policy with the largest. --json writes an
array of rows, one for each tag and one for `all`, with tag, loops, exit, n, right, exact (percent),
mean_depth, loops_saved (percent), tokens and tokens_per_second (of one session). As many sessions run
as there are threads; one after another where weights are read from a file.

A text is cut into windows, each from an empty cache, and the second half of each counts; a rest is
left out. Its rows have loops, positions, perplexity, its standard_error, and with --agreement
agreement (percent), disagreeing_margin (the reference path's margin in logits, at most, where the
tokens differ) and divergence (KL, in nats, of the reference path's predictions from this back end's).")]
pub struct Args {
    /// The questions
    #[arg(group = "data")]
    file: Option<PathBuf>,
    /// Predict a text instead: perplexity at each depth of --loops
    #[arg(long, value_name = "TEXTFILE", group = "data", conflicts_with_all = ["exit", "sweep", "tags", "max_new", "plot", "ctx"])]
    perplexity: Option<PathBuf>,
    /// The same for token ids, a JSON array, whatever the tokenizer
    #[arg(long, value_name = "IDS.json", group = "data", conflicts_with_all = ["exit", "sweep", "tags", "max_new", "plot", "ctx"])]
    tokens_file: Option<PathBuf>,
    /// Tokens of a window of the text [default: 512, or the model's context if that is less]
    #[arg(long, value_name = "N", conflicts_with = "file", value_parser = clap::value_parser!(u32).range(2..))]
    window: Option<u32>,
    /// Also count the positions of the text at which the likeliest token is the reference path's
    #[arg(long, conflicts_with = "file")]
    agreement: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    ram: RamArgs,
    /// Largest depths D, in loops [default: the trained depth; with --sweep all up to it]
    #[arg(long, value_name = "D,…", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..))]
    loops: Vec<u8>,
    /// Exit policies, as `ouro run` has them [default: fixed, and what the file asks for]
    #[arg(long, value_name = "POLICY,…", value_delimiter = ',')]
    exit: Vec<Exit>,
    /// Try a range of thresholds of every policy as well
    #[arg(long)]
    sweep: bool,
    /// The only tags that lines may have: a line with another is an error [default: any]
    #[arg(long, value_name = "TAG,…", value_delimiter = ',')]
    tags: Vec<String>,
    /// The most tokens of an answer [default: 8 more than the longest right one has]
    #[arg(long, value_name = "N")]
    max_new: Option<usize>,
    /// Write the rows to a file as JSON; - is the standard output, and leaves out the table
    #[arg(long, value_name = "OUT")]
    json: Option<PathBuf>,
    /// Draw accuracy against mean depth; implies --sweep unless --exit is given
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    kv: KvArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// How questions are asked.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Setting {
    /// D.
    loops: u8,
    exit: Exit,
}

/// Runs the command.
///
/// # Errors
/// [`Error`].
pub fn run(args: &Args) -> Result<(), Error> {
    interrupt::watch();
    for out in args.json.iter().chain(&args.plot).filter(|out| *out != Path::new("-")) {
        check_out(out)?;
    }
    let mut sessions = Sessions::new(args)?;
    let mut memories = Memories::default();
    let path = &args.model.model;
    let opened = Opened::open(path, sessions.store(), &mut memories)?;
    let loops = args.loops.iter().max().map_or(1, |loops| (*loops).into());
    note_untrained(
        loops,
        args.kv.ctx.or(args.window.map(|window| window as usize)).unwrap_or(0),
        opened.model.config(),
    );
    let Some(file) = &args.file else {
        let rows = perplexity::run(args, &opened, &mut sessions)?;
        return match write_json(args, &rows)? {
            Shown::Json => Ok(()),
            Shown::Nothing => print(&perplexity::Table(&rows).to_string()),
        };
    };
    let settings = settings(args, &opened.model)?;
    let tokenizer = opened.tokenizer(path)?;
    let template = ChatTemplate::of_file(sessions.store(), &opened.gguf, tokenizer)?;
    let context = args.kv.ctx.unwrap_or(opened.model.config().context);
    let questions = questions::read(file, tokenizer, &template, context, &args.tags)?;
    let longest = questions.iter().map(|question| question.answer_tokens).max().unwrap_or(0);
    let max_new = args.max_new.unwrap_or(longest + SPARE_TOKENS);
    let examiner = Examiner { model: &opened.model, tokenizer, kv: &args.kv, max_new, questions: &questions };
    let deepest = settings.iter().copied().max_by_key(|setting| setting.loops);
    if let Some(deepest) = deepest {
        sessions.divide(&opened, &examiner.settings(deepest, &questions), 1)?;
    }
    let runs = settings.len() * questions.len();
    let bar = progress::bar(runs as u64, "{bar:30} {pos} of {len} questions, {eta} left  {msg}");
    let rows = settings.iter().map(|setting| {
        bar.set_message(format!("D={} {}", setting.loops, setting.exit));
        Ok(table::rows(*setting, &questions, &examiner.ask(*setting, &mut sessions, &bar)?))
    });
    let rows = rows.collect::<Result<Vec<Vec<Row>>, Error>>();
    bar.finish_and_clear();
    report(args, &rows?)
}

fn report(args: &Args, rows: &[Vec<Row>]) -> Result<(), Error> {
    let all: Vec<&Row> = rows.iter().flatten().collect();
    if let Some(out) = &args.plot {
        let drawing = plot::draw(&all)?;
        std::fs::write(out, drawing).map_err(|error| Error::writing(out, error))?;
    }
    match write_json(args, &all)? {
        Shown::Json => Ok(()),
        Shown::Nothing => print(&Table(rows).to_string()),
    }
}

/// What is on the standard output already.
enum Shown {
    Json,
    Nothing,
}

fn write_json(args: &Args, rows: &impl Serialize) -> Result<Shown, Error> {
    match args.json.as_deref() {
        Some(out) if out == Path::new("-") => print_json(rows).map(|()| Shown::Json),
        Some(out) => {
            let text = serde_json::to_string_pretty(rows).map_err(anyhow::Error::new)?;
            std::fs::write(out, text + "\n").map_err(|error| Error::writing(out, error))?;
            Ok(Shown::Nothing)
        }
        None => Ok(Shown::Nothing),
    }
}

fn settings(args: &Args, model: &Model<'_>) -> Result<Vec<Setting>, Error> {
    let sweep = args.sweep || (args.plot.is_some() && args.exit.is_empty());
    let trained = u8::try_from(model.config().loops).unwrap_or(u8::MAX);
    let mut loops = args.loops.clone();
    if loops.is_empty() {
        loops.extend(if sweep { 1..=trained } else { trained..=trained });
    }
    loops.sort_unstable();
    loops.dedup();
    let mut exits = args.exit.clone();
    if exits.is_empty() {
        exits.extend([Exit::Fixed, Exit::default_of(model)]);
    }
    if sweep {
        exits.extend(sweep_of(model));
    }
    if exits.iter().any(|exit| exit.policy().needs().gate) && model.gate().is_none() {
        return Err(session_error(SessionError::NoGate));
    }
    let largest = loops.last().copied().unwrap_or(trained);
    let mut settings = Vec::new();
    for exit in exits {
        let loops = loops.iter().filter(|loops| exit == Exit::Fixed || **loops == largest);
        for setting in loops.map(|&loops| Setting { loops, exit }) {
            if !settings.contains(&setting) {
                settings.push(setting);
            }
        }
    }
    Ok(settings)
}

/// Thresholds from bold to careful.
fn sweep_of(model: &Model<'_>) -> Vec<Exit> {
    let mut exits = Vec::new();
    if model.gate().is_some() {
        exits.extend([0.2, 0.4, 0.6, 0.8, 0.9].map(Exit::Q));
    }
    exits.extend([0.5, 0.7, 0.9, 0.97, 0.99].map(Exit::Confidence));
    exits.extend([0.2, 0.5, 0.8, 0.95, 0.99].map(Exit::Margin));
    exits.extend([0.2, 0.3, 0.4, 0.5, 0.7].map(Exit::Step));
    exits
}
