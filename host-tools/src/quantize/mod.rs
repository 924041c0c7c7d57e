//! `ouro quantize`: a Hugging Face checkpoint or a GGUF becomes a GGUF that streams.
//!
//! The header is known before any weight is read; then each tensor goes through a few megabytes of
//! memory. The file grows under a temporary name beside its own and gets that only when it is whole.

mod convert;
mod from_gguf;
mod recipe;
mod report;
mod source;

pub(crate) use from_gguf::LAYER_ORDER;
pub use recipe::{FileType, Override};
pub(crate) use recipe::{choose, layer_of};
pub(crate) use source::{Source, SourceTensor, describe_model, describe_tokenizer, set_gate};

use crate::{
    checkpoint::{Architecture, Checkpoint, Gate},
    checksums,
    commands::output::{print, print_json},
    error::Error,
    gguf_writer::{GgufWriter, Metadata, TensorInfo},
    interrupt,
    open::{Memories, Opened},
    progress,
    store::{FileStore, HostStore},
    temporary::{keep, temporary_file},
    text::is_unknown_kind,
};
use convert::Reader;
use ouro_quant::Format;
use recipe::{Choice, is_float};
use report::Report;
use std::{
    fs::{self, File},
    io::BufWriter,
    iter,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Tensors start on pages of flash and disk, so that each can be fetched alone.
pub(crate) const ALIGNMENT: u32 = 4096;

/// What was written is read back through a buffer of this size.
const BLOCK_BUFFER: usize = 4 << 20;

/// Convert a Hugging Face checkpoint or a GGUF to a GGUF.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ouro quantize Ouro-1.4B ouro.gguf --type q4_k_m
  ouro quantize Ouro-1.4B ouro.gguf --type q4_0 --tensor-type ffn_down=q6_k
  ouro quantize ouro-bf16.gguf ouro-q8_0.gguf --type q8_0
  ouro quantize published.gguf with-gate.gguf --gate-from Ouro-1.4B")]
pub struct Args {
    /// A checkpoint folder (config.json, tokenizer.json, *.safetensors), or a GGUF
    pub src: PathBuf,
    /// The GGUF to write
    pub out: PathBuf,
    /// What the matrices are stored as; norms stay f32
    #[arg(long = "type", short = 't', value_name = "TYPE", value_enum, ignore_case = true)]
    #[arg(required_unless_present = "gate_from")]
    pub file_type: Option<FileType>,
    /// Another type for the matrices whose name matches a regular expression; the first match counts
    #[arg(long, value_name = "PATTERN=TYPE")]
    pub tensor_type: Vec<Override>,
    /// Allow input that is quantized already: loses more than quantizing the original
    #[arg(long)]
    pub allow_requantize: bool,
    /// Take the exit gate of this checkpoint folder into a GGUF that has none
    #[arg(long, value_name = "HF_DIR")]
    pub gate_from: Option<PathBuf>,
    /// Print what was done as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Converts, and prints what became of each kind of tensor.
///
/// # Errors
/// [`Error`]; nothing is left behind then.
pub fn run(args: &Args) -> Result<(), Error> {
    let report = quantize(args)?;
    if args.json { print_json(&report.to_json()) } else { print(&report.to_string()) }
}

/// Converts without printing anything but the progress.
fn quantize(args: &Args) -> Result<Report, Error> {
    check_paths(args)?;
    let mut source = open(args)?;
    let choices = choose(&source.tensors, source.layers, args.file_type, &args.tensor_type)?;
    if !args.allow_requantize {
        refuse_requantizing(&source, &choices)?;
    }
    let alignment = match args.file_type {
        Some(file_type) => {
            describe_file(&mut source.metadata, file_type);
            ALIGNMENT
        }
        // Only the gate is new: nothing else changes, not even the layout.
        None => source.alignment,
    };
    let infos = infos(&source, &choices)?;
    let bytes = write(&source, &infos, alignment, &args.out)?;
    Ok(Report::new(&args.out, source, choices, infos, bytes))
}

/// Copies a GGUF with other metadata; not a byte of a tensor changes. `out` may be `src`, which is
/// replaced once the copy is whole.
///
/// # Errors
/// [`Error`]; `out` is as it was then.
pub(crate) fn copy_with(src: &Path, out: &Path, change: impl FnOnce(&mut Metadata)) -> Result<u64, Error> {
    let mut source = Source::from_gguf(src)?;
    change(&mut source.metadata);
    let choices = choose(&source.tensors, source.layers, None, &[])?;
    let infos = infos(&source, &choices)?;
    write(&source, &infos, source.alignment, out)
}

/// Copies a GGUF into order of execution, its tensors as they are; gives their number and the length
/// of the file.
///
/// # Errors
/// [`Error`]; nothing is left behind then.
pub(crate) fn lay_out(src: &Path, out: &Path) -> Result<(usize, u64), Error> {
    fs::metadata(src).map_err(|error| Error::reading(src, &error))?;
    check_src_and_out(src, out)?;
    let mut source = Source::from_gguf(src)?;
    source.order_by_execution();
    source.metadata.set("general.alignment", ALIGNMENT);
    let choices = choose(&source.tensors, source.layers, None, &[])?;
    let infos = infos(&source, &choices)?;
    let bytes = write(&source, &infos, ALIGNMENT, out)?;
    Ok((infos.len(), bytes))
}

/// Keys about the file rather than the model.
pub(crate) fn describe_file(metadata: &mut Metadata, file_type: FileType) {
    metadata.set("general.alignment", ALIGNMENT);
    metadata.set("general.file_type", file_type.id());
    metadata.set("general.quantization_version", 2u32);
}

fn open(args: &Args) -> Result<Source, Error> {
    let is_checkpoint = args.src.is_dir();
    match &args.gate_from {
        Some(_) if is_checkpoint => {
            let text = "--gate-from is for a GGUF; a checkpoint folder brings its own exit gate";
            Err(Error::Usage(text.to_owned()))
        }
        _ if is_checkpoint => Ok(Source::from_checkpoint(Checkpoint::open(&args.src)?)),
        gate_from => {
            let mut source = Source::from_gguf(&args.src)?;
            if let Some(folder) = gate_from {
                graft_gate(&mut source, &args.src, folder)?;
            }
            if args.file_type.is_some() {
                source.order_by_execution();
            }
            Ok(source)
        }
    }
}

fn graft_gate(source: &mut Source, path: &Path, folder: &Path) -> Result<(), Error> {
    let path = path.display();
    if source.architecture != Architecture::Ouro {
        let found = source.architecture;
        return Err(Error::BadInput(format!(
            "{path}: a {found} model has no exit gate; only ouro models do"
        )));
    }
    if source.metadata.get("ouro.exit_gate.weight").is_some() {
        return Err(Error::Usage(format!("{path} has an exit gate already; leave out --gate-from")));
    }
    let gate = Gate::open(folder)?;
    if gate.weight.len() as u64 != source.hidden {
        let (found, expected, folder) = (gate.weight.len(), source.hidden, folder.display());
        return Err(Error::BadInput(format!(
            "the exit gate of {folder} has {found} weights, but {path} has an embedding_length of {expected}; \
             take the checkpoint that it was made from"
        )));
    }
    set_gate(&mut source.metadata, &gate);
    Ok(())
}

/// Decoding to F32 is exact, and copying too; any other way from a quantized format loses twice.
fn refuse_requantizing(source: &Source, choices: &[Choice]) -> Result<(), Error> {
    let mut pairs = source.tensors.iter().zip(choices);
    let loses_twice = |from: Format, to: Format| !is_float(from) && to != from && to != Format::F32;
    match pairs.find(|(tensor, choice)| loses_twice(tensor.format, choice.format)) {
        Some((SourceTensor { name, format, .. }, choice)) => Err(Error::BadInput(format!(
            "{name} is {format} already and would become {}: convert the original checkpoint or an \
             F32, F16 or BF16 file, or give --allow-requantize and lose more",
            choice.format
        ))),
        None => Ok(()),
    }
}

fn check_paths(args: &Args) -> Result<(), Error> {
    let Args { src, out, .. } = args;
    check_src_and_out(src, out)?;
    let is_gguf = out.extension().is_some_and(|extension| extension == "gguf");
    for checkpoint in iter::once(src).chain(&args.gate_from).filter(|path| path.is_dir()) {
        // Files of a checkpoint may be links to elsewhere.
        let files = fs::read_dir(checkpoint).map_err(|error| Error::reading(checkpoint, &error))?;
        if !is_gguf && out.exists() && files.flatten().any(|file| same(&file.path(), out)) {
            let text = format!("{} is a file of the checkpoint; write to another one", out.display());
            return Err(Error::Usage(text));
        }
    }
    Ok(())
}

/// Whether `src` can be read while `out` is written.
fn check_src_and_out(src: &Path, out: &Path) -> Result<(), Error> {
    if !src.exists() {
        let src = src.display();
        let text = format!("{src} does not exist, expected a GGUF or a checkpoint folder; check its name");
        return Err(Error::BadInput(text));
    }
    check_out(out)?;
    if same(src, out) {
        let text = "SRC and OUT are the same file; write to another one and rename it afterwards";
        return Err(Error::Usage(text.to_owned()));
    }
    Ok(())
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Whether there can be a file of this name.
pub(crate) fn check_out(out: &Path) -> Result<(), Error> {
    if out.is_dir() {
        return Err(Error::Usage(format!("{} is a folder; name the file to write", out.display())));
    }
    let folder = folder_of(out);
    if !folder.is_dir() {
        let name = folder.display();
        return Err(Error::Usage(format!("the folder {name} does not exist; create it first")));
    }
    Ok(())
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What the header says of each tensor.
pub(crate) fn infos(source: &Source, choices: &[Choice]) -> Result<Vec<TensorInfo>, Error> {
    let infos = source.tensors.iter().zip(choices).map(|(tensor, choice)| {
        let rows = tensor.dims.iter().skip(1).try_fold(1u64, |n, dim| n.checked_mul(*dim));
        let row = tensor.dims.first().and_then(|len| choice.format.row_bytes(usize::try_from(*len).ok()?));
        let len = rows.zip(row).and_then(|(rows, row)| rows.checked_mul(row as u64));
        let len = len.ok_or_else(|| Error::BadInput(format!("{}: its size overflows", tensor.name)))?;
        Ok(TensorInfo { name: tensor.name.clone(), dims: tensor.dims.clone(), format: choice.format, len })
    });
    infos.collect()
}

/// Writes the file; the result has its length.
fn write(source: &Source, infos: &[TensorInfo], alignment: u32, out: &Path) -> Result<u64, Error> {
    let mut reader = Reader::open(source)?;
    let progress = progress::writing(source.tensors.iter().map(|tensor| tensor.len).sum());
    let bytes = write_with(&source.metadata, infos, alignment, out, |index, sink| {
        let info = &infos[index];
        progress.set_message(info.name.clone());
        reader.convert(&source.tensors[index], info.format, |bytes, read| {
            progress.inc(read);
            sink(bytes)
        })
    })?;
    progress.finish_and_clear();
    Ok(bytes)
}

/// Writes a file; the result has its length. `fill` hands the bytes of tensor number so-and-so to
/// its sink, piece by piece.
pub(crate) fn write_with(
    metadata: &Metadata,
    infos: &[TensorInfo],
    alignment: u32,
    out: &Path,
    mut fill: impl FnMut(usize, &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error>,
) -> Result<u64, Error> {
    interrupt::watch();
    let writing = |error| Error::writing(out, error);
    let temporary = temporary_file(out).map_err(writing)?;
    let file = BufWriter::with_capacity(1 << 20, temporary.as_file());
    let metadata = checksums::with_room(metadata, infos, alignment);
    let mut writer = GgufWriter::new(file, &metadata, infos, alignment).map_err(writing)?;
    for index in 0..infos.len() {
        fill(index, &mut |bytes| {
            if interrupt::is_set() {
                return Err(Error::Interrupted);
            }
            writer.write(bytes).map_err(writing)
        })?;
        writer.end_tensor().map_err(writing)?;
    }
    let header = writer.summed_header();
    drop(writer.finish().map_err(writing)?);
    temporary.as_file().write_all_at(&header, 0).map_err(writing)?;
    check_runs(temporary.reopen().map_err(writing)?, out)?;
    keep(temporary, out).map_err(writing)
}

/// Opens what was written as `ouro run` does: what that refuses gets no name. A file that is named
/// `out` is meant.
fn check_runs(file: File, out: &Path) -> Result<(), Error> {
    let store = FileStore::new(file, BLOCK_BUFFER).map_err(|error| Error::reading(out, &error))?;
    let (mut store, mut memories) = (HostStore::from(store), Memories::default());
    let opened = Opened::open(out, &mut store, &mut memories)?;
    match &opened.tokenizer {
        // Ids alone can be used with tokenizers that we don't know.
        Err(error) if !is_unknown_kind(error) => Err(Error::BadInput(format!("{}: {error}", out.display()))),
        _ => Ok(()),
    }
}
