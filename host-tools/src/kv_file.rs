//! Files that a conversation is kept in: the KV cache, and what was said.

use crate::error::Error;
use crate::open::Opened;
use crate::quantize::check_out;
use crate::store::HostStore;
use crate::template::Message;
use crate::temporary::{keep, temporary_file};
use ouro_runtime::session::{HEADER, Identity, RestoreError, Saved, Session, StateError};
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Cursor, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Where conversations are kept.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "State")]
pub struct StateArgs {
    /// Go on where --save-kv stopped: same model, same KV settings. Nothing is read again; what was left of
    /// a budget is what is left, if it is the same one
    #[arg(long, value_name = "FILE")]
    pub load_kv: Option<PathBuf>,
    /// Keep the KV cache and the conversation in this file. It is the old file or the new one,
    /// whatever happens while it is written
    #[arg(long, value_name = "FILE")]
    pub save_kv: Option<PathBuf>,
}

impl StateArgs {
    /// The file to go on from, if there is one.
    ///
    /// # Errors
    /// [`Error::BadInput`]; [`Error::Usage`] if there can be no file where the state shall go.
    pub fn open(&self) -> Result<Option<KvFile>, Error> {
        if let Some(path) = &self.save_kv {
            check_out(path)?;
        }
        self.load_kv.as_deref().map(KvFile::open).transpose()
    }

    /// Which model a state belongs to, if any is loaded or saved.
    ///
    /// # Errors
    /// [`Error::BadInput`] if the model's file can't be read.
    pub fn identity(&self, store: &mut HostStore, opened: &Opened<'_>) -> Result<Option<Identity>, Error> {
        if self.load_kv.is_none() && self.save_kv.is_none() {
            return Ok(None);
        }
        let identity = Identity::of(store, &opened.gguf, &opened.model);
        identity.map(Some).map_err(|error| Error::BadInput(error.to_string()))
    }

    /// Saves, if that was asked for.
    ///
    /// # Errors
    /// [`Error::DoesNotFit`] if the disk is full, [`Error::Other`] if it can't be written.
    pub fn save(
        &self,
        session: &mut Session<'_>,
        identity: Option<Identity>,
        note: &Note,
    ) -> Result<(), Error> {
        let (Some(path), Some(identity)) = (&self.save_kv, identity) else { return Ok(()) };
        save(path, session, &identity, note).map_err(|error| Error::writing(path, error))
    }
}

fn save(path: &Path, session: &mut Session<'_>, identity: &Identity, note: &Note) -> io::Result<()> {
    let mut temporary = temporary_file(path)?;
    let mut writer = BufWriter::new(temporary.as_file_mut());
    let note = serde_json::to_vec(note)?;
    session.save(identity, &note, |piece| writer.write_all(piece))?;
    writer.flush()?;
    drop(writer);
    keep(temporary, path).map(drop)
}

/// What a file says beside the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Role and content of each message of a conversation.
    pub messages: Vec<(String, String)>,
    /// What the model has seen of it; empty if only the beginning is in the cache.
    pub seen: String,
    /// The last token of the last answer, which is not in the cache.
    pub last: Option<u32>,
    /// Where the sampler's random numbers stand.
    pub sampler: u64,
}

impl Note {
    /// A note about a conversation.
    #[must_use]
    pub fn new(messages: &[Message], seen: &str, last: Option<u32>, sampler: u64) -> Self {
        let messages = messages.iter().map(|message| (message.role.to_owned(), message.content.clone()));
        Self { messages: messages.collect(), seen: seen.to_owned(), last, sampler }
    }

    /// The conversation.
    ///
    /// # Errors
    /// [`Error::BadInput`] for a role that does not exist.
    pub fn messages(&self) -> Result<Vec<Message>, Error> {
        let message = |(role, content): &(String, String)| {
            let known = ["system", "user", "assistant"].into_iter().find(|known| known == role);
            let role = known.ok_or_else(|| Error::BadInput(format!("no role is called {role}")))?;
            Ok(Message { role, content: content.clone() })
        };
        self.messages.iter().map(message).collect()
    }

    /// Whether the cache holds only what the conversation begins with.
    #[must_use]
    pub fn is_beginning(&self) -> bool {
        self.seen.is_empty() && !self.messages.is_empty()
    }
}

/// A file whose beginning was read.
#[derive(Debug)]
pub struct KvFile {
    path: PathBuf,
    /// The header, the note and the ids.
    head: Vec<u8>,
    rest: BufReader<File>,
    /// What it says beside the cache.
    pub note: Note,
    /// The ids of the positions in the cache.
    pub ids: Vec<u32>,
}

impl KvFile {
    fn open(path: &Path) -> Result<Self, Error> {
        let reading = |error: io::Error| bad_read(path, &error);
        let file = File::open(path).map_err(|error| Error::reading(path, &error))?;
        let len = file.metadata().map_err(reading)?.len();
        let mut rest = BufReader::new(file);
        let mut header = [0; HEADER];
        rest.read_exact(&mut header).map_err(reading)?;
        let Saved { positions, note } = Saved::read(&header).map_err(|error| bad_state(path, error))?;
        let follows = positions.saturating_mul(4).saturating_add(note.into());
        if follows > len {
            return Err(bad_read(path, &ErrorKind::UnexpectedEof.into()));
        }
        let mut head = header.to_vec();
        head.resize(HEADER + follows as usize, 0);
        rest.read_exact(&mut head[HEADER..]).map_err(reading)?;
        let (note, ids) = head[HEADER..].split_at(note as usize);
        let note = serde_json::from_slice(note).map_err(|_| bad_state(path, StateError::Damaged))?;
        let ids = ids.as_chunks().0.iter().map(|id| u32::from_ne_bytes(*id)).collect();
        Ok(Self { path: path.to_owned(), head, rest, note, ids })
    }

    /// Fills a session's cache.
    ///
    /// # Errors
    /// [`Error::BadInput`] with the reason why not, [`Error::DoesNotFit`] if the context is too small.
    pub fn restore(self, session: &mut Session<'_>, identity: &Identity) -> Result<(), Error> {
        let Self { path, head, rest, .. } = self;
        let mut reader = Cursor::new(&head).chain(rest);
        let mut note = vec![0; head.len()];
        let restored = session.restore(identity, &mut note, |piece| reader.read_exact(piece));
        restored.map_err(|error| match error {
            RestoreError::Source(error) => bad_read(&path, &error),
            RestoreError::State(error) => bad_state(&path, error),
        })?;
        match reader.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(bad_state(&path, StateError::Damaged)),
            Err(error) => Err(bad_read(&path, &error)),
        }
    }
}

fn bad_read(path: &Path, error: &io::Error) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => bad(path, "truncated: the file ends before the cache does; begin anew"),
        _ => Error::reading(path, error),
    }
}

fn bad_state(path: &Path, error: StateError) -> Error {
    match error {
        StateError::Context { .. } => Error::DoesNotFit(format!("{}: {error} (--ctx)", path.display())),
        _ => bad(path, error),
    }
}

fn bad(path: &Path, error: impl Display) -> Error {
    Error::BadInput(format!("{}: {error}", path.display()))
}
