//! Stores on the host: a whole file in memory, or one read tile by tile into a block buffer.

mod file;
mod pages;
mod reader;

pub use file::FileStore;
pub(crate) use pages::{PAGE, Pages};

use crate::error::Error;
use clap::ValueEnum;
#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::{Mmap, MmapMut, MmapOptions};
use ouro_runtime::gguf::Gguf;
use ouro_runtime::model::{ModelError, check_metadata, checksums};
use ouro_runtime::store::{
    Checked, MemoryStore, PIECE, Pin, Pinned, Retry, Span, Store, StoreCounters, StoreError, Sums,
};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What `--model` calls the model that is part of this program.
pub const BUILT_IN: &str = "pico";

/// Ouro-Pico; `host-tools/scripts/make-pico.sh` makes it.
static PICO: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/ouro-pico/ouro-pico-Q4_0.gguf"));

/// Whether this names the built-in model. A file of the same name is `./pico`.
#[must_use]
pub fn is_built_in(path: &Path) -> bool {
    path == Path::new(BUILT_IN) && path.as_os_str().len() == BUILT_IN.len()
}

/// Where weights live while a model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    /// The whole file is read into memory first.
    #[default]
    Memory,
    /// Weights are read tile by tile, in every loop, into one block buffer.
    File,
}

/// The bytes of a whole file, which any number of stores may read.
#[derive(Clone, Debug)]
pub enum Bytes {
    /// Part of this program.
    Static(&'static [u8]),
    /// Made here.
    Shared(Arc<Vec<u8>>),
    /// Read from a file.
    Mapped(Arc<Mmap>),
}

impl Bytes {
    /// All of a file, in huge pages where the system has them: weights are read from end to end,
    /// and with small pages looking up addresses takes as long as fetching what is there.
    fn read(path: &Path) -> std::io::Result<Self> {
        let mut file = File::open(path)?;
        let len = usize::try_from(file.metadata()?.len()).map_err(|_| ErrorKind::OutOfMemory)?;
        if len == 0 {
            // Or a pipe, whose length nobody knows.
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            return Ok(bytes.into());
        }
        let mut map = huge_pages(len)?;
        file.read_exact(&mut map)?;
        Ok(Self::Mapped(Arc::new(map.make_read_only()?)))
    }
}

/// Memory in huge pages where the system has them; it is taken when it is first written to.
fn huge_pages(len: usize) -> std::io::Result<MmapMut> {
    let map = MmapMut::map_anon(len)?;
    #[cfg(target_os = "linux")]
    let _ = map.advise(Advice::HugePage); // slower without, but no worse
    Ok(map)
}

/// What pinned weights lie in.
#[derive(Debug, Default)]
struct PinMemory(Option<MmapMut>);

impl AsRef<[u8]> for PinMemory {
    fn as_ref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl AsMut<[u8]> for PinMemory {
    fn as_mut(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().unwrap_or_default()
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Shared(bytes) => bytes,
            Self::Mapped(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Shared(Arc::new(bytes))
    }
}

/// When the checksums of a file, if it has any, are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Verify {
    /// When a part of the file is read for the first time.
    #[default]
    First,
    /// Every time that it is read.
    Always,
    /// Never.
    Never,
}

/// How often a failed read is repeated, and for how long to wait before.
const RETRIES: u32 = 3;
const RETRY_DELAY: Duration = Duration::from_millis(20);

fn wait(retry: u32) {
    std::thread::sleep(RETRY_DELAY * retry);
}

/// A folder can be opened, but not read.
///
/// # Errors
/// [`Error::BadInput`], with the way from a checkpoint folder to a file.
pub(crate) fn refuse_folder(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Err(Error::BadInput(format!(
            "{} is a folder, expected a GGUF file; `ouro quantize` makes one from a checkpoint folder",
            path.display()
        )));
    }
    Ok(())
}

/// A store with the checksums of its file; without any at first.
type WithSums<S> = Checked<S, Arc<[u32]>, Vec<u8>>;
/// What a file goes through on its way from the disk.
type Streamed = Pinned<Retry<WithSums<FileStore>, fn(u32)>, Vec<Pin>, PinMemory>;

/// A model file on the host.
#[derive(Debug)]
pub struct HostStore {
    medium: Medium,
    verify: Verify,
}

#[derive(Debug)]
enum Medium {
    Memory(WithSums<MemoryStore<Bytes>>),
    File(Box<Streamed>),
}

/// Tiles of at most this size are too small to be checked: too much would be read beside them.
const SMALLEST_CHECKED: usize = 32 << 10;

/// The block buffer of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// The largest tile.
    pub max_tile: usize,
    /// Bytes of memory, those for small reads included.
    pub bytes: usize,
}

impl From<FileStore> for HostStore {
    fn from(store: FileStore) -> Self {
        let checked = Checked::new(store, Sums::default(), Vec::new());
        let wait: fn(u32) = wait;
        let retry = Retry::new(checked, RETRIES, wait);
        let medium = Medium::File(Box::new(Pinned::new(retry, Vec::new(), PinMemory::default())));
        Self { medium, verify: Verify::default() }
    }
}

impl HostStore {
    /// Opens a file, or the built-in model, which is always in memory; a tile of a file that is not
    /// has up to `max_tile` bytes, half of the block buffer.
    ///
    /// # Errors
    /// [`Error::BadInput`] if it can't be read.
    pub fn open(path: &Path, kind: StoreKind, max_tile: usize) -> Result<Self, Error> {
        if is_built_in(path) {
            return Ok(Self::of(Bytes::Static(PICO)));
        }
        refuse_folder(path)?;
        let reading = |error| Error::reading(path, &error);
        match kind {
            StoreKind::Memory => Ok(Self::of(Bytes::read(path).map_err(reading)?)),
            StoreKind::File => Ok(FileStore::open(path, max_tile).map_err(reading)?.into()),
        }
    }

    /// A file that was made in memory.
    #[must_use]
    pub fn of_bytes(bytes: Vec<u8>) -> Self {
        Self::of(bytes.into())
    }

    /// A file that begins with these bytes and has zeros up to its length; what is not read takes no
    /// memory.
    ///
    /// # Errors
    /// If the system has no room for it.
    pub(crate) fn of_outline(header: &[u8], len: u64) -> std::io::Result<Self> {
        let len = usize::try_from(len).map_err(|_| ErrorKind::OutOfMemory)?;
        let mut map = MmapOptions::new().len(len).no_reserve_swap().map_anon()?;
        map.get_mut(..header.len()).ok_or(ErrorKind::InvalidInput)?.copy_from_slice(header);
        Ok(Self::of(Bytes::Mapped(Arc::new(map.make_read_only()?))))
    }

    /// A file of this length that is made in memory, in huge pages where the system has them.
    ///
    /// # Errors
    /// [`Error::DoesNotFit`], or what `fill` gives.
    pub(crate) fn filled(len: u64, fill: impl FnOnce(&mut [u8]) -> Result<(), Error>) -> Result<Self, Error> {
        let map = usize::try_from(len).map_err(|_| ErrorKind::OutOfMemory.into()).and_then(huge_pages);
        let full = |error| Error::DoesNotFit(format!("{len} bytes of memory: {error}"));
        let mut map = map.map_err(full)?;
        fill(&mut map)?;
        Ok(Self::of(Bytes::Mapped(Arc::new(map.make_read_only().map_err(full)?))))
    }

    fn of(bytes: Bytes) -> Self {
        let checked = Checked::new(MemoryStore::new(bytes), Sums::default(), Vec::new());
        Self { medium: Medium::Memory(checked), verify: Verify::default() }
    }

    /// The block buffer of a store over a file of this length that is opened with `max_tile`, once it
    /// has checksums, if it does.
    #[must_use]
    pub fn buffer(file: u64, max_tile: usize, has_sums: bool) -> Buffer {
        let largest = FileStore::largest_tile(file, max_tile);
        let ends = if has_sums { 2 * (PIECE - 1) } else { 0 };
        Buffer { max_tile: largest.saturating_sub(ends), bytes: FileStore::memory_bytes(largest) }
    }

    /// Bytes of the block buffer; none if all of the file is in memory.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        match &self.medium {
            Medium::Memory(_) => 0,
            Medium::File(store) => FileStore::memory_bytes(store.inner().inner().inner().max_tile()),
        }
    }

    /// Whether weights are compared with checksums.
    #[must_use]
    pub fn has_sums(&self) -> bool {
        let sums = match &self.medium {
            Medium::Memory(store) => store.sums(),
            Medium::File(store) => store.inner().inner().sums(),
        };
        !sums.sums.is_empty()
    }

    /// The same store, whose checksums will be looked at as said.
    #[must_use]
    pub fn verifying(self, verify: Verify) -> Self {
        Self { verify, ..self }
    }

    /// Another reader of the same file, for another thread; it pins nothing.
    ///
    /// # Errors
    /// If the system allows no more open files.
    pub fn another(&self) -> std::io::Result<Self> {
        let (mut other, sums) = match &self.medium {
            Medium::Memory(store) => (Self::of(store.inner().bytes().clone()), store.sums()),
            Medium::File(store) => {
                let checked = store.inner().inner();
                (checked.inner().another()?.into(), checked.sums())
            }
        };
        other.verify = self.verify;
        other.check_by(sums.clone());
        Ok(other)
    }

    /// Checks what was read so far, and prepares for reading weights: from now on they are checked, too,
    /// and past the page cache.
    pub(crate) fn begin_weights(&mut self, gguf: &Gguf<'_>) -> Result<(), ModelError> {
        let sums = match self.verify {
            Verify::Never => None,
            Verify::First | Verify::Always => {
                check_metadata(self, gguf)?;
                checksums(self, gguf)?
            }
        };
        if let Medium::File(store) = &mut self.medium {
            store.inner_mut().inner_mut().inner_mut().weights_begin(gguf.data_offset());
        }
        let Some(sums) = sums else { return Ok(()) };
        let mut values = vec![0; sums.count as usize];
        sums.read_u32(self, &mut values)?;
        if self.max_tile() < SMALLEST_CHECKED {
            let span = Span { offset: gguf.data_offset(), len: SMALLEST_CHECKED };
            return Err(StoreError::TooLarge { span, max: self.max_tile() }.into());
        }
        self.check_by(Sums { offset: gguf.data_offset(), sums: values.into() });
        Ok(())
    }

    fn check_by(&mut self, sums: Sums<Arc<[u32]>>) {
        let verified = match self.verify {
            Verify::First => vec![0; sums.sums.len().div_ceil(8)],
            Verify::Always | Verify::Never => Vec::new(),
        };
        match &mut self.medium {
            Medium::Memory(store) => store.check(sums, verified),
            Medium::File(store) => store.inner_mut().inner_mut().check(sums, verified),
        }
    }

    /// Keeps these tiles in memory once they were read; they have to be in order of offset. Nothing
    /// happens if all of the file is in memory.
    pub(crate) fn pin(&mut self, tiles: &[Span]) -> std::io::Result<()> {
        if let Medium::File(store) = &mut self.medium {
            let bytes = tiles.iter().map(|tile| tile.len).sum();
            let memory = if bytes > 0 { Some(huge_pages(bytes)?) } else { None };
            store.pin(tiles.iter().copied().map(Pin::new).collect(), PinMemory(memory));
        }
        Ok(())
    }

    /// Bytes that are pinned.
    #[must_use]
    pub fn pinned_bytes(&self) -> u64 {
        match &self.medium {
            Medium::Memory(_) => 0,
            Medium::File(store) => store.pinned().1,
        }
    }

    /// Where weights are read from, in a word.
    #[must_use]
    pub fn medium(&self) -> &'static str {
        match &self.medium {
            Medium::Memory(_) => "memory",
            Medium::File(store) if store.inner().inner().inner().is_direct() => "file, direct reads",
            Medium::File(_) => "file, through the page cache",
        }
    }
}

#[deny(clippy::missing_trait_methods)] // what is not forwarded would be switched off
impl Store for HostStore {
    fn len(&self) -> u64 {
        match &self.medium {
            Medium::Memory(store) => store.len(),
            Medium::File(store) => store.len(),
        }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn max_tile(&self) -> usize {
        match &self.medium {
            Medium::Memory(store) => store.max_tile(),
            Medium::File(store) => store.max_tile(),
        }
    }

    fn load(&mut self, want: Span, next: impl IntoIterator<Item = Span>) -> Result<(), StoreError> {
        match &mut self.medium {
            Medium::Memory(store) => store.load(want, next),
            Medium::File(store) => store.load(want, next),
        }
    }

    fn discard(&mut self) {
        match &mut self.medium {
            Medium::Memory(store) => store.discard(),
            Medium::File(store) => store.discard(),
        }
    }

    fn current(&self) -> Span {
        match &self.medium {
            Medium::Memory(store) => store.current(),
            Medium::File(store) => store.current(),
        }
    }

    fn tile(&self) -> &[u8] {
        match &self.medium {
            Medium::Memory(store) => store.tile(),
            Medium::File(store) => store.tile(),
        }
    }

    fn fetched(&self, span: Span) -> u64 {
        match &self.medium {
            Medium::Memory(store) => store.fetched(span),
            Medium::File(store) => store.fetched(span),
        }
    }

    fn fetched_again(&self, span: Span) -> u64 {
        match &self.medium {
            Medium::Memory(store) => store.fetched_again(span),
            Medium::File(store) => store.fetched_again(span),
        }
    }

    fn reads_ahead(&self) -> usize {
        match &self.medium {
            Medium::Memory(store) => store.reads_ahead(),
            Medium::File(store) => store.reads_ahead(),
        }
    }

    fn counters(&self) -> StoreCounters {
        match &self.medium {
            Medium::Memory(store) => store.counters(),
            Medium::File(store) => store.counters(),
        }
    }
}
