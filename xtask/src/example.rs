//! `cargo xtask example`: a program of `targets/examples`, in the emulator.

use crate::board::MISSING;
use crate::boards::find;
use crate::build::{Built, Run, cross, emulate, finish, missing_emulator, target_folder};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::ExitCode;

/// The programs.
pub const EXAMPLES: [&str; 3] = ["embassy", "bare_loop", "watchdog"];
/// What they run on.
const BOARD: &str = "mps2-an386";
/// An instruction takes 2^5 ns, as on a core of 31 MHz, and waiting takes no time of the host: so
/// a run is the same on every machine.
const ICOUNT: &str = "shift=5,sleep=off";

/// Build firmware with a model beside a control loop, run it in QEMU and print its log
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The program; without one, all are listed
    name: Option<String>,
}

/// Builds a program to `folder`, which it shares with boards.
///
/// # Errors
/// If there is no such program, or it does not build.
pub fn build(name: &str, folder: &Path) -> Result<Built> {
    if !EXAMPLES.contains(&name) {
        bail!("there is no example {name}; there are {}", EXAMPLES.join(", "));
    }
    let board = find(BOARD).context(BOARD)?;
    if let Some(missing) = missing_emulator(board) {
        return Ok(Built::Missing(missing));
    }
    let mut cargo = cross("examples", board.target, folder);
    cargo.args(["--bin", name]);
    if let Some(missing) = finish(cargo).with_context(|| format!("targets/examples, {name}"))? {
        return Ok(Built::Missing(missing));
    }
    Ok(Built::Image(folder.join(board.target).join("release").join(name)))
}

/// Runs it.
///
/// # Errors
/// If the log can't be read.
pub fn run(image: &Path) -> Result<Run> {
    let emulator = find(BOARD).and_then(|board| board.emulator).context(BOARD)?;
    emulate(emulator, ICOUNT, "enable=on,target=native", image)
}

/// Runs the command.
///
/// # Errors
/// As [`build`] and [`run`].
pub fn main(args: &Args) -> Result<ExitCode> {
    let Some(name) = &args.name else {
        println!("{}", EXAMPLES.join("\n"));
        return Ok(ExitCode::SUCCESS);
    };
    let image = match build(name, &target_folder())? {
        Built::Image(image) => image,
        Built::Missing(missing) => {
            eprintln!("{missing}");
            return Ok(ExitCode::from(MISSING));
        }
    };
    let run = run(&image)?;
    run.log.iter().for_each(|line| println!("{line}"));
    eprint!("{}", run.text);
    let status = run.status.and_then(|status| u8::try_from(status).ok()).unwrap_or(1);
    Ok(ExitCode::from(status))
}
