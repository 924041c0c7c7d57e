//! `--out`: a safetensors file whose sizes are known beforehand, filled as values come.

use crate::error::Error;
use serde_json::json;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// T, S, H and V.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) loops: usize,
    pub(super) positions: usize,
    pub(super) hidden: usize,
    pub(super) vocab: usize,
    pub(super) gate: bool,
}

/// Where each tensor begins in the file.
#[derive(Debug)]
struct Starts {
    hidden: u64,
    gate_logits: u64,
    logits: u64,
}

/// `input_ids [S]`, `hidden [T, S, H]`, `gate_logits [T, S]`, `logits [T, S, V]`. The file has its
/// name only once it is whole.
#[derive(Debug)]
pub(super) struct TensorFile {
    path: PathBuf,
    temporary: NamedTempFile,
    sizes: Sizes,
    starts: Starts,
}

impl TensorFile {
    /// A file beside `path` with header and ids.
    pub(super) fn create(path: &Path, sizes: Sizes, ids: &[u32]) -> Result<Self, Error> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".ouro-trace-").suffix(".part");
        // The permissions of any new file, not the private ones of a temporary file.
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let writing = |error| Error::writing(path, error);
        let mut temporary = builder.tempfile_in(folder).map_err(writing)?;

        let (header, starts) = header(sizes);
        let ids = ids.iter().flat_map(|id| i64::from(*id).to_le_bytes());
        let beginning: Vec<u8> = header.into_iter().chain(ids).collect();
        temporary.write_all(&beginning).map_err(writing)?;
        Ok(Self { path: path.to_owned(), temporary, sizes, starts })
    }

    /// Puts the values of one loop at one position, both from 0, into their places.
    pub(super) fn write(
        &mut self,
        t: usize,
        position: usize,
        hidden: &[f32],
        gate_logit: Option<f32>,
        logits: &[f32],
    ) -> Result<(), Error> {
        let row = t * self.sizes.positions + position;
        let Starts { hidden: h, gate_logits, logits: v } = self.starts;
        self.put(h, row, hidden)
            .and_then(|()| self.put(gate_logits, row, gate_logit.as_slice()))
            .and_then(|()| self.put(v, row, logits))
            .map_err(|error| Error::writing(&self.path, error))
    }

    fn put(&self, start: u64, row: usize, values: &[f32]) -> io::Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.temporary.as_file().write_all_at(&bytes, start + row as u64 * bytes.len() as u64)
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> Result<(), Error> {
        let writing = |error| Error::writing(&self.path, error);
        self.temporary.as_file().sync_all().map_err(writing)?;
        self.temporary.persist(&self.path).map_err(|error| writing(error.error))?;
        Ok(())
    }
}

/// The header, padded so that every tensor is aligned to its elements.
fn header(sizes: Sizes) -> (Vec<u8>, Starts) {
    let Sizes { loops, positions, hidden, vocab, gate } = sizes;
    let mut end = 0u64;
    let mut tensor = |dtype: &str, bytes: u64, shape: &[usize]| {
        let start = end;
        end += shape.iter().fold(bytes, |product, dim| product * *dim as u64);
        (start, json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] }))
    };
    let (_, input_ids) = tensor("I64", 8, &[positions]);
    let (hidden, hidden_json) = tensor("F32", 4, &[loops, positions, hidden]);
    let mut json = json!({ "input_ids": input_ids, "hidden": hidden_json });
    let mut gate_logits = 0;
    if gate {
        (gate_logits, json["gate_logits"]) = tensor("F32", 4, &[loops, positions]);
    }
    let logits;
    (logits, json["logits"]) = tensor("F32", 4, &[loops, positions, vocab]);
    let mut text = json.to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    let header = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let data = header.len() as u64;
    let starts = Starts { hidden: data + hidden, gate_logits: data + gate_logits, logits: data + logits };
    (header, starts)
}
