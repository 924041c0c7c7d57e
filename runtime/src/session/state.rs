//! Saving a session's cache and restoring it.
//!
//! A saved state is, in this order (integers in the machine's byte order, which the version shows):
//! a header of [`HEADER`] bytes with the hashes of model and tokenizer, all settings that K and V
//! depend on, and what is left of the budget; the caller's note; the ids and the depths of all
//! positions; their K and V, as they are stored; XXH3 of all that. Context and prompt size are no part
//! of it: a conversation may go on in a larger cache.

use super::{Identity, Session};
use crate::kernels::Backend;
use crate::kv::{KvSettings, KvSharing};
use bytemuck::{Pod, Zeroable, bytes_of, bytes_of_mut, must_cast_slice, must_cast_slice_mut};
use core::fmt;
use xxhash_rust::xxh3::Xxh3;

/// Bytes of the header.
pub const HEADER: usize = size_of::<Header>();

const MAGIC: [u8; 8] = *b"OURO KV\n";
const VERSION: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: u32,
    /// Bytes of the caller's note.
    note: u32,
    model: u64,
    tokenizer: u64,
    positions: u64,
    /// Positions that were ever written to the window.
    windowed: u64,
    window: u64,
    layers: u32,
    kv_heads: u32,
    head_dim: u32,
    loops: u32,
    /// Place in [`KvSharing::ALL`].
    sharing: u32,
    /// Bits of a value.
    element: u32,
    /// 0: f32 throughout, 1: integer kernels.
    arithmetic: u32,
    /// Zero.
    rest: u32,
    standing: Standing,
}

/// What was left of a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Standing {
    /// Tells budgets apart.
    pub budget: u64,
    /// Of loops, bytes and energy what the next token finds, without its rate.
    pub levels: [i64; 3],
    /// 0: the policy decides, 1: the fallback begins with the next token, 2: in fallback.
    pub mode: u64,
}

/// What a saved state says of itself at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Saved {
    /// Positions in the cache.
    pub positions: u64,
    /// Bytes of the note, which follows the header. The ids of all positions, of 4 bytes each, follow
    /// the note.
    pub note: u32,
}

impl Saved {
    /// Reads a header, so that memory of the right size can be lent. Whether the state is whole is
    /// known only after it was restored.
    ///
    /// # Errors
    /// [`StateError::NotAState`], [`StateError::Version`].
    pub fn read(header: &[u8; HEADER]) -> Result<Self, StateError> {
        let mut found = Header::zeroed();
        bytes_of_mut(&mut found).iter_mut().zip(header).for_each(|(to, from)| *to = *from);
        found.check_kind()?;
        Ok(Self { positions: found.positions, note: found.note })
    }
}

impl Header {
    fn check_kind(&self) -> Result<(), StateError> {
        if self.magic != MAGIC {
            return Err(StateError::NotAState);
        }
        if self.version != VERSION {
            return Err(StateError::Version { found: self.version });
        }
        Ok(())
    }
}

/// Why a saved state can't be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum StateError {
    /// These bytes are no saved state.
    NotAState,
    /// A version that is unknown here.
    Version {
        /// Which.
        found: u32,
    },
    /// It was computed with another model.
    Model,
    /// Its ids are those of another tokenizer.
    Tokenizer,
    /// A setting differs.
    Setting {
        /// Which.
        setting: &'static str,
        /// Its value in the saved state.
        found: u64,
        /// Its value here.
        expected: u64,
    },
    /// K and V are shared among loops in another way.
    Sharing {
        /// The way of the saved state; `None` if it is unknown.
        found: Option<KvSharing>,
    },
    /// It has more positions than the cache.
    Context {
        /// Positions of the saved state.
        found: u64,
        /// [`Settings::context`](super::Settings::context).
        context: usize,
    },
    /// The note is longer than there is room for.
    Note {
        /// Bytes of the note.
        found: u32,
        /// Bytes of room.
        room: usize,
    },
    /// The bytes are not those that were saved.
    Damaged,
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotAState => f.write_str("this is no saved KV cache"),
            Self::Version { found } => {
                write!(f, "saved in version {found}, expected {VERSION}; begin anew and save again")
            }
            Self::Model => f.write_str("saved with another model; use that one, or begin anew"),
            Self::Tokenizer => f.write_str("saved with another tokenizer; use that file, or begin anew"),
            Self::Setting { setting, found, expected } => {
                write!(f, "saved with {setting} {found}, but here it is {expected}; use the same")
            }
            Self::Sharing { found } => {
                let found = found.map_or("unknown", KvSharing::name);
                write!(f, "saved with K/V sharing {found}, but here it is another; use the same")
            }
            Self::Context { found, context } => {
                write!(
                    f,
                    "{found} positions were saved, but the KV cache holds {context}; enlarge the context"
                )
            }
            Self::Note { found, room } => {
                write!(f, "the note has {found} bytes, but there is room for {room}")
            }
            Self::Damaged => f.write_str("damaged: the bytes are not those that were saved; begin anew"),
        }
    }
}

impl core::error::Error for StateError {}

/// Why nothing was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum RestoreError<E> {
    /// The source ended or failed.
    Source(E),
    /// What it gave can't be used.
    State(StateError),
}

impl<E: fmt::Display> fmt::Display for RestoreError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => error.fmt(f),
            Self::State(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for RestoreError<E> {}

impl Session<'_> {
    /// Writes all that is in the cache, and a note of the caller's, to `sink`, piece by piece. What is
    /// in flight is no part of it.
    ///
    /// # Errors
    /// The sink's.
    pub fn save<E>(
        &mut self,
        identity: &Identity,
        note: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut sum = Xxh3::new();
        let mut write = |bytes: &[u8]| {
            sum.update(bytes);
            sink(bytes)
        };
        let positions = self.kv.len();
        let note = note.get(..u32::MAX as usize).unwrap_or(note);
        write(bytes_of(&self.header(identity, note.len() as u32)))?;
        write(note)?;
        write(must_cast_slice(self.ids()))?;
        self.kv.each_part(positions, self.kv.windowed(), &mut |bytes| write(bytes))?;
        let digest = sum.digest();
        sink(bytes_of(&digest))
    }

    /// Takes a saved state in the place of what is in the cache, and what was left of the budget if the
    /// session has the same one (times apart, which begin with every answer). `source` fills the whole
    /// piece that it is handed. Returns the bytes of the note, which is then in `note`.
    ///
    /// # Errors
    /// The cache is empty then.
    pub fn restore<E>(
        &mut self,
        identity: &Identity,
        note: &mut [u8],
        mut source: impl FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<usize, RestoreError<E>> {
        self.clear();
        let mut sum = Xxh3::new();
        let mut read = |bytes: &mut [u8]| -> Result<(), RestoreError<E>> {
            source(bytes).map_err(RestoreError::Source)?;
            sum.update(bytes);
            Ok(())
        };
        let mut header = Header::zeroed();
        read(bytes_of_mut(&mut header))?;
        let (note_len, positions) = self.check(&header, identity, note.len()).map_err(RestoreError::State)?;
        read(note.get_mut(..note_len).unwrap_or_default())?;
        read(must_cast_slice_mut(self.ids.get_mut(..positions).unwrap_or_default()))?;
        self.kv.each_part(positions, header.windowed, &mut read)?;
        let expected = sum.digest();
        let mut found = 0u64;
        source(bytes_of_mut(&mut found)).map_err(RestoreError::Source)?;
        let vocab = self.model.config().vocab;
        let known = self.ids.iter().take(positions).all(|id| (*id as usize) < vocab);
        if found != expected || !known || !self.kv.set_len(positions, header.windowed) {
            return Err(RestoreError::State(StateError::Damaged));
        }
        self.ledger.resume(&header.standing);
        Ok(note_len)
    }

    /// The ids of all positions in the cache.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        self.ids.get(..self.kv.len()).unwrap_or_default()
    }

    /// The window that was asked for, whatever the context leaves of it.
    fn window(&self) -> usize {
        let KvSettings { sharing, window, .. } = self.settings.kv;
        if sharing == KvSharing::PerLoop { 0 } else { window }
    }

    fn header(&self, identity: &Identity, note: u32) -> Header {
        let (settings, config) = (self.kv.settings(), self.model.config());
        let sharing = KvSharing::ALL.iter().position(|sharing| *sharing == settings.sharing);
        Header {
            magic: MAGIC,
            version: VERSION,
            note,
            model: identity.model,
            tokenizer: identity.tokenizer,
            positions: self.kv.len() as u64,
            windowed: self.kv.windowed(),
            window: self.window() as u64,
            layers: config.layers as u32,
            kv_heads: config.kv_heads as u32,
            head_dim: config.head_dim as u32,
            loops: self.settings.max_loops as u32,
            sharing: sharing.unwrap_or_default() as u32,
            element: settings.element.bits(),
            arithmetic: u32::from(self.backend() != Backend::REFERENCE),
            rest: 0,
            standing: self.ledger.standing(),
        }
    }

    /// Bytes of the note and positions, if a state with this header can be restored here.
    fn check(&self, found: &Header, identity: &Identity, room: usize) -> Result<(usize, usize), StateError> {
        let expected = self.header(identity, found.note);
        found.check_kind()?;
        if found.model != expected.model {
            return Err(StateError::Model);
        }
        if found.tokenizer != expected.tokenizer {
            return Err(StateError::Tokenizer);
        }
        if found.sharing != expected.sharing {
            return Err(StateError::Sharing { found: KvSharing::ALL.get(found.sharing as usize).copied() });
        }
        let settings = [
            ("bits of a K or V", u64::from(found.element), u64::from(expected.element)),
            ("KV window", found.window, expected.window),
            ("largest depth", found.loops.into(), expected.loops.into()),
            ("integer arithmetic (0 no, 1 yes)", found.arithmetic.into(), expected.arithmetic.into()),
        ];
        if let Some((setting, found, expected)) = settings.into_iter().find(|(_, f, e)| f != e) {
            return Err(StateError::Setting { setting, found, expected });
        }
        let context = self.settings.context;
        let fitting = usize::try_from(found.positions).ok().filter(|positions| *positions <= context);
        let positions = fitting.ok_or(StateError::Context { found: found.positions, context })?;
        let Header { windowed, standing, .. } = *found;
        let same = Header { positions: found.positions, windowed, standing, ..expected };
        if *found != same {
            return Err(StateError::Damaged);
        }
        match found.note as usize {
            note if note <= room => Ok((note, positions)),
            _ => Err(StateError::Note { found: found.note, room }),
        }
    }

    /// Remembers the ids of the positions in flight, which now are in the cache.
    pub(super) fn keep_ids(&mut self, first: usize) {
        let tokens = self.tokens.get(..self.in_flight).unwrap_or_default();
        for (id, token) in self.ids.iter_mut().skip(first).zip(tokens) {
            *id = *token;
        }
    }
}
