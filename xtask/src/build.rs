//! Builds an image and runs it in its emulator.

use crate::boards::{Board, Emulator};
use anyhow::{Context, Result, bail};
use defmt_decoder::Table;
use object::{Object, ObjectSection, SectionKind};
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Of cross.sh, when there is no toolchain for the target.
const NO_TOOLCHAIN: i32 = 69;
/// Seconds after which an image counts as hanging.
const TIMEOUT: &str = "120";

/// An image, or what is missing to build it.
#[derive(Debug)]
pub enum Built {
    /// The ELF file.
    Image(PathBuf),
    /// What to install.
    Missing(String),
}

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Where images are built, unless the caller knows better.
pub(crate) fn target_folder() -> PathBuf {
    let folder = env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    folder.join("cross")
}

/// Builds the image of a board, with the model in `model` or else the built-in one. Builds go to
/// `folder`, which boards of one target share.
///
/// # Errors
/// If the build fails.
pub fn build(board: &Board, model: Option<&Path>, folder: &Path) -> Result<Built> {
    build_as(board, board.name, &[], model, folder)
}

/// [`build`] with other variables in the environment, to an image of another name.
///
/// # Errors
/// If the build fails.
pub fn build_as(
    board: &Board,
    name: &str,
    variables: &[(&str, &str)],
    model: Option<&Path>,
    folder: &Path,
) -> Result<Built> {
    let mut cargo = cross(board.krate, board.target, folder);
    cargo.envs(variables.iter().copied());
    cargo.args(["--features", board.features]).env("OURO_BOARD", board.name).env_remove("OURO_MODEL");
    if let Some(model) = model {
        cargo.env("OURO_MODEL", fs::canonicalize(model).with_context(|| model.display().to_string())?);
    }
    if let Some(missing) = finish(cargo).with_context(|| format!("the image of {}", board.name))? {
        return Ok(Built::Missing(missing));
    }
    // Boards of one target write to the same file.
    let images = folder.join("boards");
    fs::create_dir_all(&images)?;
    let image = images.join(name);
    fs::copy(folder.join(board.target).join("release").join(format!("ouro-{}", board.krate)), &image)?;
    Ok(Built::Image(image))
}

/// The command that builds a crate of `targets/` for release.
pub(crate) fn cross(krate: &str, target: &str, folder: &Path) -> Command {
    let mut cargo = Command::new(repository().join("host-tools/scripts/cross.sh"));
    cargo.args([target, "build", "--locked", "--release"]);
    cargo.current_dir(repository().join("targets").join(krate)).env("CARGO_TARGET_DIR", folder);
    cargo
}

/// Runs it; gives what to install if there is no toolchain.
pub(crate) fn finish(mut cargo: Command) -> Result<Option<String>> {
    let Output { status, stderr, .. } = cargo.output().context("host-tools/scripts/cross.sh")?;
    let said = String::from_utf8_lossy(&stderr);
    if status.code() == Some(NO_TOOLCHAIN) {
        return Ok(Some(said.trim_end().to_owned()));
    }
    if !status.success() {
        bail!("it does not build:\n{said}");
    }
    Ok(None)
}

/// What a run said.
#[derive(Debug)]
pub struct Run {
    /// The exit status; 124 if it was stopped for taking too long.
    pub status: Option<i32>,
    /// The report, on standard error.
    pub text: String,
    /// Log frames, each as its level and message.
    pub log: Vec<String>,
}

/// Runs an image with arguments of the form `name=value`.
///
/// # Errors
/// If the emulator is missing (the message names the package) or the log can't be read.
pub fn run(board: &Board, image: &Path, arguments: &[String]) -> Result<Run> {
    let Some(emulator) = board.emulator else { bail!("{} is built only: no emulator has it", board.name) };
    let mut semihosting = "enable=on,target=native,arg=image".to_owned();
    for argument in arguments {
        semihosting.push_str(",arg=");
        semihosting.push_str(&argument.replace(',', ",,"));
    }
    emulate(emulator, "shift=0", &semihosting, image)
}

/// Runs an image in an emulator that counts instructions as `icount` says.
pub(crate) fn emulate(emulator: Emulator, icount: &str, semihosting: &str, image: &Path) -> Result<Run> {
    let output = Command::new("timeout")
        .args([TIMEOUT, emulator.program])
        .args(emulator.arguments)
        .args(["-icount", icount, "-nographic", "-semihosting-config", semihosting, "-kernel"])
        .arg(image)
        .stdin(Stdio::null())
        .output()
        .context("timeout, of coreutils")?;
    if output.status.code() == Some(124) {
        eprintln!("stopped: it took more than {TIMEOUT} s");
    }
    let log = decode(&fs::read(image)?, &output.stdout)?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Run { status: output.status.code(), text, log })
}

/// What to install for this board; `None` if its emulator is there.
#[must_use]
pub fn missing_emulator(board: &Board) -> Option<String> {
    let emulator = board.emulator?;
    let tried = Command::new(emulator.program).arg("--version").stdout(Stdio::null()).status();
    let missing = tried.is_err_and(|error| error.kind() == ErrorKind::NotFound);
    missing.then(|| format!("no {}: apt-get install {}", emulator.program, emulator.package))
}

fn decode(image: &[u8], frames: &[u8]) -> Result<Vec<String>> {
    let table = Table::parse(image)?.context("the image has no defmt strings")?;
    let mut decoder = table.new_stream_decoder();
    decoder.received(frames);
    let mut log = Vec::new();
    while let Ok(frame) = decoder.decode() {
        let level = frame.level().map_or("", |level| level.as_str());
        log.push(format!("{} {}", level.to_uppercase(), frame.display_message()));
    }
    Ok(log)
}

/// What an image takes up: the parts in flash, and RAM beside heap and stack.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    /// Code and constants.
    pub code: u64,
    /// The model.
    pub model: u64,
    /// Initial values of variables, which are in flash and in RAM.
    pub data: u64,
    /// Other variables.
    pub bss: u64,
}

/// Reads them from an ELF file.
///
/// # Errors
/// If it is none.
pub fn sizes(image: &Path) -> Result<Sizes> {
    let bytes = fs::read(image)?;
    let file = object::File::parse(&*bytes)?;
    let mut sizes = Sizes::default();
    for section in file.sections() {
        let size = section.size();
        match (section.name()?, section.kind()) {
            (".model", _) => sizes.model += size,
            (".heap" | ".stack", _) => {}
            (_, SectionKind::UninitializedData) => sizes.bss += size,
            (_, SectionKind::Data) => sizes.data += size,
            (_, SectionKind::Text | SectionKind::ReadOnlyData | SectionKind::ReadOnlyString) => {
                sizes.code += size;
            }
            _ => {}
        }
    }
    Ok(sizes)
}
