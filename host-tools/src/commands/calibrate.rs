//! `ouro calibrate`: how early a model may stop, measured, and written into its file.

mod data;
mod decode;
mod fit;
mod gate;
mod record;

use crate::args::{Element, KvArgs, Sharing};
use crate::commands::output::{json_f32, print, print_json};
use crate::commands::run::end_tokens;
use crate::compute::ComputeArgs;
use crate::error::Error;
use crate::gguf_writer::{Metadata, Value};
use crate::open::{Memories, Opened};
use crate::progress;
use crate::quantize::{check_out, copy_with};
use crate::report::counted;
use crate::store::{HostStore, StoreKind, is_built_in};
use crate::template::ChatTemplate;
use clap::ValueEnum;
use data::Text;
use decode::Decoder;
use fit::{Fit, Outcome, Target, fit};
use gate::NewGate;
use ouro_runtime::depth::ExitPolicy;
use ouro_runtime::kv::KvSharing;
use ouro_runtime::model::{ExitDefault, ExitKind, Model};
use record::{Loop, Record, Recorder};
use serde_json::json;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Fit the thresholds of exit policies to a target, and write the best into the model's file.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Data is any text, or JSON Lines (.jsonl) with `text`, or with `prompt` and `answer`: then only the
answer's tokens count. First the model reads the data at full depth, and each policy's threshold is
fitted to what every loop would have answered. Then it decodes as `ouro run` does, token by token, with
exits, the K/V they leave behind and the cache that --kv asks for, and a threshold that misses the
target there is moved until it reaches it. After a prompt the tokens are those that the model answers
at full depth; of a text the second half of every 512. The agreement and the depth that are shown, and
written as `ouro.exit.agreement` and `ouro.exit.mean_depth` (which `ouro plan` reckons with), are those of
decoding. That takes longest: 4 policies, each up to 9 times; use fewer --positions for a large model.

Afterwards `ouro run`, `chat` and `eval` stop as the file says unless --exit is given.

Examples:
  ouro calibrate -m model.gguf --data tests/data/pico-calib.jsonl
  ouro calibrate -m model.gguf --data book.txt --target depth=2.5 --policy confidence
  ouro calibrate -m published.gguf --data book.txt --refit-gate --out with-gate.gguf")]
pub struct Args {
    /// The model: a GGUF file with more than one loop
    #[arg(short, long, value_name = "FILE")]
    model: PathBuf,
    /// Text that is like what the model will see
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The file to write [default: the model's own, replaced once the new one is whole]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// agreement=X: this share of tokens as at full depth, in as few loops as possible; depth=X:
    /// this mean depth, with as many tokens as at full depth as possible
    #[arg(long, value_name = "TARGET", default_value = "agreement=0.99")]
    target: Target,
    /// The policy to write; auto is the best of all
    #[arg(long, value_enum, default_value_t)]
    policy: Choice,
    /// Fit the exit gate's weight and bias first, or make a gate where there is none
    #[arg(long)]
    refit_gate: bool,
    /// How a run shares K and V unless told otherwise; `ouro eval --kv` measures what that does
    #[arg(long, value_enum)]
    kv: Option<Sharing>,
    /// About how many positions of the data are used; fewer are enough for a large model
    #[arg(long, value_name = "N", default_value_t = 16384)]
    positions: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Which policy is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Choice {
    #[default]
    Auto,
    Q,
    Confidence,
    Margin,
    Step,
}

impl Choice {
    fn allows(self, kind: ExitKind) -> bool {
        match self {
            Self::Auto => true,
            Self::Q => kind == ExitKind::Q,
            Self::Confidence => kind == ExitKind::Confidence,
            Self::Margin => kind == ExitKind::Margin,
            Self::Step => kind == ExitKind::Step,
        }
    }
}

/// The policies that can be fitted, the cheapest first: of equals, the first is taken.
const POLICIES: [ExitKind; 4] = [ExitKind::Q, ExitKind::Step, ExitKind::Margin, ExitKind::Confidence];

/// Runs the command.
///
/// # Errors
/// [`Error`]; the file is as it was then.
pub fn run(args: &Args) -> Result<(), Error> {
    if is_built_in(&args.model) {
        let text = "the built-in model can't be changed; give the GGUF file it was made from";
        return Err(Error::Usage(text.to_owned()));
    }
    check_out(args.out.as_ref().unwrap_or(&args.model))?;
    let (backend, pool) = args.compute.sessions()?;
    let mut store = HostStore::open(&args.model, StoreKind::Memory, 0)?;
    let mut memories = Memories::default();
    let opened = Opened::open(&args.model, &mut store, &mut memories)?;
    let model = &opened.model;
    check(args, model)?;
    let tokenizer = opened.tokenizer(&args.model)?;
    let template = ChatTemplate::of_file(&mut store, &opened.gguf, tokenizer)?;
    let texts = data::read(&args.data, tokenizer, &template, model.config().context)?;
    let texts = data::thin_out(texts, args.positions);
    let recorder =
        Recorder { path: &args.model, model, store: &store, backend, keep_hidden: args.refit_gate };
    let mut record = pool.install(|| recorder.run(&texts))?;
    let new_gate = args.refit_gate.then(|| refit(&mut record, model));
    let max_loops = model.config().loops;
    note_sameness(&record.loops, max_loops);

    let decoder = Decoder {
        path: &args.model,
        model,
        store: &store,
        backend,
        kv: KvArgs { kv: args.kv, kv_window: None, kv_type: Element::default(), ctx: None },
        end_tokens: end_tokens(Some(tokenizer)),
    };
    let (fits, decoded) = pool.install(|| fits(args, &decoder, &texts, &record.loops, new_gate.as_ref()))?;
    let chosen = choose(args, &fits, max_loops);
    let out = args.out.as_ref().unwrap_or(&args.model);
    copy_with(&args.model, out, |metadata| describe(metadata, args, &chosen, new_gate.as_ref(), &fits))?;

    let positions = record.loops.len() / max_loops;
    if args.json {
        let fits: Vec<_> = fits.iter().map(|fit| fit_json(fit, max_loops)).collect();
        return print_json(&json!({
            "model": args.model, "out": out, "positions": positions, "decoded": decoded,
            "target": args.target.to_string(),
            "refit_gate": args.refit_gate, "policies": fits, "chosen": fit_json(&chosen, max_loops),
        }));
    }
    let (read, decoded, loops) =
        (counted(positions, "position"), counted(decoded, "token"), counted(max_loops, "loop"));
    let head = format!("{read}, {decoded} decoded, {loops}, target {}\n\n", args.target);
    print(&(head + &table(&fits, &chosen, max_loops, out)))
}

fn check(args: &Args, model: &Model<'_>) -> Result<(), Error> {
    if model.config().loops < 2 {
        let path = args.model.display();
        return Err(Error::Usage(format!("{path} runs a single loop: there is nothing to stop early")));
    }
    if args.policy == Choice::Q && model.gate().is_none() && !args.refit_gate {
        let path = args.model.display();
        return Err(Error::Usage(format!(
            "{path} has no exit gate; --refit-gate makes one, and `ouro quantize --gate-from` takes a checkpoint's"
        )));
    }
    Ok(())
}

fn refit(record: &mut Record, model: &Model<'_>) -> NewGate {
    let (max_loops, width) = (model.config().loops, model.config().hidden);
    let examples = gate::Examples::new(&record.loops, &record.hidden, max_loops, width);
    let (weight, bias) = gate::fit(&examples, width);
    let gate = NewGate { weight, bias };
    record.regate(max_loops, &gate);
    gate
}

/// Every policy that the model allows, fitted; and how many tokens of a run were compared.
fn fits(
    args: &Args,
    decoder: &Decoder<'_, '_>,
    texts: &[Text],
    loops: &[Loop],
    new_gate: Option<&NewGate>,
) -> Result<(Vec<Fit>, usize), Error> {
    let has_gate = decoder.model.gate().is_some() || new_gate.is_some();
    let full = decoder.full_depth(texts)?;
    let bar = progress::spinner();
    let mut fits = Vec::new();
    for kind in POLICIES.into_iter().filter(|kind| *kind != ExitKind::Q || has_gate) {
        let run = |threshold| {
            bar.set_message(format!("decoding with {}={threshold}", kind.name()));
            bar.tick();
            decoder.outcome(texts, &full, &|| -> Box<dyn ExitPolicy + '_> {
                match new_gate {
                    Some(gate) if kind == ExitKind::Q => Box::new(gate.policy(threshold)),
                    _ => Box::new(ExitDefault { kind, threshold }),
                }
            })
        };
        fits.extend(fit(kind, loops, decoder.model.config().loops, args.target, run)?);
    }
    bar.finish_and_clear();
    Ok((fits, full.tokens()))
}

/// Fewer positions than this whose token changes after the first loop say little about when it does.
const FEW: usize = 20;

/// Tells the user of data on which any threshold looks right.
fn note_sameness(loops: &[Loop], max_loops: usize) {
    let changes = |seen: &&[Loop]| seen.first().map(|seen| seen.token) != seen.last().map(|seen| seen.token);
    let (changing, all) = (loops.chunks(max_loops).filter(changes).count(), loops.len() / max_loops);
    if changing < FEW {
        eprintln!(
            "note: at only {changing} of {all} positions the token changes after the first loop, too few to \
             tell when a token may stop; use more of what the model will see"
        );
    }
}

/// The policy to write: the best that reaches the target, else none.
fn choose(args: &Args, fits: &[Fit], max_loops: usize) -> Fit {
    let allowed = fits.iter().copied().filter(|fit| args.policy.allows(fit.policy));
    let full = Outcome { agreement: 1.0, mean_depth: max_loops as f64 };
    let fixed = Fit { policy: ExitKind::Fixed, threshold: 1.0, reading: full, run: full, reached: false };
    args.target
        .best(allowed, |fit| fit.run)
        .filter(|fit| fit.reached || args.policy != Choice::Auto)
        .unwrap_or(fixed)
}

fn describe(metadata: &mut Metadata, args: &Args, chosen: &Fit, new_gate: Option<&NewGate>, fits: &[Fit]) {
    if let Some(NewGate { weight, bias }) = new_gate {
        metadata.set("ouro.exit_gate.weight", Value::f32s(weight));
        metadata.set("ouro.exit_gate.bias", *bias);
        let q = fits.iter().find(|fit| fit.policy == ExitKind::Q && fit.reached);
        metadata.set("ouro.exit_gate.threshold", q.map_or(1.0, |fit| fit.threshold));
    }
    metadata.set("ouro.exit.policy", chosen.policy.name());
    metadata.set("ouro.exit.threshold", chosen.threshold);
    metadata.set("ouro.exit.target", args.target.to_string().as_str());
    metadata.set("ouro.exit.agreement", chosen.run.agreement as f32);
    metadata.set("ouro.exit.mean_depth", chosen.run.mean_depth as f32);
    if let Some(sharing) = args.kv {
        metadata.set("ouro.kv.sharing", KvSharing::from(sharing).name());
    }
}

fn fit_json(fit: &Fit, max_loops: usize) -> serde_json::Value {
    json!({
        "policy": fit.policy.name(), "threshold": json_f32(fit.threshold), "agreement": fit.run.agreement,
        "mean_depth": fit.run.mean_depth, "loops_saved": saved(fit, max_loops), "reached": fit.reached,
        "reading": fit.reading,
    })
}

/// Percent of the loops.
fn saved(fit: &Fit, max_loops: usize) -> f64 {
    100.0 * (1.0 - fit.run.mean_depth / max_loops as f64)
}

fn table(fits: &[Fit], chosen: &Fit, max_loops: usize, out: &Path) -> String {
    let mut text = "policy       threshold  agreement %  mean depth  saved %\n".to_owned();
    // Writing to a string never fails.
    for fit in fits {
        let (name, agreement) = (fit.policy.name(), 100.0 * fit.run.agreement);
        let note = if fit.reached { "" } else { "  target not reached" };
        let saved = saved(fit, max_loops);
        let (threshold, mean_depth) = (fit.threshold, fit.run.mean_depth);
        let _ = writeln!(
            text,
            "{name:11}  {threshold:>9.5}  {agreement:>11.2}  {mean_depth:>10.2}  {saved:>7.0}{note}"
        );
    }
    let (name, out) = (chosen.policy.name(), out.display());
    let _ = match chosen.policy {
        ExitKind::Fixed => writeln!(text, "\nno policy reaches the target: wrote fixed to {out}"),
        _ => writeln!(text, "\nwrote {name}={} to {out}", chosen.threshold),
    };
    text
}
