//! `ouro run`: a prompt, an answer, and further turns.

use crate::args::{DepthArgs, KvArgs, ModelArgs, PromptArgs, SamplingArgs, note_untrained};
use crate::budget::{BudgetArgs, BudgetReport};
use crate::commands::output::{print_json, stream};
use crate::compute::ComputeArgs;
use crate::error::Error;
use crate::generate::{Answer, Generator, Stop, StopAt};
use crate::kv_file::StateArgs;
use crate::open::{Memories, Memory, Opened, session};
use crate::ram::RamArgs;
use crate::report::Report;
use crate::template::ChatTemplate;
use crate::text::{Conversation, Prompt};
use crate::turns::Turns;
use clap::ArgGroup;
use clap::builder::NonEmptyStringValueParser;
use ouro_runtime::store::Store;
use ouro_runtime::text::Tokenizer;
use std::io;
use std::iter;

/// Answer a prompt.
#[derive(Clone, Debug, clap::Args)]
#[command(group(ArgGroup::new("input").args(["prompt", "tokens", "save_kv"]).required(true).multiple(true)))]
#[command(after_help = "\
Examples:
  ouro run \"if tank7 is above 15, stop belt7 and bring fan4 to 20\"
  ouro run -m model.gguf \"What is the capital of France?\"
  ouro run -m model.gguf --exit q=0.5 --kv last \"Count to ten.\" --then \"And back.\"
  echo \"Once upon a time\" | ouro run -m model.gguf --raw --max-new 40 -
  ouro run -m model.gguf --exit q=0.5 --budget 2.5 --token-time 500ms \"What is a lever?\"
  ouro run -m model.gguf --system \"Answer in rhymes.\" --save-kv rhymes.kv
  ouro run -m model.gguf --load-kv rhymes.kv --save-kv talk.kv \"What is a lever?\"
  ouro run -m model.gguf --load-kv talk.kv \"And a pulley?\"
  ouro run -m model.gguf --ram 400M \"Name three rivers.\"
  ouro run -m model.gguf --store file --block-buffer 1M --tokens 1,42,7 --json")]
pub struct Args {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The prompt; - reads it from the standard input. Without one, --save-kv keeps what --system
    /// says, read once for many conversations
    #[arg(conflicts_with = "tokens")]
    prompt: Option<String>,
    /// Token ids instead of text, separated by commas
    #[arg(long, value_name = "IDS")]
    tokens: Option<String>,
    /// Give the prompt as it is, without the chat template
    #[arg(long)]
    raw: bool,
    /// What the system message says
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["raw", "tokens", "load_kv"])]
    system: Option<String>,
    /// Let the model think first, if its template knows how
    #[arg(long, conflicts_with_all = ["no_think", "raw", "tokens"])]
    think: bool,
    /// Have the model answer without thinking, if its template knows how
    #[arg(long, conflicts_with_all = ["raw", "tokens"])]
    no_think: bool,
    /// A later turn, after the answer; ids with --tokens; may be repeated
    #[arg(long, value_name = "TEXT|IDS")]
    then: Vec<String>,
    /// The most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_new: usize,
    /// End the answer where this text begins; may be repeated
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    stop: Vec<String>,
    /// Go on after tokens that end an answer
    #[arg(long)]
    ignore_eos: bool,
    /// Print one JSON object with ids, depths, reasons, counters and times
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ram: RamArgs,
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    depth: DepthArgs,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    kv: KvArgs,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Runs the command.
///
/// # Errors
/// [`Error`].
pub fn run(args: &Args) -> Result<(), Error> {
    let saved = args.state.open()?;
    let sampler = args.sampling.sampler(saved.as_ref().map_or(0, |saved| saved.note.sampler))?;
    let compute = args.compute.start()?;
    let mut store = args.model.open_within(args.ram.ram)?;
    let mut memories = Memories::default();
    let opened = Opened::open(&args.model.model, &mut store, &mut memories)?;
    let tokenizer = if args.tokens.is_some() {
        opened.tokenizer.as_ref().ok()
    } else {
        Some(opened.tokenizer(&args.model.model)?)
    };
    let template = match tokenizer {
        Some(tokenizer) if args.tokens.is_none() && !args.raw => {
            Some(ChatTemplate::of_file(&mut store, &opened.gguf, tokenizer)?)
        }
        _ => None,
    };
    if args.raw && matches!(opened.gguf.bool(&mut store, "tokenizer.ggml.add_bos_token"), Ok(Some(true))) {
        eprintln!("note: the file wants a token before every text (add_bos_token); --raw adds none");
    }
    let identity = args.state.identity(&mut store, &opened)?;
    let is_beginning = args.prompt.is_none() && args.tokens.is_none();
    let mut turns = turns(args, tokenizer, template.as_ref())?;
    if let Some(saved) = &saved {
        turns.resume(&saved.note, &saved.ids)?;
    }
    let first =
        if is_beginning { Some(Prompt::Continue(turns.beginning()?)) } else { turns.next_prompt()? };
    let Some(first) = first else { return Ok(()) };

    let config = opened.model.config();
    let wanted = turns.positions(args.max_new).saturating_add(args.max_new);
    let older = saved.as_ref().map_or(0, |saved| saved.ids.len());
    let needed = older.saturating_add(first.ids().len());
    let context = args.kv.ctx.unwrap_or(wanted.saturating_add(needed).min(config.context).max(needed));
    let longest = turns.rows().map_or(context, |later| later.max(first.ids().len()));
    let rows = args.prompts.rows(longest.clamp(1, context.max(1)));
    let settings = args.kv.settings(&args.depth, &opened.model, context, rows);
    note_untrained(settings.max_loops, settings.context, config);
    let division = args.ram.divide(&args.model, &mut store, &opened, (&settings, 1))?;
    let meter = args.budget.meter()?;
    let mut memory = Memory::default();
    let (mut session, session_bytes) = session(&opened.model, settings, &mut memory)?;
    compute.lend(&mut session);
    let power = args.budget.lend(&mut session, &store, meter.as_ref())?;
    let budget = BudgetReport::of(&session, &store, args.depth.exit(&opened.model).policy().needs());
    let mut history = Vec::new();
    if let (Some(saved), Some(identity)) = (saved, &identity) {
        history.clone_from(&saved.ids);
        saved.restore(&mut session, identity)?;
    }
    let mut generator = Generator {
        store: &mut store,
        session: &mut session,
        policy: &*args.depth.exit(&opened.model).policy(),
        sampler,
        tokenizer,
        history,
        power,
        show_prefill: true,
    };
    let answers = if is_beginning {
        vec![generator.answer(first.ids(), &StopAt::default(), &mut |_, _| Ok(()))?]
    } else {
        converse(args, &mut generator, first, &mut turns)?
    };
    if answers.last().is_some_and(Answer::is_without_prompt) {
        if args.state.save_kv.is_some() {
            eprintln!("note: the prompt was not read to its end, so nothing is saved");
        }
    } else {
        args.state.save(generator.session, identity, &turns.note(generator.sampler.state()))?;
    }
    let power = generator.power.take();
    let report = Report {
        answers,
        max_loops: settings.max_loops,
        budget: budget.map(|budget| budget.under(power.as_ref())),
        arena_bytes: opened.arena_bytes + session_bytes,
        counters: session.counters(),
        medium: store.medium(),
        pinned_bytes: store.pinned_bytes(),
        memory: division.parts,
        fetched: store.counters(),
    };
    if args.json {
        return print_json(&report.to_json());
    }
    eprint!("{report}");
    Ok(())
}

/// All turns, each with its answer.
fn converse(
    args: &Args,
    generator: &mut Generator<'_, '_, '_>,
    first: Prompt,
    turns: &mut Turns<'_, '_>,
) -> Result<Vec<Answer>, Error> {
    let stop_at = StopAt {
        tokens: if args.ignore_eos { Vec::new() } else { end_tokens(generator.tokenizer) },
        texts: args.stop.clone(),
        max_new: args.max_new,
    };
    let mut answers = Vec::new();
    let mut next = Some(first);
    while let Some(prompt) = next {
        if let Prompt::Restart(_) = prompt {
            eprintln!("note: the chat template rewrites earlier turns, so all is read again");
            generator.clear();
        }
        let mut show = |_, text: &str| if args.json { Ok(()) } else { stream(text) };
        let answer = generator.answer(prompt.ids(), &stop_at, &mut show)?;
        if !args.json {
            match generator.tokenizer {
                Some(_) => stream("\n")?,
                None => stream(&format!("{}\n", ids_text(&answer)))?,
            }
            if let Some(why) = answer.stop.why() {
                eprintln!("[{why}]");
            }
        }
        turns.answered(&answer, answer.stop == Stop::EndToken);
        let ends = answer.stop == Stop::Interrupted || answer.is_without_prompt();
        next = if ends { None } else { turns.next_prompt()? };
        answers.push(answer);
    }
    Ok(answers)
}

fn turns<'t, 'a>(
    args: &Args,
    tokenizer: Option<&'t Tokenizer<'a>>,
    template: Option<&'t ChatTemplate>,
) -> Result<Turns<'t, 'a>, Error> {
    if let Some(ids) = &args.tokens {
        return Turns::of_ids(iter::once(ids).chain(&args.then).map(String::as_str));
    }
    let prompt = match args.prompt.as_deref() {
        Some("-") => io::read_to_string(io::stdin()).map_err(|error| {
            Error::BadInput(format!("the standard input: {error}; expected text in UTF-8"))
        })?,
        prompt => prompt.unwrap_or_default().to_owned(),
    };
    let Some(tokenizer) = tokenizer else { return Turns::of_ids(iter::empty()) };
    let mut turns = match template {
        None => Turns::of_text(tokenizer),
        Some(template) => {
            let thinking = (args.think || args.no_think).then_some(args.think);
            template.note_thinking(thinking);
            Turns::of_chat(Conversation::new(tokenizer, template, thinking, args.system.as_deref()))
        }
    };
    for text in args.prompt.as_ref().map(|_| prompt).into_iter().chain(args.then.iter().cloned()) {
        turns.push(text);
    }
    Ok(turns)
}

/// The tokens that end an answer: the file's own, and those of ChatML.
#[must_use]
pub(crate) fn end_tokens(tokenizer: Option<&Tokenizer<'_>>) -> Vec<u32> {
    let Some(tokenizer) = tokenizer else { return Vec::new() };
    let known = ["<|im_end|>", "<|endoftext|>"].map(|text| tokenizer.special(text));
    tokenizer.eos().into_iter().chain(known.into_iter().flatten()).collect()
}

fn ids_text(answer: &Answer) -> String {
    let ids: Vec<String> = answer.tokens.iter().map(|token| token.id.to_string()).collect();
    ids.join(",")
}
