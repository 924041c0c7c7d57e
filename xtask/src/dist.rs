//! `cargo xtask dist`: the program, packed with its man pages and completions.

use crate::board::MISSING;
use crate::build::{Built, finish, repository, target_folder};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf, absolute};
use std::process::{Command, ExitCode};

/// Pack `ouro` with man pages, shell completions and licences
///
/// Writes ouro-VERSION-TARGET.tar.gz and a folder of that name, laid out as /usr/local is:
/// `tar -xzf FILE --strip-components 1 --no-overwrite-dir -C /usr/local` installs it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask dist
  cargo xtask dist --target aarch64-unknown-linux-gnu       # static: runs on any Linux with this CPU

Needs tar; for aarch64 Linux gcc-aarch64-linux-gnu and libc6-dev-arm64-cross (apt-get install) and the
target (rustup target add TARGET, or Debian's packages that host-tools/scripts/cross.sh names).

Exit codes: 0 done, 69 if a tool is missing, 1 anything else.")]
pub struct Args {
    /// Where to [default: dist, beside what cargo builds]
    folder: Option<PathBuf>,
    /// For another machine, linked statically [default: this one, linked as usual]
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
}

/// Files that go along.
const DOCUMENTS: [&str; 4] = ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"];

/// Runs the command.
///
/// # Errors
/// If something does not build, or can't be written.
pub fn main(args: &Args) -> Result<ExitCode> {
    let cross = target_folder();
    let built = cross.parent().context("cargo builds into a folder")?;
    let program = match &args.target {
        None => program(built)?,
        Some(target) => match static_program(target, &cross)? {
            Built::Image(program) => program,
            Built::Missing(missing) => {
                eprintln!("{missing}");
                return Ok(ExitCode::from(MISSING));
            }
        },
    };
    let target = args.target.clone().map_or_else(host, Ok)?;
    let name = format!("ouro-{}-{target}", env!("CARGO_PKG_VERSION"));
    // Cargo is called from the root of the repository.
    let folder = absolute(args.folder.clone().unwrap_or_else(|| built.join("dist")))?;
    let packed = folder.join(&name);
    if packed.exists() {
        fs::remove_dir_all(&packed)?;
    }
    copy(&program, &packed.join("bin"))?;
    for document in DOCUMENTS {
        copy(&repository().join(document), &packed.join("share/doc/ouro"))?;
    }
    // A program for another machine can't tell of itself here; this machine's says the same.
    let mut manual = Command::new(env!("CARGO"));
    manual.args(["run", "--quiet", "--locked", "--release", "--bin", "ouro", "--", "manual"]);
    done(manual.arg(&packed).current_dir(repository()))?;
    let archive = folder.join(format!("{name}.tar.gz"));
    // As root unpacks it: nobody's but root's, and for all to read.
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "--numeric-owner", "--mode=u=rwX,go=rX", "--sort=name"]);
    done(tar.arg("-C").arg(&folder).arg("-czf").arg(&archive).arg(&name))?;
    println!("{}", archive.display());
    Ok(ExitCode::SUCCESS)
}

/// As the README's `cargo run --release` builds it, so that nothing is built twice.
const BUILD: [&str; 5] = ["build", "--locked", "--release", "--bin", "ouro"];

/// Builds `ouro` for this machine.
fn program(built: &Path) -> Result<PathBuf> {
    done(Command::new(env!("CARGO")).args(BUILD).current_dir(repository()))?;
    Ok(built.join("release/ouro"))
}

/// Builds it for a target, with all libraries inside.
fn static_program(target: &str, folder: &Path) -> Result<Built> {
    let mut cargo = Command::new(repository().join("host-tools/scripts/cross.sh"));
    cargo.arg(target).args(BUILD).current_dir(repository());
    cargo.env("CARGO_TARGET_DIR", folder).env("RUSTFLAGS", "-C target-feature=+crt-static");
    Ok(match finish(cargo).with_context(|| format!("ouro for {target}"))? {
        Some(missing) => Built::Missing(missing),
        None => Built::Image(folder.join(target).join("release/ouro")),
    })
}

/// The target of this machine's compiler.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("rustc -vV")?;
    let said = String::from_utf8(output.stdout)?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV tells no host")?.to_owned())
}

fn copy(file: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let name = file.file_name().context("a file has a name")?;
    fs::copy(file, folder.join(name)).with_context(|| file.display().to_string())?;
    Ok(())
}

fn done(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
