//! `ouro manual`: man pages and shell completions, from the definition of the command line itself.

use crate::cli::definition;
use crate::error::Error;
use clap_complete::Shell;
use clap_mangen::Man;
use std::fs;
use std::io;
use std::iter;
use std::path::{Path, PathBuf};

/// Write the man pages and the completions of bash, zsh and fish.
///
/// They go to the places below a folder where programs look for them: share/man/man1,
/// share/bash-completion/completions, share/zsh/site-functions and share/fish/vendor_completions.d.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ouro manual ~/.local
  ouro manual /usr/local")]
pub struct Args {
    /// The folder; it is made if it is not there
    folder: PathBuf,
}

/// Where each shell looks.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "share/bash-completion/completions/ouro"),
    (Shell::Zsh, "share/zsh/site-functions/_ouro"),
    (Shell::Fish, "share/fish/vendor_completions.d/ouro.fish"),
];

/// What the pages' footers say that they are about: commands have no versions of their own.
const SOURCE: &str = concat!("ouro ", env!("CARGO_PKG_VERSION"));

/// Runs the command.
///
/// # Errors
/// If the files can't be written.
pub fn run(args: &Args) -> Result<(), Error> {
    write(&args.folder).map_err(|error| Error::writing(&args.folder, error))
}

fn write(folder: &Path) -> io::Result<()> {
    let pages = folder.join("share/man/man1");
    fs::create_dir_all(&pages)?;
    let mut ouro = definition().disable_help_subcommand(true);
    ouro.build();
    for command in iter::once(&ouro).chain(ouro.get_subcommands()) {
        Man::new(command.clone()).source(SOURCE).generate_to(&pages)?;
    }
    for (shell, file) in COMPLETIONS {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut definition(), "ouro", &mut text);
        let file = folder.join(file);
        file.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(file, text)?;
    }
    Ok(())
}
