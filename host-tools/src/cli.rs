//! The command line as a whole.

use crate::commands::{
    bench, calibrate, chat, eval, hash, inspect, layout, manual, plan, random, run, tokenize, trace,
};
use crate::error::Error;
use crate::quantize;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use std::env;
use std::process::ExitCode;

const EXIT_CODES: &str = "\
Exit codes: 0 done, 2 wrong usage, 3 bad input file, 4 does not fit, 1 anything else.
`ouro COMMAND --help` shows examples of each command.";

/// Runs, converts and looks inside looped language models.
#[derive(Debug, Parser)]
#[command(name = "ouro", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Args>),
    Chat(Box<chat::Args>),
    Eval(Box<eval::Args>),
    Calibrate(calibrate::Args),
    Quantize(quantize::Args),
    Layout(layout::Args),
    Inspect(inspect::Args),
    Trace(trace::Args),
    Random(random::Args),
    Plan(Box<plan::Args>),
    Bench(bench::Args),
    Hash(hash::Args),
    Tokenize(tokenize::Args),
    Manual(manual::Args),
}

/// What the command line may be.
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}

/// The command line of this process. Ends it with 2 on wrong usage, and with 0 after `--help`.
fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|mut error| {
        if error.kind() == ErrorKind::MissingRequiredArgument {
            let command = env::args_os().nth(1);
            let example = command.and_then(|command| example(command.to_str()?));
            let tips = example.map(|example| format!("for example, {example}").into());
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips.into_iter().collect()));
        }
        error.exit()
    })
}

/// The first example that the help of a command has.
fn example(command: &str) -> Option<String> {
    let help = definition().find_subcommand(command)?.get_after_help()?.to_string();
    let start = format!("ouro {command} ");
    help.lines().map(str::trim).find(|line| line.starts_with(&start)).map(str::to_owned)
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let done = match &parse().command {
        Command::Run(args) => run::run(args),
        Command::Chat(args) => chat::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Calibrate(args) => calibrate::run(args),
        Command::Quantize(args) => quantize::run(args),
        Command::Layout(args) => layout::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Trace(args) => trace::run(args),
        Command::Random(args) => random::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Hash(args) => hash::run(args),
        Command::Tokenize(args) => tokenize::run(args),
        Command::Manual(args) => manual::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ Error::OutputClosed) => ExitCode::from(error.exit_code()),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
