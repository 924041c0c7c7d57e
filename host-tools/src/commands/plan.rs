//! `ouro plan`: memory, bytes and speed before anything is run.

use crate::args::{DepthArgs, Exit, KvArgs, ModelArgs, PromptArgs, note_untrained};
use crate::commands::output::{print, print_json};
use crate::commands::random::Like;
use crate::compute::ComputeArgs;
use crate::error::Error;
use crate::open::{Memories, Opened};
use crate::plan::{Ask, BOARDS, Board, Machine, Outline, Report, measure, measure_disk};
use crate::quantize::{FileType, Source};
use crate::ram::{Demand, Place, RamArgs, block_buffer};
use crate::report::{counted, human_bytes};
use crate::store::{HostStore, StoreKind, Verify, is_built_in};
use clap::builder::PossibleValuesParser;
use ouro_runtime::model::{CHECKSUMS, Model};
use ouro_runtime::session::Settings;
use std::path::Path;

/// Tell what a model needs and how fast it would be.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ouro plan --like ouro-2.6b --type q4_0 --ram 256M --flash 90MB/s --mem 8GB/s --gmacs 40
  ouro plan -m model.gguf --ram 400M --measure
  ouro plan --like ouro-1.4b --type q4_0 --ram 600M --board pi5 --ctx 2048 --kv-type int8
  ouro plan --board rp2350 --ctx 256 --prompt 32 --kv-type int8
  ouro plan --list-boards

Memory is to the byte what `ouro run` takes with the same options, by the same code; nothing is read but
the file's header, or not even that with --like. Weights in a file are fetched while others compute,
one tile ahead; computing is the longer of reading weights from memory and of multiplying, and then
reading K and V. From mapped flash, as firmware reads it, nothing overlaps. With --measure the rates are
those of this machine: a piece of the model is run, and the file is read past the page cache.")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Instead of a file, the shape of a known model, as `ouro random` would write it
    #[arg(long, value_name = "MODEL", value_enum, requires = "file_type", conflicts_with = "model")]
    like: Option<Like>,
    /// What its matrices are stored as
    #[arg(
        long = "type",
        short = 't',
        value_name = "TYPE",
        value_enum,
        ignore_case = true,
        requires = "like",
        conflicts_with = "model"
    )]
    file_type: Option<FileType>,
    #[command(flatten)]
    ram: RamArgs,
    /// Weights stay in mapped flash (XIP), as firmware has them; --ram is all the chip's memory
    #[arg(long, conflicts_with_all = ["store", "block_buffer", "pin"])]
    mapped: bool,
    /// Bytes of the program itself: code in RAM, stacks, libraries [default: what `ouro run` counts;
    /// with --mapped 33K, most of it stack]
    #[arg(long, value_name = "BYTES", value_parser = crate::args::parse_bytes)]
    program: Option<usize>,
    /// The longest prompt, in tokens [default: 128]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    prompt: Option<u32>,
    #[command(flatten)]
    prompts: PromptArgs,
    /// The mean depth of generated tokens, as `ouro eval` measures it [default: what the file says]
    #[arg(long, value_name = "LOOPS", value_parser = parse_depth)]
    mean_depth: Option<f64>,
    #[command(flatten)]
    rates: Rates,
    #[command(flatten)]
    depth: DepthArgs,
    #[command(flatten)]
    kv: KvArgs,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How fast the machine is.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Machine")]
struct Rates {
    /// A board whose rates are known, and its RAM where that is small: --ram and the options below replace them
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(BOARDS.map(|board| board.name)))]
    board: Option<String>,
    /// Show all boards, with the source of each figure, and end
    #[arg(long)]
    list_boards: bool,
    /// Take the rates of this machine
    #[arg(long, conflicts_with = "board")]
    measure: bool,
    /// What flash or disk reads, as 90MB/s (k, M and G are powers of 1000)
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    flash: Option<f64>,
    /// What memory reads, as 8GB/s
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    mem: Option<f64>,
    /// Products of weights and activations, in 10^9 per second
    #[arg(long, value_name = "N", value_parser = parse_gmacs)]
    gmacs: Option<f64>,
}

/// `90MB/s`, `8GB/s`, `1.5G`: bytes per second, powers of 1000.
fn parse_rate(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches("/s").trim_end_matches('B').trim_end();
    let units = [('k', 1e3), ('K', 1e3), ('M', 1e6), ('G', 1e9)];
    let unit = units.iter().find_map(|(unit, scale)| Some((number.strip_suffix(*unit)?, scale)));
    let (number, scale) = unit.unwrap_or((number, &1.0));
    let rate = number.trim().parse::<f64>().ok().map(|number| number * scale);
    rate.filter(|rate| (1.0..1e15).contains(rate))
        .ok_or_else(|| format!("{text} found, expected bytes per second such as 90MB/s or 8GB/s"))
}

fn parse_depth(text: &str) -> Result<f64, String> {
    let depth = text.parse::<f64>().ok().filter(|depth| (1.0..=255.0).contains(depth));
    depth.ok_or_else(|| format!("{text} found, expected a number of loops from 1, such as 2.5"))
}

fn parse_gmacs(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (1e-6..1e9).contains(number));
    number.ok_or_else(|| format!("{text} found, expected 10^9 products per second such as 40 or 0.1"))
}

/// Stack and static variables of the firmware in `targets/`: 32 KiB and less than one.
const FIRMWARE: usize = 33 << 10;
/// Prompts where nothing is said.
const PROMPT: usize = 128;
/// Tokens of an answer where nothing is said, as `ouro run` has it.
const ANSWER: usize = 256;

/// Runs the command.
///
/// # Errors
/// [`Error`]; [`Error::DoesNotFit`] after the report.
pub fn run(args: &Args) -> Result<(), Error> {
    if args.rates.list_boards {
        return print(&Board::list());
    }
    let board = args.rates.board.as_deref().and_then(Board::named);
    let is_mapped = args.mapped || board.is_some_and(|board| board.place == Place::Flash);
    let is_built_in = args.like.is_none() && is_built_in(&args.model.model);
    // Of what is to be in memory anyway nothing else can be planned.
    let is_bounded = is_mapped || !is_built_in && args.model.store != Some(StoreKind::Memory);
    let ram = args.ram.ram.or(board.filter(|_| is_bounded).and_then(|board| board.ram));
    let place = place(args, ram, is_mapped)?;
    let mut store = open(args, ram, place)?;
    let mut memories = Memories::default();
    let path = args.like.map_or(args.model.model.as_path(), |like| Path::new(like.name()));
    let opened = Opened::open(path, &mut store, &mut memories)?;
    let (settings, prompt) = settings(args, &opened.model)?;
    note_untrained(settings.max_loops, settings.context, opened.model.config());
    let has_sums = args.model.verify != Verify::Never && has_sums(&mut store, &opened)?;
    // A board has a few cores.
    let threads =
        if board.is_some() { args.compute.threads.map_or(1, usize::from) } else { args.compute.threads() };
    let usual = if is_mapped { FIRMWARE } else { Demand::usual_program(threads) };
    let program = args.program.unwrap_or(usual);
    let whose = board.filter(|_| args.ram.ram.is_none()).map(|board| board.name);
    let demand = Demand { has_sums, program, board: whose, ..Demand::of(&store, &opened, &settings) };
    let machine = machine(args, board, place, &mut store, (&opened.model, &settings))?;
    let exit = args.depth.exit(&opened.model).policy();
    let known = opened.gguf.f32(&mut store, "ouro.exit.mean_depth").ok().flatten().map(f64::from);
    let is_fixed = args.depth.exit(&opened.model) == Exit::Fixed;
    let ask = Ask {
        place,
        ram,
        buffer: args.model.block_buffer,
        pin: args.ram.pin.clone(),
        prompt,
        machine,
        needs: exit.needs(),
        mean_depth: args.mean_depth.or(known.filter(|_| !is_fixed && args.depth.exit.is_none())),
    };
    let title = title(args, board, &demand, &ask);
    let report = Report::new(title, demand, ask, &|file_type| match args.like {
        Some(like) => Outline::like(like, file_type),
        None => Outline::quantized(&args.model.model, file_type),
    })?;
    if args.json {
        print_json(&report.to_json())?;
    } else {
        print(&report.to_string())?;
    }
    match report.refusal() {
        Some(why) => Err(Error::DoesNotFit(why.to_owned())),
        None => Ok(()),
    }
}

/// A store to read the header through; for `--like` there is nothing but that. A file is opened as a
/// run opens it that streams it, so that its disk can be measured.
fn open(args: &Args, ram: Option<usize>, place: Place) -> Result<HostStore, Error> {
    let ModelArgs { model, block_buffer: asked, verify, .. } = &args.model;
    match (args.like, args.file_type) {
        (Some(like), Some(file_type)) => Outline::like(like, file_type)?.store(),
        // Refused where weights would have to be in a file.
        _ if is_built_in(model) && place == Place::File => args.model.open_within(ram),
        _ => {
            let max_tile = block_buffer(*asked, ram) / 2;
            Ok(HostStore::open(model, StoreKind::File, max_tile)?.verifying(*verify))
        }
    }
}

/// Where weights will be: as `ouro run` decides it, or in mapped flash.
fn place(args: &Args, ram: Option<usize>, is_mapped: bool) -> Result<Place, Error> {
    if is_mapped {
        return Ok(Place::Flash);
    }
    Ok(match args.model.kind(ram)? {
        StoreKind::Memory => Place::Memory,
        StoreKind::File => Place::File,
    })
}

/// The session's, and the longest prompt.
fn settings(args: &Args, model: &Model<'_>) -> Result<(Settings, usize), Error> {
    let longest = model.config().context;
    let asked = args.prompt.map(|prompt| prompt as usize);
    let usual = asked.unwrap_or(PROMPT).saturating_add(ANSWER).min(longest);
    let context = args.kv.ctx.unwrap_or(usual);
    let prompt = asked.unwrap_or_else(|| PROMPT.min(context));
    if prompt > context {
        return Err(Error::Usage(format!("--prompt {prompt} is longer than the context of {context}")));
    }
    Ok((args.kv.settings(&args.depth, model, context, args.prompts.rows(prompt)), prompt))
}

fn has_sums(store: &mut HostStore, opened: &Opened<'_>) -> Result<bool, Error> {
    let found = opened.gguf.get(store, CHECKSUMS).map_err(anyhow::Error::new)?;
    Ok(found.is_some())
}

/// The rates, if any were given.
fn machine(
    args: &Args,
    board: Option<&Board>,
    place: Place,
    store: &mut HostStore,
    about: (&Model<'_>, &Settings),
) -> Result<Option<Machine>, Error> {
    let Rates { flash, mem, gmacs, measure: measures, .. } = args.rates;
    let known = match board {
        Some(board) => Some(board.machine()),
        None if measures => {
            let source = match args.like {
                Some(like) => {
                    crate::commands::random::source(like, args.file_type.unwrap_or(FileType::Q4_0))?
                }
                None if is_built_in(&args.model.model) => Source::built_in()?,
                None => Source::from_gguf(&args.model.model)?,
            };
            let file_type = args.like.and(args.file_type);
            let machine = measure(source, file_type, args.compute.start()?, about)?;
            let streams = args.like.is_none() && place == Place::File;
            Some(Machine { flash: if streams { measure_disk(store, about.0)? } else { None }, ..machine })
        }
        None => None,
    };
    let is_given = known.is_some() || flash.or(mem).or(gmacs).is_some();
    if !is_given {
        return Ok(None);
    }
    let memory = mem.or(known.map(|known| known.memory));
    let machine = Machine {
        flash: flash.or(known.and_then(|known| known.flash)),
        memory: memory.ok_or_else(|| missing("--mem (what memory reads, as 8GB/s)"))?,
        kv: mem.or(known.map(|known| known.kv)).or(memory).unwrap_or(f64::NAN),
        prompt_kv: mem.or(known.map(|known| known.prompt_kv)).or(memory).unwrap_or(f64::NAN),
        macs: gmacs
            .map(|gmacs| 1e9 * gmacs)
            .or(known.map(|known| known.macs))
            .ok_or_else(|| missing("--gmacs"))?,
    };
    if place != Place::Memory && machine.flash.is_none() {
        return Err(missing("--flash (what flash or disk reads, as 90MB/s)"));
    }
    Ok(Some(machine))
}

fn missing(what: &str) -> Error {
    Error::Usage(format!("{what} is missing: a speed needs all rates; --board has them all"))
}

fn title(args: &Args, board: Option<&Board>, demand: &Demand<'_>, ask: &Ask) -> String {
    let model = match (args.like, args.file_type) {
        (Some(like), Some(file_type)) => {
            let name = clap::ValueEnum::to_possible_value(&file_type);
            format!("{} {}", like.name(), name.as_ref().map_or("", |value| value.get_name()))
        }
        _ => args.model.model.display().to_string(),
    };
    let config = demand.model.config();
    let size = human_bytes(demand.file);
    let place = match ask.place {
        Place::Memory => "all in memory",
        Place::File => "weights in a file",
        Place::Flash => "weights in mapped flash",
    };
    let mut title = format!("{model}: {}, {size}; {place}", counted(config.layers, "layer"));
    if let Some(board) = board {
        title += &format!("; {}", board.about);
    }
    if let Some(Machine { flash, memory, kv, macs, .. }) = ask.machine {
        let flash = flash.map(|flash| format!("flash {:.4} GB/s, ", flash / 1e9)).unwrap_or_default();
        title += &format!(
            "; {flash}memory {:.3} GB/s, K and V {:.3} GB/s, {:.3} GMAC/s",
            memory / 1e9,
            kv / 1e9,
            macs / 1e9
        );
    }
    title
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_with_units() {
        for (text, rate) in [
            ("90MB/s", 9e7),
            ("8GB/s", 8e9),
            ("1.5G", 1.5e9),
            ("33 MB/s", 3.3e7),
            ("500kB/s", 5e5),
            ("42", 42.0),
        ] {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
        for text in ["", "MB/s", "-1MB/s", "NaN", "90 apples", "0"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
        for text in ["", "0", "-1", "NaN", "inf"] {
            assert!(parse_gmacs(text).is_err(), "{text}");
        }
    }
}
