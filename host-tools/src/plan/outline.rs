//! A model file without weights: its header, and as many zeros as there would be weights. Whatever
//! plans reads it as it would read the file; nothing is written, and what is not looked at takes no
//! memory.

use crate::checksums;
use crate::commands::random::{Like, source};
use crate::error::Error;
use crate::gguf_writer::GgufWriter;
use crate::quantize::{ALIGNMENT, FileType, Source, choose, describe_file, infos};
use crate::store::{HostStore, Verify};
use std::path::Path;

/// A header, and the length of the file that it would begin.
#[derive(Debug)]
pub struct Outline {
    header: Vec<u8>,
    file: u64,
}

impl Outline {
    /// What `ouro random` would write.
    ///
    /// # Errors
    /// Only by a mistake of ours.
    pub fn like(like: Like, file_type: FileType) -> Result<Self, Error> {
        Self::of(&source(like, file_type)?, file_type)
    }

    /// What `ouro quantize` would make of a GGUF; nothing for `pico`, which is no file.
    ///
    /// # Errors
    /// [`Error::BadInput`].
    pub fn quantized(path: &Path, file_type: FileType) -> Result<Self, Error> {
        let mut source = Source::from_gguf(path)?;
        describe_file(&mut source.metadata, file_type);
        source.order_by_execution();
        Self::of(&source, file_type)
    }

    fn of(source: &Source, file_type: FileType) -> Result<Self, Error> {
        let choices = choose(&source.tensors, source.layers, Some(file_type), &[])?;
        let infos = infos(source, &choices)?;
        let metadata = checksums::with_room(&source.metadata, &infos, ALIGNMENT);
        let mut header = Vec::new();
        GgufWriter::new(&mut header, &metadata, &infos, ALIGNMENT).map_err(anyhow::Error::new)?;
        let weights: u64 = infos.iter().map(|info| info.len.next_multiple_of(ALIGNMENT.into())).sum();
        let file = header.len() as u64 + weights;
        Ok(Self { header, file })
    }

    /// A store over it. Zeros have no checksums, so none are looked at.
    ///
    /// # Errors
    /// [`Error::DoesNotFit`] if the system has no room for so many addresses.
    pub fn store(&self) -> Result<HostStore, Error> {
        let store = HostStore::of_outline(&self.header, self.file);
        let store = store.map_err(|error| {
            Error::DoesNotFit(format!("{} bytes of addresses for the model's outline: {error}", self.file))
        })?;
        Ok(store.verifying(Verify::Never))
    }
}
