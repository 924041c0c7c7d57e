//! `ouro chat`: a conversation at the terminal.

use crate::args::{DepthArgs, KvArgs, ModelArgs, PromptArgs, SamplingArgs, note_untrained};
use crate::budget::BudgetArgs;
use crate::commands::output::stream;
use crate::commands::run::end_tokens;
use crate::compute::ComputeArgs;
use crate::error::Error;
use crate::generate::{Answer, Generator, Stop, StopAt, Token};
use crate::interrupt;
use crate::kv_file::StateArgs;
use crate::open::{Memories, Memory, Opened, session};
use crate::ram::RamArgs;
use crate::report::{counted, human_bytes};
use crate::store::is_built_in;
use crate::template::ChatTemplate;
use crate::text::{Conversation, Prompt};
use crate::turns::Turns;
use anyhow::anyhow;
use ouro_runtime::store::Store;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use std::io::{self, IsTerminal};

const HELP: &str = "\
/depth  shade each token by its depth, or stop doing so
/reset  forget the conversation
/stats  what was computed, fetched and kept so far
/quit   leave (Ctrl-D does, too)
Ctrl-C ends an answer early.";

/// The context unless asked otherwise: enough for a conversation, small enough for any machine.
const CONTEXT: usize = 2048;

/// Talk with a model.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ouro chat -m model.gguf
  ouro chat -m model.gguf --exit confidence=0.9 --depth --temperature 0.7

While talking:
  /depth, /reset, /stats, /help and /quit")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// What the system message says
    #[arg(long, value_name = "TEXT", conflicts_with = "load_kv")]
    system: Option<String>,
    /// Let the model think first, if its template knows how
    #[arg(long, conflicts_with = "no_think")]
    think: bool,
    /// Have the model answer without thinking, if its template knows how
    #[arg(long)]
    no_think: bool,
    /// The most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_new: usize,
    /// Shade each token by its depth: the brighter, the deeper
    #[arg(long = "depth")]
    shade: bool,
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
/// [`Error`]; what goes wrong with one answer is said, and the conversation goes on.
pub fn run(args: &Args) -> Result<(), Error> {
    let saved = args.state.open()?;
    let sampler = args.sampling.sampler(saved.as_ref().map_or(0, |saved| saved.note.sampler))?;
    let compute = args.compute.start()?;
    let mut store = args.model.open_within(args.ram.ram)?;
    let mut memories = Memories::default();
    let opened = Opened::open(&args.model.model, &mut store, &mut memories)?;
    let tokenizer = opened.tokenizer(&args.model.model)?;
    let template = ChatTemplate::of_file(&mut store, &opened.gguf, tokenizer)?;
    let thinking = (args.think || args.no_think).then_some(args.think);
    template.note_thinking(thinking);
    let conversation = || Conversation::new(tokenizer, &template, thinking, args.system.as_deref());

    let identity = args.state.identity(&mut store, &opened)?;
    let mut turns = Turns::of_chat(conversation());
    if let Some(saved) = &saved {
        turns.resume(&saved.note, &saved.ids)?;
    }
    let config = opened.model.config();
    let context = args.kv.ctx.unwrap_or(CONTEXT.min(config.context));
    let rows = args.prompts.rows(context);
    let settings = args.kv.settings(&args.depth, &opened.model, context, rows);
    note_untrained(settings.max_loops, settings.context, config);
    args.ram.divide(&args.model, &mut store, &opened, (&settings, 1))?;
    let meter = args.budget.meter()?;
    let mut memory = Memory::default();
    let (mut session, arena_bytes) = session(&opened.model, settings, &mut memory)?;
    compute.lend(&mut session);
    let power = args.budget.lend(&mut session, &store, meter.as_ref())?;
    let mut history = Vec::new();
    if let (Some(saved), Some(identity)) = (saved, &identity) {
        history.clone_from(&saved.ids);
        saved.restore(&mut session, identity)?;
    }
    let policy = args.depth.exit(&opened.model).policy();
    let stop_at = StopAt { tokens: end_tokens(Some(tokenizer)), texts: Vec::new(), max_new: args.max_new };
    let mut generator = Generator {
        store: &mut store,
        session: &mut session,
        policy: &*policy,
        sampler,
        tokenizer: Some(tokenizer),
        history,
        power,
        show_prefill: true,
    };

    eprintln!("{} of context; /help lists what else can be done", counted(context, "position"));
    if is_built_in(&args.model.model) {
        eprintln!("note: the built-in model was trained on single questions: /reset before each one");
    }
    let (mut shade, mut is_saved) = (args.shade, true);
    let mut editor = DefaultEditor::new().map_err(|error| Error::Other(error.into()))?;
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(Error::Other(error.into())),
        };
        let line = line.trim();
        let _ = editor.add_history_entry(line);
        match line {
            "" => continue,
            "/quit" | "/exit" => return Ok(()),
            "/help" => eprintln!("{HELP}"),
            "/depth" => {
                shade = !shade;
                eprintln!("depth is {}", if shade { "shown: the brighter, the deeper" } else { "not shown" });
            }
            "/reset" => {
                is_saved = true;
                generator.clear();
                turns = Turns::of_chat(conversation());
                eprintln!("forgotten");
            }
            "/stats" => stats(&generator, arena_bytes + opened.arena_bytes),
            command if command.starts_with('/') => eprintln!("{command} is no command; /help lists them"),
            text => {
                let color = (shade && io::stdout().is_terminal()).then_some(settings.max_loops);
                match turn(&mut generator, &mut turns, text, &stop_at, color) {
                    Ok(()) if !is_saved => {}
                    Ok(()) => {
                        let note = turns.note(generator.sampler.state());
                        if let Err(error) = args.state.save(generator.session, identity, &note) {
                            eprintln!("error: {error}");
                        }
                    }
                    Err(error @ Error::OutputClosed) => return Err(error),
                    Err(error) => {
                        eprintln!("error: {error}");
                        generator.clear();
                        turns = Turns::of_chat(conversation());
                        eprintln!("the conversation begins anew");
                        if let Some(path) =
                            args.state.save_kv.as_ref().filter(|path| is_saved && path.exists())
                        {
                            let file = path.display();
                            eprintln!("{file} keeps the one before: what follows is not saved until /reset");
                            is_saved = false;
                        }
                    }
                }
            }
        }
    }
}

/// One question and its answer.
fn turn(
    generator: &mut Generator<'_, '_, '_>,
    turns: &mut Turns<'_, '_>,
    text: &str,
    stop_at: &StopAt,
    color: Option<usize>,
) -> Result<(), Error> {
    turns.push(text.to_owned());
    let Some(prompt) = turns.next_prompt()? else { return Ok(()) };
    if let Prompt::Restart(_) = prompt {
        generator.clear();
    }
    interrupt::clear();
    let mut show = |token: Token, text: &str| match color {
        Some(most) => stream(&shaded(text, token.depth.loops, most)),
        None => stream(text),
    };
    let answer = generator.answer(prompt.ids(), stop_at, &mut show)?;
    stream("\n")?;
    if answer.is_without_prompt() {
        return Err(match answer.stop {
            Stop::OutOfTime => Error::Other(anyhow!("out of time before the question was read")),
            _ => Error::Interrupted,
        });
    }
    turns.answered(&answer, answer.stop == Stop::EndToken);
    eprintln!("{}", figures(&answer));
    Ok(())
}

fn figures(answer: &Answer) -> String {
    let seconds = (answer.prefill + answer.decode).as_secs_f64();
    let why = answer.stop.why().map_or(String::new(), |why| format!(", {why}"));
    let advice = if answer.stop == Stop::ContextFull { ": /reset" } else { "" };
    let tokens = counted(answer.tokens.len(), "token");
    format!("[{tokens}, mean depth {:.2}, {seconds:.1} s{why}{advice}]", answer.mean_depth())
}

fn stats(generator: &Generator<'_, '_, '_>, arena_bytes: usize) {
    let session = &generator.session;
    let counters = session.counters();
    let fetched = generator.store.counters();
    eprintln!("positions  {} of {}", session.position(), session.settings().context);
    eprintln!("passes     {} through the stack", counters.passes);
    eprintln!("loops      {} of prompts, {} of answers", counters.prompt_loops, counters.generated_loops);
    eprintln!("fetched    {} in {}", human_bytes(fetched.bytes), counted(fetched.tiles, "tile"));
    eprintln!("arena      {}", human_bytes(arena_bytes as u64));
}

/// `text` in a gray of the 256-color palette: dark for one loop, white for the last.
fn shaded(text: &str, loops: usize, most: usize) -> String {
    let (darkest, lightest) = (241, 255);
    let step = (loops - 1) * (lightest - darkest) / (most - 1).max(1);
    format!("\x1b[38;5;{}m{text}\x1b[0m", darkest + step)
}

#[cfg(test)]
mod tests {
    use super::shaded;

    #[test]
    fn shades_span_the_palette() {
        assert_eq!(shaded("a", 1, 4), "\x1b[38;5;241ma\x1b[0m");
        assert_eq!(shaded("a", 4, 4), "\x1b[38;5;255ma\x1b[0m");
        assert_eq!(shaded("a", 1, 1), "\x1b[38;5;241ma\x1b[0m");
    }
}
