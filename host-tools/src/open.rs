//! Opening a model on the host: the store, and the memory that arenas are carved from.

use crate::error::Error;
use crate::store::{HostStore, PAGE, Pages, StoreKind};
use ouro_runtime::arena::Arena;
use ouro_runtime::gguf::{Gguf, GgufError};
use ouro_runtime::model::{Model, ModelError, check_metadata};
use ouro_runtime::session::{Session, SessionError, Settings};
use ouro_runtime::store::{PIECE, StoreError};
use ouro_runtime::text::{TableError, TextError, Tokenizer};
use std::fmt::Display;
use std::path::Path;

/// Memory for one arena, of exactly the size that was asked for; in huge pages where the system has them, as
/// looking up addresses in small ones takes longer than fetching a long cache's K and V from there.
#[derive(Debug, Default)]
pub struct Memory(Pages);

impl Memory {
    /// An arena of `bytes` bytes.
    ///
    /// # Errors
    /// [`Error::DoesNotFit`] if the machine has not that much.
    pub fn arena(&mut self, bytes: usize) -> Result<Arena<'_>, Error> {
        self.0 = Pages::new(bytes.div_ceil(PAGE)).map_err(|_| {
            Error::DoesNotFit(format!(
                "an arena of {bytes} bytes does not fit in memory; lower --ctx or --kv-type"
            ))
        })?;
        Ok(Arena::new(self.0.bytes_mut().get_mut(..bytes).unwrap_or_default()))
    }
}

/// The memory behind an [`Opened`] model: lend it, and keep it as long as the model.
#[derive(Debug, Default)]
pub struct Memories {
    directory: Memory,
    model: Memory,
    tokenizer: Memory,
}

/// A model file, checked.
#[derive(Debug)]
pub struct Opened<'m> {
    /// Metadata and the table of tensors.
    pub gguf: Gguf<'m>,
    /// The model.
    pub model: Model<'m>,
    /// Its tokenizer; ids alone can be used with a file that has none that we know.
    pub tokenizer: Result<Tokenizer<'m>, TextError>,
    /// Bytes of arena used by all of them.
    pub arena_bytes: usize,
}

impl<'m> Opened<'m> {
    /// Reads and checks a model file.
    ///
    /// # Errors
    /// [`Error::BadInput`] with the file's name in front.
    pub fn open(path: &Path, store: &mut HostStore, memories: &'m mut Memories) -> Result<Self, Error> {
        let Memories { directory, model: model_memory, tokenizer: tokenizer_memory } = memories;
        let bytes = Gguf::arena_bytes(store).map_err(|error| bad_gguf(path, error))?;
        let mut arena = directory.arena(bytes)?;
        let gguf = Gguf::open(store, &mut arena).map_err(|error| bad_gguf(path, error))?;
        let mut arena_bytes = arena.used();
        store.begin_weights(&gguf).map_err(|error| bad_model(path, error))?;

        let bytes = Model::arena_bytes(store, &gguf).map_err(|error| bad_model(path, error))?;
        let mut arena = model_memory.arena(bytes)?;
        let model = Model::open(store, &gguf, &mut arena).map_err(|error| bad_model(path, error))?;
        arena_bytes += arena.used();

        let tokenizer = match Tokenizer::arena_bytes(store, &gguf) {
            Ok(bytes) => {
                let mut arena = tokenizer_memory.arena(bytes)?;
                let tokenizer = Tokenizer::open(store, &gguf, &mut arena);
                arena_bytes += arena.used();
                tokenizer.and_then(|tokenizer| check_vocabulary(tokenizer, &model))
            }
            Err(error) => Err(error),
        };
        Ok(Self { gguf, model, tokenizer, arena_bytes })
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// [`Error::BadInput`] with what is wrong with the file's.
    pub fn tokenizer(&self, path: &Path) -> Result<&Tokenizer<'m>, Error> {
        self.tokenizer.as_ref().map_err(|error| match error {
            TextError::Store(store) | TextError::Gguf(GgufError::Store(store)) => bad_store(path, *store),
            _ => bad_file(path, error),
        })
    }
}

/// Every token needs its row of the embedding; rows without a token are padding.
pub(crate) fn check_vocabulary<'a>(
    tokenizer: Tokenizer<'a>,
    model: &Model<'_>,
) -> Result<Tokenizer<'a>, TextError> {
    let (tokens, vocab_size) = (tokenizer.vocab_len().into(), model.config().vocab as u64);
    if tokens > vocab_size {
        return Err(TableError::Vocabulary { tokens, vocab_size }.into());
    }
    Ok(tokenizer)
}

/// The directory of a file of any architecture, compared with its checksum if it has one.
///
/// # Errors
/// [`Error::BadInput`] if it is no GGUF, or is damaged.
pub(crate) fn directory<'m>(
    path: &Path,
    store: &mut HostStore,
    memory: &'m mut Memory,
) -> Result<Gguf<'m>, Error> {
    let gguf = unchecked_directory(path, store, memory)?;
    check_metadata(store, &gguf).map_err(|error| bad_model(path, error))?;
    Ok(gguf)
}

fn unchecked_directory<'m>(
    path: &Path,
    store: &mut HostStore,
    memory: &'m mut Memory,
) -> Result<Gguf<'m>, Error> {
    let bytes = Gguf::arena_bytes(store).map_err(|error| bad_gguf(path, error))?;
    Gguf::open(store, &mut memory.arena(bytes)?).map_err(|error| bad_gguf(path, error))
}

/// A file whose weights are checked when they are read, if it has checksums; of any architecture.
///
/// # Errors
/// [`Error::BadInput`] if it is no GGUF.
pub(crate) fn checked(path: &Path, max_tile: usize) -> Result<HostStore, Error> {
    // Room for the rest of the pieces at both ends of a tile.
    let mut store = HostStore::open(path, StoreKind::File, max_tile.saturating_add(2 * PIECE))?;
    let mut memory = Memory::default();
    let gguf = unchecked_directory(path, &mut store, &mut memory)?;
    store.begin_weights(&gguf).map_err(|error| bad_model(path, error))?;
    Ok(store)
}

/// A session in memory of its own.
///
/// # Errors
/// [`Error::Usage`] for settings that make no sense, [`Error::DoesNotFit`] for too large ones.
pub fn session<'s>(
    model: &'s Model<'s>,
    settings: Settings,
    memory: &'s mut Memory,
) -> Result<(Session<'s>, usize), Error> {
    let bytes = Session::arena_bytes(model, &settings).map_err(session_error)?;
    let mut arena = memory.arena(bytes)?;
    let session = Session::new(model, settings, &mut arena).map_err(session_error)?;
    Ok((session, arena.used()))
}

/// How a session's error ends the command.
#[must_use]
pub fn session_error(error: SessionError) -> Error {
    match error {
        SessionError::Setting { .. }
        | SessionError::Token { .. }
        | SessionError::Generated { .. }
        | SessionError::NoGate
        | SessionError::LoopRate { .. }
        | SessionError::ByteRate { .. }
        | SessionError::Prompt { found: 0, .. } => Error::Usage(error.to_string()),
        SessionError::Arena(_) | SessionError::Prompt { .. } | SessionError::Context { .. } => {
            Error::DoesNotFit(error.to_string())
        }
        SessionError::Store(StoreError::TooLarge { .. })
        | SessionError::Weights { error: StoreError::TooLarge { .. }, .. } => {
            Error::DoesNotFit(format!("{error} {BUFFER_ADVICE}"))
        }
        SessionError::NotANumber
        | SessionError::Store(_)
        | SessionError::Weights { .. }
        | SessionError::Quant(_) => Error::BadInput(error.to_string()),
        SessionError::OutOfTime { .. } | SessionError::NothingInFlight | SessionError::Internal => {
            Error::Other(error.into())
        }
    }
}

fn bad_file(path: &Path, error: impl Display) -> Error {
    Error::BadInput(format!("{}: {error}", path.display()))
}

/// How [`StoreError::TooLarge`], which says "enlarge it", goes on here.
const BUFFER_ADVICE: &str = "(--block-buffer), or use --store memory";

fn bad_store(path: &Path, error: StoreError) -> Error {
    match error {
        StoreError::TooLarge { .. } => {
            Error::DoesNotFit(format!("{}: {error} {BUFFER_ADVICE}", path.display()))
        }
        _ => bad_file(path, error),
    }
}

fn bad_gguf(path: &Path, error: GgufError) -> Error {
    match error {
        GgufError::Store(error) => bad_store(path, error),
        _ => bad_file(path, error),
    }
}

fn bad_model(path: &Path, error: ModelError) -> Error {
    match error {
        ModelError::Store(error) => bad_store(path, error),
        ModelError::Gguf(error) => bad_gguf(path, error),
        ModelError::Arena(_) | ModelError::TooLarge { .. } => {
            Error::DoesNotFit(format!("{}: {error}", path.display()))
        }
        _ => bad_file(path, error),
    }
}
