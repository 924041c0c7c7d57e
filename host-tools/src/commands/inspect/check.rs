//! `--check`: reads every byte of every tensor, compares checksums where the file has any, and looks
//! for values that are no numbers.

use super::summary::{Summary, TensorInfo};
use crate::error::Error;
use crate::interrupt;
use crate::open::checked;
use crate::progress;
use crate::store::HostStore;
use ouro_quant::Format;
use ouro_runtime::store::{Span, Store, StoreError};
use rayon::prelude::*;
use serde::Serialize;
use std::path::Path;

/// About as many bytes are read and decoded at once.
const PIECE: usize = 1 << 20;

/// What a check found.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) ok: bool,
    /// The first thing that is wrong.
    pub(super) error: Option<String>,
    /// Bytes read, if all is well.
    pub(super) bytes: u64,
    /// Tensors of types that are only read here, since their values can't be decoded.
    pub(super) not_decoded: Vec<String>,
}

/// Checks the weights in order of their place in the file, then what the summary says of model and
/// tokenizer.
///
/// # Errors
/// If the file can't be read, or was interrupted. What is wrong with it is no error but an outcome.
pub(super) fn check(path: &Path, summary: &Summary) -> Result<Outcome, Error> {
    let not_decoded = |tensor: &&TensorInfo| Format::from_id(tensor.type_id).is_none();
    let mut outcome = Outcome {
        ok: true,
        error: None,
        bytes: summary.tensor_bytes,
        not_decoded: summary.tensors.iter().filter(not_decoded).map(|tensor| tensor.name.clone()).collect(),
    };
    let model = || summary.broken.then(|| summary.why_not.clone()).flatten();
    let tokenizer = || summary.tokenizer.as_ref().filter(|tokenizer| tokenizer.broken)?.why_not.clone();
    outcome.error = match check_tensors(path, &summary.tensors)? {
        Some(fault) => Some(fault),
        None => model().or_else(tokenizer),
    };
    outcome.ok = outcome.error.is_none();
    Ok(outcome)
}

/// The first fault in any tensor.
fn check_tensors(path: &Path, tensors: &[TensorInfo]) -> Result<Option<String>, Error> {
    interrupt::watch();
    let file = checked(path, PIECE)?;
    let mut pieces: Vec<Piece<'_>> = tensors.iter().flat_map(Piece::of).collect();
    pieces.sort_by_key(|piece| piece.offset);
    let bytes = tensors.iter().map(|tensor| tensor.bytes).sum();
    let template = "checking {bar:30} {percent}% of {total_bytes}, {bytes_per_sec}, {eta} left";
    let progress = progress::bar(bytes, template);
    let worker = || file.another().map(|store| Worker { store, values: Vec::new() });
    let found = pieces.par_iter().map_init(worker, |worker, piece| {
        if interrupt::is_set() {
            return Some(Err(Error::Interrupted));
        }
        let fault = match worker {
            Ok(worker) => {
                worker.fault(piece).map_err(|error| Error::BadInput(format!("{}: {error}", path.display())))
            }
            Err(error) => Err(Error::reading(path, error)),
        };
        let fault = fault.transpose();
        progress.inc(piece.bytes as u64);
        fault
    });
    let found = found.find_map_first(|fault| fault).transpose();
    progress.finish_and_clear();
    found
}

/// Some whole blocks of a tensor, or, where we can't decode it, some bytes.
struct Piece<'t> {
    tensor: &'t TensorInfo,
    format: Option<Format>,
    offset: u64,
    bytes: usize,
}

impl<'t> Piece<'t> {
    fn of(tensor: &'t TensorInfo) -> impl Iterator<Item = Self> {
        let format = Format::from_id(tensor.type_id);
        let block = format.map_or(1, Format::block_bytes);
        let step = PIECE / block * block;
        let starts = (0..tensor.bytes).step_by(step);
        starts.map(move |start| {
            let bytes = (tensor.bytes - start).min(step as u64) as usize;
            Self { tensor, format, offset: tensor.offset + start, bytes }
        })
    }
}

/// What a thread reads and decodes with.
struct Worker {
    store: HostStore,
    values: Vec<f32>,
}

impl Worker {
    fn fault(&mut self, piece: &Piece<'_>) -> Result<Option<String>, StoreError> {
        match self.store.load(Span { offset: piece.offset, len: piece.bytes }, None) {
            Err(error @ StoreError::Corrupt { .. }) => {
                return Ok(Some(format!("tensor {}: {error}", piece.tensor.name)));
            }
            other => other?,
        }
        let Some(format) = piece.format else { return Ok(None) };
        self.values.resize(piece.bytes / format.block_bytes() * format.block_len(), 0.0);
        if let Err(error) = ouro_quant::decode(format, self.store.tile(), &mut self.values) {
            return Ok(Some(format!("tensor {}: {error}", piece.tensor.name)));
        }
        let bad = self.values.iter().position(|value| !value.is_finite());
        Ok(bad.map(|index| describe(piece, format, index, self.values[index])))
    }
}

/// Where the value number `index` of a piece is, and what.
fn describe(piece: &Piece<'_>, format: Format, index: usize, value: f32) -> String {
    let TensorInfo { name, shape, offset, .. } = piece.tensor;
    let block = index / format.block_len();
    let at = piece.offset + (block * format.block_bytes()) as u64;
    let before = (piece.offset - offset) / format.block_bytes() as u64 * format.block_len() as u64;
    let number = before + index as u64;
    let row_len = shape.first().copied().unwrap_or(1);
    let (row, column) = (number / row_len, number % row_len);
    let place = match format.block_len() {
        1 => format!("row {row}, column {column}"),
        len => format!("row {row}, block {}", column / len as u64),
    };
    format!(
        "tensor {name}: {place} ({format}, at offset {at}) holds {value}, expected finite numbers; \
         the file is damaged: copy or convert it again"
    )
}
