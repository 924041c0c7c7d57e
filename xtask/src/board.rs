//! `cargo xtask board`: a board answers a prompt, in its emulator.

use crate::boards::{BOARDS, Board, find};
use crate::build::{Built, Run, Sizes, build, missing_emulator, run, sizes, target_folder};
use crate::report::{Report, escape};
use crate::table;
use anyhow::{Result, bail};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Build an image with a model in its flash, run it in QEMU and report
///
/// The answer, depths and hash are those of `ouro run` and `ouro hash` on the host. Instructions
/// are counted by QEMU: they are not cycles.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask board                                      # lists the boards
  cargo xtask board mps2-an386
  cargo xtask board mps3-an547 --store nor --prompt \"Limit 70, reading 41. Alarm?\"
  cargo xtask board virt-rv32imac --policy fixed --json
  cargo xtask board --table                              # that of README.md

Needs QEMU (apt-get install qemu-system-arm qemu-system-misc) and the board's target (rustup target
add TARGET, or Debian's packages that host-tools/scripts/cross.sh names).

Exit codes: the image's (0 done, 2 wrong arguments, 3 bad model, 4 too little RAM, 101 panic,
102 fault), 69 if a tool is missing, 124 if it hangs, 1 anything else.")]
pub struct Args {
    /// The board; without one, all are listed, with core, back end and the chip whose clock --table takes
    name: Option<String>,
    /// What to ask
    #[arg(long, value_name = "TEXT", default_value = "60 plus 70?")]
    prompt: String,
    /// When a token may stop early: fixed, q=X, confidence=X, margin=X, step=X [default: the file's]
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
    /// What older positions offer: per-loop, last or averaged [default: the file's]
    #[arg(long, value_name = "SHARING")]
    kv: Option<String>,
    /// How K and V are stored: f32, f16, int8 or int4 [default: f16]
    #[arg(long, value_name = "TYPE")]
    kv_type: Option<String>,
    /// The most tokens of the answer
    #[arg(long, value_name = "N", default_value_t = 16)]
    max_new: usize,
    /// How the model is read: xip in place, nor through the driver of a NOR chip
    #[arg(long, value_name = "STORE", default_value = "xip")]
    store: String,
    /// Another model than the built-in one
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Another argument for the image, name=value; may be repeated
    #[arg(long, value_name = "ARGUMENT")]
    argument: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print a table with a row for the board, or for each that an emulator runs
    #[arg(long, conflicts_with_all = ["json", "policy"])]
    table: bool,
}

impl Args {
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("prompt={}", escape(&self.prompt)),
            format!("max-new={}", self.max_new),
            format!("store={}", self.store),
        ];
        let optional = [("policy", &self.policy), ("kv", &self.kv), ("kv-type", &self.kv_type)];
        for (name, value) in optional {
            arguments.extend(value.iter().map(|value| format!("{name}={value}")));
        }
        arguments.extend(self.argument.iter().cloned());
        arguments
    }
}

/// What a missing tool ends with, as cross.sh does.
pub(crate) const MISSING: u8 = 69;

/// Runs the command.
///
/// # Errors
/// If the image does not build, or does not report.
pub fn main(args: &Args) -> Result<ExitCode> {
    let Some(name) = &args.name else {
        return if args.table {
            table(args, BOARDS.iter().filter(|board| board.emulator.is_some()))
        } else {
            list()
        };
    };
    let Some(board) = find(name) else {
        let names: Vec<_> = BOARDS.iter().map(|board| board.name).collect();
        bail!("there is no board {name}; there are {}", names.join(", "));
    };
    if args.table { table(args, [board]) } else { answer(args, board) }
}

fn list() -> Result<ExitCode> {
    println!("{:16} {:38} {:9} clock of", "board", "core", "back end");
    for Board { name, about, backend, clock, .. } in BOARDS {
        let clock = clock.map_or_else(|| "-".to_owned(), |clock| clock.to_string());
        println!("{name:16} {about:38} {backend:9} {clock}");
    }
    println!(
        "\nEach reads its model in place, as mapped flash; with --store nor through the driver of a NOR chip."
    );
    Ok(ExitCode::SUCCESS)
}

fn table<'b>(args: &Args, boards: impl IntoIterator<Item = &'b Board>) -> Result<ExitCode> {
    println!("{}", table::HEADER);
    let all_loops = Args { policy: Some("fixed".into()), ..args.clone() };
    for board in boards {
        let image = match image(args, board)? {
            Ok(image) => image,
            Err(code) => return Ok(code),
        };
        let (exits, all_loops) = (ask(args, board, &image)?, ask(&all_loops, board, &image)?);
        match (exits, all_loops) {
            (Ok(exits), Ok(all)) => {
                let row = table::row(board, &Report(&exits.text), &Report(&all.text), sizes(&image)?)?;
                println!("{row}");
            }
            (Err(code), _) | (_, Err(code)) => return Ok(code),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds an image; or the exit code, after it was said what is missing.
fn image(args: &Args, board: &Board) -> Result<Result<PathBuf, ExitCode>> {
    let built = match missing_emulator(board) {
        Some(missing) => Built::Missing(missing),
        None => build(board, args.model.as_deref(), &target_folder())?,
    };
    Ok(match built {
        Built::Image(image) => Ok(image),
        Built::Missing(missing) => {
            eprintln!("{missing}");
            Err(ExitCode::from(MISSING))
        }
    })
}

/// Runs an image; or the exit code, after it was said what failed.
fn ask(args: &Args, board: &Board, image: &Path) -> Result<Result<Run, ExitCode>> {
    let run = run(board, image, &args.arguments())?;
    if run.status == Some(0) {
        return Ok(Ok(run));
    }
    eprint!("{}", run.text);
    let status = run.status.and_then(|status| u8::try_from(status).ok()).unwrap_or(1);
    Ok(Err(ExitCode::from(status)))
}

fn answer(args: &Args, board: &Board) -> Result<ExitCode> {
    let image = match image(args, board)? {
        Ok(image) => image,
        Err(code) => return Ok(code),
    };
    let sizes = sizes(&image)?;
    if board.emulator.is_none() {
        println!("{}", flash(sizes));
        return Ok(ExitCode::SUCCESS);
    }
    let run = match ask(args, board, &image)? {
        Ok(run) => run,
        Err(code) => return Ok(code),
    };
    let report = Report(&run.text);
    if args.json {
        let mut object = report.to_json()?;
        object.insert("log".into(), json!(run.log));
        object.insert("prompt_token_instructions".into(), json!(report.prefill_per_token()?));
        object.insert("token_instructions".into(), json!(report.decode_per_token()?));
        let Sizes { code, model, data, bss } = sizes;
        object.insert("flash_bytes".into(), json!({ "code": code, "model": model, "data": data }));
        object.insert("static_ram_bytes".into(), json!(data + bss));
        println!("{}", serde_json::Value::from(object));
    } else {
        print!("{}", told(board, &report, sizes)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn flash(Sizes { code, model, data, .. }: Sizes) -> String {
    format!("flash: {code} bytes of code and constants, {data} of initial values, {model} of model")
}

/// The report for people.
fn told(board: &Board, report: &Report<'_>, sizes: Sizes) -> Result<String> {
    let n = |name| report.number(name);
    let (prefill, decode) = (n("prefill instructions")?, n("decode instructions")?);
    Ok(format!(
        "{answer}

{name}, {about}, back end {backend}{refused}
depths:  {depths}
reasons: {reasons}
hash:    {hash}
instructions: {prompt_token:.0} a prompt token, {token:.0} a generated token ({worst} the dearest), \
{per_product:.2} a product
RAM: {arenas} arenas (model {model}, session {session}, of it KV cache {kv}), {buffer} block buffer, \
{stack} stack, {variables} variables
{flash}
fetched: {fetched} bytes in {tiles} tiles
",
        answer = report.answer()?,
        name = board.name,
        about = board.about,
        backend = report.get("backend")?,
        refused = report.refused()?.map_or_else(String::new, |refused| format!("\nrefused: {refused}")),
        depths = report.get("depths")?,
        reasons = report.get("reasons")?,
        hash = report.get("hash")?,
        prompt_token = report.prefill_per_token()?,
        token = report.decode_per_token()?,
        worst = n("worst token instructions")?,
        per_product = (prefill + decode) as f64 / (n("prefill products")? + n("decode products")?) as f64,
        arenas = n("model arena bytes")? + n("session arena bytes")?,
        model = n("model arena bytes")?,
        session = n("session arena bytes")?,
        kv = n("of it kv bytes")?,
        buffer = n("block buffer bytes")?,
        stack = n("stack bytes")?,
        variables = sizes.data + sizes.bss,
        flash = flash(sizes),
        fetched = n("bytes fetched")?,
        tiles = n("tiles fetched")?,
    ))
}
