//! From the bytes of one tensor to its bytes in another format, a few megabytes at a time.
//!
//! Rows are independent, so that any number of threads gives the same bytes.

use super::{
    recipe::is_float,
    source::{Source, SourceTensor},
};
use crate::{checkpoint::CheckpointError, error::Error, open::checked, store::HostStore};
use ouro_quant::{Format, QuantError, decode, encode};
use ouro_runtime::store::{Span, Store};
use rayon::prelude::*;
use std::{
    fmt::Display,
    fs::File,
    io::{ErrorKind, Read, Seek, SeekFrom},
    path::Path,
};

/// How much of a tensor is read at once; enough work for many cores, little memory.
const PIECE_BYTES: usize = 4 << 20;

/// The source's files, opened.
pub(crate) struct Reader<'a> {
    source: &'a Source,
    files: Vec<Input>,
    /// Reused from piece to piece.
    raw: Vec<u8>,
    converted: Vec<u8>,
}

impl<'a> Reader<'a> {
    pub(crate) fn open(source: &'a Source) -> Result<Self, Error> {
        let open = |path| match source.is_gguf {
            true => checked(path, PIECE_BYTES).map(|store| Input::Gguf(Box::new(store))),
            false => File::open(path).map(Input::Shard).map_err(|error| Error::reading(path, &error)),
        };
        let files = source.files.iter().map(|path| open(path)).collect::<Result<_, _>>()?;
        Ok(Self { source, files, raw: Vec::new(), converted: Vec::new() })
    }

    /// Hands the bytes of `tensor` in format `to` to `sink`, piece by piece and in order, each with the
    /// number of source bytes it came from.
    pub(crate) fn convert(
        &mut self,
        tensor: &SourceTensor,
        to: Format,
        mut sink: impl FnMut(&[u8], u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let rows = Rows::of(tensor, to)?;
        let path = &self.source.files[tensor.file];
        let file = &mut self.files[tensor.file];
        let mut offset = tensor.offset;
        let mut left = rows.count;
        while left > 0 {
            let count = left.min(rows.in_a_piece);
            left -= count;
            self.raw.resize(count * rows.source_bytes, 0);
            self.converted.resize(count * rows.target_bytes, 0);
            file.read(offset, &mut self.raw, tensor, path)?;
            offset += self.raw.len() as u64;
            rows.convert(&self.raw, &mut self.converted)
                .map_err(|problem| problem.describe(tensor, to, path))?;
            sink(&self.converted, self.raw.len() as u64)?;
        }
        Ok(())
    }
}

/// Where tensors are read from.
enum Input {
    /// A file of a checkpoint.
    Shard(File),
    /// A GGUF; if it has checksums, what is read is checked by them.
    Gguf(Box<HostStore>),
}

impl Input {
    /// Reads a part of `tensor`, which lies in the file at `path`.
    fn read(&mut self, offset: u64, out: &mut [u8], tensor: &SourceTensor, path: &Path) -> Result<(), Error> {
        let bad = |problem: &dyn Display| {
            Error::BadInput(format!("{}: {}: {problem}", path.display(), tensor.name))
        };
        match self {
            Self::Shard(file) => {
                let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(out));
                read.map_err(|error| match error.kind() {
                    ErrorKind::UnexpectedEof => {
                        bad(&"the file ends in it; it became shorter while it was read, or is truncated")
                    }
                    _ => Error::reading(path, &error),
                })
            }
            Self::Gguf(store) => {
                let mut offset = offset;
                for part in out.chunks_mut(store.max_tile()) {
                    store.load(Span { offset, len: part.len() }, None).map_err(|error| bad(&error))?;
                    part.copy_from_slice(store.tile());
                    offset += part.len() as u64;
                }
                Ok(())
            }
        }
    }
}

/// How the rows of a tensor are taken over.
struct Rows {
    from: Format,
    to: Format,
    /// Values in a row.
    len: usize,
    source_bytes: usize,
    target_bytes: usize,
    count: usize,
    in_a_piece: usize,
    /// Rows of a head, where its halves are to be interleaved.
    head: Option<usize>,
}

impl Rows {
    fn of(tensor: &SourceTensor, to: Format) -> Result<Self, Error> {
        let count = tensor.dims.iter().skip(1).try_fold(1u64, |n, dim| n.checked_mul(*dim));
        let sizes = || {
            let len = usize::try_from(*tensor.dims.first()?).ok()?;
            let count = usize::try_from(count?).ok()?;
            Some((len, count, tensor.format.row_bytes(len)?, to.row_bytes(len)?))
        };
        let (len, count, source_bytes, target_bytes) = sizes().ok_or_else(|| {
            let (name, dims) = (&tensor.name, &tensor.dims);
            Error::BadInput(format!("{name}: rows of {dims:?} can't be stored as {to}"))
        })?;
        let head = tensor.interleave.map(|rows| rows as usize);
        let unit = head.unwrap_or(1);
        let units = (PIECE_BYTES / (unit * source_bytes.max(target_bytes)).max(1)).max(1);
        let from = tensor.format;
        Ok(Self { from, to, len, source_bytes, target_bytes, count, in_a_piece: unit * units, head })
    }

    /// Which row of the source becomes row `row`. Hugging Face pairs the elements (i, i + d/2) of a head
    /// for RoPE, GGUF (2i, 2i + 1).
    fn origin(&self, row: usize) -> usize {
        match self.head {
            Some(head) => {
                let (first, within) = (row - row % head, row % head);
                first + within % 2 * (head / 2) + within / 2
            }
            None => row,
        }
    }

    fn convert(&self, raw: &[u8], out: &mut [u8]) -> Result<(), Problem> {
        let rows = out.par_chunks_exact_mut(self.target_bytes.max(1)).enumerate();
        let problems = rows.map_init(
            || vec![0.0; self.len],
            |values, (row, out)| {
                let start = self.origin(row) * self.source_bytes;
                self.convert_row(&raw[start..start + self.source_bytes], values, out)
            },
        );
        // The first, so that the message does not depend on which thread came first.
        problems.find_map_first(Result::err).map_or(Ok(()), Err)
    }

    fn convert_row(&self, raw: &[u8], values: &mut [f32], out: &mut [u8]) -> Result<(), Problem> {
        if self.from == self.to && !is_float(self.from) {
            out.copy_from_slice(raw);
            return Ok(());
        }
        decode(self.from, raw, values).map_err(Problem::Quant)?;
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(Problem::NotFinite(*value));
        }
        if self.from == self.to {
            out.copy_from_slice(raw);
            return Ok(());
        }
        if overflows(self.to, values) {
            return Err(Problem::TooLarge);
        }
        encode(self.to, values, None, out).map_err(|error| match error {
            QuantError::Range { .. } => Problem::TooLarge,
            error => Problem::Quant(error),
        })
    }
}

/// Whether a value would round to infinity.
fn overflows(to: Format, values: &[f32]) -> bool {
    match to {
        Format::F16 => values.iter().any(|value| half::f16::from_f32(*value).is_infinite()),
        Format::BF16 => values.iter().any(|value| half::bf16::from_f32(*value).is_infinite()),
        _ => false,
    }
}

enum Problem {
    NotFinite(f32),
    TooLarge,
    Quant(QuantError),
}

impl Problem {
    fn describe(self, tensor: &SourceTensor, to: Format, path: &Path) -> Error {
        let name = &tensor.name;
        match self {
            Self::NotFinite(found) => {
                let name = format!("{}: {name}", path.display());
                CheckpointError::NotFinite { name, found }.into()
            }
            Self::TooLarge => Error::BadInput(format!(
                "{}: {name} has values that are too large for {to}, expected smaller ones; \
                 give this tensor more room with --tensor-type '{name}=f32'",
                path.display()
            )),
            Self::Quant(error) => Error::BadInput(format!("{}: {name}: {error}", path.display())),
        }
    }
}
