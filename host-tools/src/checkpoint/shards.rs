//! Where the tensors of a checkpoint are: one safetensors file, or several with an index.
//!
//! Only headers are read here. A header's claims are held against the file's length before anything
//! is allocated for them.

use super::{CheckpointError, error::COPY_AGAIN, json::JsonFile};
use safetensors::tensor::{Dtype, Metadata};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

/// The largest header that safetensors allows.
const MAX_HEADER: u64 = 100_000_000;

/// A tensor as it lies in a file.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    /// Index into [`Shards::files`].
    pub file: usize,
    /// Element type.
    pub dtype: Dtype,
    /// Rows first, as PyTorch counts.
    pub shape: Vec<u64>,
    /// First byte, counted from the start of the file.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
}

/// All tensors of a checkpoint.
#[derive(Clone, Debug, Default)]
pub struct Shards {
    /// The safetensors files.
    pub files: Vec<PathBuf>,
    /// Tensors by name.
    pub tensors: HashMap<String, StoredTensor>,
}

impl Shards {
    /// Reads the headers of `model.safetensors`, or of the shards that `model.safetensors.index.json`
    /// names.
    ///
    /// # Errors
    /// [`CheckpointError`], naming the file.
    pub(crate) fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let mut shards = Self::default();
        let whole = dir.join("model.safetensors");
        if whole.exists() {
            shards.add(whole)?;
            return Ok(shards);
        }
        match JsonFile::read(dir.join("model.safetensors.index.json"))? {
            Some(index) => shards.add_indexed(dir, &index)?,
            None => {
                let expected = "this file, or model.safetensors.index.json and its shards";
                let advice = "load and save models of other formats (.bin, .pth) with transformers";
                return Err(CheckpointError::MissingFile { path: whole, expected, advice });
            }
        }
        Ok(shards)
    }

    fn add_indexed(&mut self, dir: &Path, index: &JsonFile) -> Result<(), CheckpointError> {
        let fail = |detail| CheckpointError::Index { path: index.path().to_owned(), detail };
        let expected = "an object: tensor names and file names";
        let value = index.get("weight_map").ok_or_else(|| index.missing("weight_map", expected))?;
        let map = value.as_object().ok_or_else(|| index.bad("weight_map", value, expected))?;
        let mut wanted = BTreeMap::new();
        for (name, file) in map {
            let file = file.as_str().filter(|file| is_plain_name(file));
            let file = file.ok_or_else(|| {
                fail(format!("{name} is said to be in {}, which is not a file of this folder", map[name]))
            })?;
            wanted.insert(name.as_str(), file);
        }
        let files: BTreeSet<&str> = wanted.values().copied().collect();
        for file in files {
            self.add(dir.join(file))?;
        }
        for (name, file) in wanted {
            let found = self.tensors.get(name).and_then(|tensor| self.files.get(tensor.file));
            if found.is_none_or(|found| found.file_name() != Some(file.as_ref())) {
                return Err(fail(format!("{name} is said to be in {file}, but is not there")));
            }
        }
        Ok(())
    }

    fn add(&mut self, path: PathBuf) -> Result<(), CheckpointError> {
        let header = read_header(&path)?;
        let file = self.files.len();
        for (name, info) in header.metadata.tensors() {
            let (start, end) = info.data_offsets;
            let tensor = StoredTensor {
                file,
                dtype: info.dtype,
                shape: info.shape.iter().map(|n| *n as u64).collect(),
                offset: header.data_start + start as u64,
                len: (end - start) as u64,
            };
            if let Some(earlier) = self.tensors.insert(name.clone(), tensor) {
                let detail = format!("{name} is in {} too", self.files[earlier.file].display());
                return Err(CheckpointError::Index { path, detail });
            }
        }
        self.files.push(path);
        Ok(())
    }
}

/// A file name without any folder, so that an index can't point elsewhere.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!(parts.next(), Some(std::path::Component::Normal(_))) && parts.next().is_none()
}

struct Header {
    metadata: Metadata,
    data_start: u64,
}

fn read_header(path: &Path) -> Result<Header, CheckpointError> {
    let fail = |detail| CheckpointError::Header { path: path.to_owned(), detail };
    let io_error = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => CheckpointError::MissingFile {
            path: path.to_owned(),
            expected: "every shard that the index names",
            advice: COPY_AGAIN,
        },
        ErrorKind::UnexpectedEof => fail("the file ends inside its header".to_owned()),
        _ => CheckpointError::Io { path: path.to_owned(), source },
    };
    let mut file = File::open(path).map_err(io_error)?;
    let file_len = file.metadata().map_err(io_error)?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(io_error)?;
    let length = u64::from_le_bytes(length);
    let room = file_len.saturating_sub(8).min(MAX_HEADER);
    if length > room {
        return Err(fail(format!("the header claims {length} bytes, but at most {room} are there")));
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact(&mut bytes).map_err(io_error)?;
    let metadata = parse_header(&bytes).map_err(fail)?;
    let data_start = length + 8;
    let data_end = data_start.saturating_add(metadata.data_len() as u64);
    if data_end != file_len {
        return Err(fail(format!("the header describes {data_end} bytes, but the file has {file_len}")));
    }
    Ok(Header { metadata, data_start })
}

/// The JSON of a safetensors header, without the length before it: tensors that follow each other
/// without holes, each as long as its shape and type say.
///
/// # Errors
/// A text that says what is wrong.
pub fn parse_header(json: &[u8]) -> Result<Metadata, String> {
    serde_json::from_slice(json).map_err(|error| format!("the header is malformed: {error}"))
}
