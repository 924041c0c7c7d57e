//! `ouro bench`: how fast a model runs here, beside what the machine could do.

mod machine;
mod measure;
mod read;
mod table;

use crate::args::ModelArgs;
use crate::commands::output::{print, print_json};
use crate::compute::{AUTO, Compute, ComputeArgs, names};
use crate::error::Error;
use crate::interrupt;
use crate::open::{Memories, Memory, Opened, session};
use crate::progress;
use crate::ram::{RamArgs, peak_resident};
use crate::report::counted;
use measure::{Bench, Kind, Sample, Test};
use ouro_runtime::kv::KvSettings;
use ouro_runtime::model::Model;
use ouro_runtime::session::Settings;
use ouro_runtime::store::Store;
use serde::Serialize;
use std::path::Path;
use std::thread::available_parallelism;
use table::{Row, Table};

/// Measure the speed of a model, beside what the machine could do.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ouro bench
  ouro bench -m model.gguf --threads 1,2 --prompt 128,512 --loops 1,2,4
  ouro random big.gguf --like ouro-1.4b --type q4_0 && ouro bench -m big.gguf
  ouro bench -m big.gguf --ram 400M --prompt 4 --batch 1 --generate 8
  ouro bench -m big.gguf --generate 16 --after 4096

Tests: `prompt N` is the prefill of N tokens, `batch N` the same for so few that weights are read
rather than computed with (speculation lives by it), `generate N` N tokens one after another, each at
full depth, after as many positions as --after says. Every repetition also times, with the same
threads, a plain read of the file's bytes and integer products without memory: `of read` and `of peak`
say how near a test came. A model that fits in the caches can be faster than a plain read. Where
weights are read from a file, bytes are those fetched, and the plain read is that of the file, past
the weights that are pinned. Figures are medians over the repetitions, spread is half their range.
Tokens are random: speed does not depend on them.")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Numbers of threads [default: as many as there are cores]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Vec<u16>,
    /// Lengths of prompts
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "128", value_parser = positive)]
    prompt: Vec<usize>,
    /// Tokens to generate
    #[arg(long, value_name = "N", default_value = "64", value_parser = positive)]
    generate: usize,
    /// Positions in the cache before they are generated: what a long conversation costs
    #[arg(long, value_name = "N", default_value = "1", value_parser = positive)]
    after: usize,
    /// Depths, in loops [default: the trained depth]
    #[arg(long, value_name = "D,…", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..))]
    loops: Vec<u8>,
    /// Positions that share a pass
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4,8", value_parser = positive)]
    batch: Vec<usize>,
    /// How often each test runs
    #[arg(long, value_name = "N", default_value = "5", value_parser = positive)]
    repeat: usize,
    /// How matrices are multiplied, as `ouro run` has it
    #[arg(long, value_name = "NAME", default_value = AUTO, value_parser = names())]
    backend: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ram: RamArgs,
}

/// A number from 1 up to what a cache could hold.
fn positive(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=1 << 20).contains(number));
    number.ok_or_else(|| format!("{text} found, expected a number from 1 to {}", 1 << 20))
}

/// Everything that is reported.
#[derive(Debug, Serialize)]
struct Report<'a> {
    model: &'a Path,
    /// Of the file.
    bytes: u64,
    architecture: &'static str,
    trained_loops: usize,
    backend: &'static str,
    /// Where weights were.
    medium: &'static str,
    pinned_bytes: u64,
    repetitions: usize,
    /// Positions before the tokens that are generated.
    after: usize,
    rows: Vec<Row>,
    /// The most memory that this process ever had, weights included; unknown outside Linux.
    peak_memory: Option<u64>,
    /// Of the largest session: cache, activations, logits.
    session_bytes: usize,
}

/// Runs the command.
///
/// # Errors
/// [`Error`].
pub fn run(args: &Args) -> Result<(), Error> {
    interrupt::watch();
    let threads = threads(args);
    let computes = threads.iter().map(|&threads| compute(args, threads)).collect::<Result<Vec<_>, _>>()?;
    let mut store = args.model.open_within(args.ram.ram)?;
    let mut memories = Memories::default();
    let opened = Opened::open(&args.model.model, &mut store, &mut memories)?;
    let config = opened.model.config();
    let trained = u8::try_from(config.loops).unwrap_or(u8::MAX);
    let loops = if args.loops.is_empty() { vec![trained] } else { args.loops.clone() };
    let tests = tests(args);
    let deepest = loops.iter().max().map_or(1, |loops| usize::from(*loops));
    args.ram.divide(
        &args.model,
        &mut store,
        &opened,
        (&settings(&opened.model, (&tests, args.after), deepest), 1),
    )?;
    let samples = computes.len() * loops.len() * tests.len() * args.repeat;
    let bar = progress::bar(samples as u64, "{bar:30} {pos} of {len}, {eta} left  {msg}");
    let (mut rows, mut session_bytes) = (Vec::new(), 0);
    for &compute in &computes {
        for &loops in &loops {
            let settings = settings(&opened.model, (&tests, args.after), loops.into());
            let mut memory = Memory::default();
            let (mut session, bytes) = session(&opened.model, settings, &mut memory)?;
            compute.lend(&mut session);
            session_bytes = session_bytes.max(bytes);
            let mut bench = Bench { session: &mut session, store: &mut store, compute, after: args.after };
            for &test in &tests {
                let threads = counted(compute.workers.count(), "thread");
                bar.set_message(format!("{threads}, {}, {test}", counted(loops, "loop")));
                bench.warm(test)?;
                let samples = (0..args.repeat).map(|_| {
                    bar.inc(1);
                    bench.sample(test)
                });
                let samples = samples.collect::<Result<Vec<Sample>, Error>>()?;
                rows.push(Row::new(test, compute.workers.count(), loops.into(), &samples));
            }
        }
    }
    bar.finish_and_clear();
    let report = Report {
        model: &args.model.model,
        bytes: store.len(),
        architecture: config.architecture.name(),
        trained_loops: config.loops,
        backend: computes.first().map_or("", |compute| compute.backend.name()),
        medium: store.medium(),
        pinned_bytes: store.pinned_bytes(),
        repetitions: args.repeat,
        after: args.after,
        rows,
        peak_memory: peak_resident().map(|bytes| bytes as u64),
        session_bytes,
    };
    if args.json { print_json(&report) } else { print(&Table(&report).to_string()) }
}

fn threads(args: &Args) -> Vec<u16> {
    if !args.threads.is_empty() {
        return args.threads.clone();
    }
    vec![available_parallelism().map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(u16::MAX))]
}

fn compute(args: &Args, threads: u16) -> Result<Compute, Error> {
    ComputeArgs { backend: args.backend.clone(), threads: Some(threads) }.start()
}

fn tests(args: &Args) -> Vec<Test> {
    let prompts = args.prompt.iter().map(|&tokens| Test { kind: Kind::Prompt, tokens });
    let batches = args.batch.iter().map(|&tokens| Test { kind: Kind::Batch, tokens });
    let generate = Test { kind: Kind::Generate, tokens: args.generate };
    batches.chain(prompts).chain([generate]).collect()
}

/// Positions that fill the cache together before tokens are generated after many.
const FILL: usize = 128;

/// Room for the longest test, with the cache that a run has by default.
fn settings(model: &Model<'_>, (tests, after): (&[Test], usize), max_loops: usize) -> Settings {
    let of = |kinds: &[Kind]| {
        tests.iter().filter(|test| kinds.contains(&test.kind)).map(|test| test.tokens).max().unwrap_or(0)
    };
    let rows = of(&[Kind::Prompt, Kind::Batch]).max(after.min(FILL)).max(1);
    let context = rows.max(of(&[Kind::Generate]) + after);
    let usual = Settings::new(model, context, rows);
    let kv = KvSettings { window: model.config().kv_window(max_loops), ..usual.kv };
    Settings { max_loops, kv, ..usual }
}
