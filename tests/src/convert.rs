//! `ouro quantize` as a function, and what it wrote.

use clap::{Args as _, Command, FromArgMatches as _};
use ouro::error::Error;
use ouro::quantize::{Args, run};
use ouro_runtime::store::SliceStore;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::{Content, Contents, read_contents};

/// Runs `ouro quantize SRC OUT OPTIONS…`.
///
/// # Errors
/// As the command; a command line that clap refuses is [`Error::Usage`].
pub fn quantize(src: &Path, out: &Path, options: &[&str]) -> Result<(), Error> {
    let command = Args::augment_args(Command::new("quantize"));
    let words = ["quantize".as_ref(), src.as_os_str(), out.as_os_str()];
    let words = words.into_iter().chain(options.iter().map(|option| (*option).as_ref()));
    let usage = |error: clap::Error| Error::Usage(error.to_string());
    let matches = command.try_get_matches_from(words).map_err(usage)?;
    run(&Args::from_arg_matches(&matches).map_err(usage)?)
}

/// What a GGUF says, by name.
#[derive(Debug)]
pub struct Written {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// As our reader finds it.
    pub contents: Contents,
}

impl Written {
    /// Reads a file.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let contents = read_contents(&mut SliceStore::new(&bytes)).unwrap();
        Self { bytes, contents }
    }

    /// Metadata by key.
    #[must_use]
    pub fn metadata(&self) -> BTreeMap<String, Content> {
        let entries = self.contents.entries.iter();
        entries.map(|(key, value)| (String::from_utf8(key.clone()).unwrap(), value.clone())).collect()
    }

    /// Names of tensors in file order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.contents.tensors.iter().map(|(name, _)| String::from_utf8(name.clone()).unwrap()).collect()
    }

    /// ggml's type, shape and bytes of each tensor.
    #[must_use]
    pub fn tensors(&self) -> BTreeMap<String, (u32, Vec<u64>, &[u8])> {
        let tensors = self.contents.tensors.iter();
        tensors
            .map(|(name, tensor)| {
                let start = tensor.offset as usize;
                let data = &self.bytes[start..start + tensor.len as usize];
                let dims = tensor.dims[..tensor.n_dims as usize].to_vec();
                (String::from_utf8(name.clone()).unwrap(), (tensor.type_id, dims, data))
            })
            .collect()
    }
}
