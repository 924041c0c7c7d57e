//! `cargo xtask COMMAND`.

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use xtask::{board, dist, example};

/// Chores of this repository
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Board(board::Args),
    Dist(dist::Args),
    Example(example::Args),
}

fn main() -> ExitCode {
    let done: Result<ExitCode> = match &Cli::parse().command {
        Command::Board(args) => board::main(args),
        Command::Dist(args) => dist::main(args),
        Command::Example(args) => example::main(args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
