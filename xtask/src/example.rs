//! `cargo xtask example`: a program of `targets/examples`, in the emulator.

use crate::board::MISSING;
use crate::boards::find;
use crate::build::{Built, Run, cross, emulate, finish, missing_emulator, target_folder};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::ExitCode;

/// The programs, and what each shows.
const EXAMPLES: [(&str, &str); 3] = [
    ("bare_loop", "the loop is SysTick's interrupt, the model has the rest of the time"),
    ("embassy", "the loop is a task of an interrupt executor, the model one of thread mode"),
    ("watchdog", "flash that errors, hangs and crashes its driver in the middle of a token"),
];
/// What they run on.
const BOARD: &str = "mps2-an386";
/// An instruction takes 2^5 ns, as on a core of 31 MHz, and waiting takes no time of the host: so
/// a run is the same on every machine.
const ICOUNT: &str = "shift=5,sleep=off";

/// Build firmware with a model beside a control loop, run it in QEMU and print its log
///
/// The answers are those of `ouro run`. Time is counted in instructions, so that a run is the same on
/// every machine; where there is a control loop, the log ends with how late its ticks came.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask example                     # lists the programs of targets/examples
  cargo xtask example bare_loop
  cargo xtask example watchdog

Needs qemu-system-arm (apt-get install qemu-system-arm) and the target (rustup target add
thumbv7em-none-eabihf, or Debian's packages that host-tools/scripts/cross.sh names).

Exit codes: 0 done, 69 if a tool is missing, 124 if it hangs, 1 anything else; the log says what.")]
pub struct Args {
    /// The program; without one, all are listed
    name: Option<String>,
}

/// Builds a program to `folder`, which it shares with boards.
///
/// # Errors
/// If there is no such program, or it does not build.
pub fn build(name: &str, folder: &Path) -> Result<Built> {
    if !EXAMPLES.iter().any(|(known, _)| *known == name) {
        bail!("there is no example {name}; there are {}", EXAMPLES.map(|(name, _)| name).join(", "));
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
        for (name, about) in EXAMPLES {
            println!("{name:16} {about}");
        }
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
