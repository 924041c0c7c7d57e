//! Where weights live, and how the runtime asks for them.
//!
//! The runtime never assumes that a model is in memory: it asks a [`Store`] for one tile at a
//! time, says which one follows, and computes from whatever buffer the store hands it. A store
//! that owns the whole file as a slice copies nothing; others read into a block buffer, and may
//! fetch announced tiles while the current one is in use.
//!
//! Stores go around stores: [`Pinned`] keeps some tiles for good, [`Retry`] tries again, [`Checked`]
//! notices rotten bytes, [`Faulty`] misbehaves as a test wants it to. Each forwards every method of the
//! trait, those with a default, too: a lint at its `impl` sees to it.

#[cfg(feature = "embedded-storage-async")]
mod blocking;
mod checked;
mod fault;
#[cfg(feature = "embedded-storage")]
mod flash;
mod memory;
mod pinned;
mod retry;

#[cfg(feature = "embedded-storage-async")]
pub use blocking::BlockingFlash;
pub use checked::{Checked, PIECE, Sums, checksum};
pub use fault::{Fault, Faulty};
#[cfg(feature = "embedded-storage")]
pub use flash::FlashStore;
pub use memory::{MemoryStore, SliceStore};
pub use pinned::{Pin, Pinned};
pub use retry::Retry;

use core::fmt;

/// A run of bytes in a model file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Span {
    /// First byte, counted from the start of the file.
    pub offset: u64,
    /// Number of bytes.
    pub len: usize,
}

impl Span {
    /// No bytes at all.
    pub const EMPTY: Span = Span { offset: 0, len: 0 };

    /// The offset one past the last byte; saturates at `u64::MAX`.
    #[must_use]
    pub fn end(self) -> u64 {
        self.offset.saturating_add(self.len as u64)
    }

    /// Whether all of `other` lies inside.
    #[must_use]
    pub fn contains(self, other: Span) -> bool {
        self.offset <= other.offset && other.end() <= self.end()
    }
}

/// What a store has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct StoreCounters {
    /// Calls of [`Store::load`] that fetched something.
    pub tiles: u64,
    /// Bytes fetched, or pointed at where nothing needs to be copied.
    pub bytes: u64,
    /// Reads of the medium: a tile may take several.
    pub requests: u64,
    /// Tiles that had to be waited for.
    pub stalls: u64,
    /// Microseconds of waiting, where the store has a clock.
    pub stalled_us: u64,
    /// Tiles handed out from where they are pinned.
    pub pinned: u64,
    /// Loads tried again after a failure.
    pub retries: u64,
}

/// A model file that can be read in any order, a tile at a time.
pub trait Store {
    /// Length of the file in bytes.
    fn len(&self) -> u64;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The largest span that [`load`](Self::load) accepts: the size of the block buffer, or
    /// `usize::MAX` where nothing is copied. At least [`MIN_TILE`].
    fn max_tile(&self) -> usize;

    /// Makes `want` the current tile. `next` announces what will most likely be wanted after it,
    /// soonest first; a store takes as many from it as it can use.
    ///
    /// # Errors
    /// [`StoreError`]; there is then no current tile.
    fn load(&mut self, want: Span, next: impl IntoIterator<Item = Span>) -> Result<(), StoreError>;

    /// Forgets what was read for the current tile, as it can't be what the medium holds: the next load
    /// reads it again. A store that keeps nothing has nothing to forget.
    fn discard(&mut self) {}

    /// Where the current tile lies in the file; of length 0 if there is none. Whoever shares the
    /// store asks this before it relies on a tile loaded earlier.
    fn current(&self) -> Span;

    /// The bytes of the current tile; empty if there is none.
    fn tile(&self) -> &[u8];

    /// Bytes that the next load of this span moves at most, whatever comes before it: more than its
    /// length where the medium is read in whole pages, or beside what was asked for; nothing where it is
    /// kept for good. Loads that fail and are tried again come on top.
    fn fetched(&self, span: Span) -> u64 {
        span.len as u64
    }

    /// The same for every load after the next: less where the next one makes it stay.
    fn fetched_again(&self, span: Span) -> u64 {
        self.fetched(span)
    }

    /// How many announced tiles may have been fetched, and are counted, that are not wanted after all.
    fn reads_ahead(&self) -> usize {
        0
    }

    /// What was fetched so far.
    fn counters(&self) -> StoreCounters;
}

/// The smallest block buffer that a store may have: enough for every fixed-size field of a file.
pub const MIN_TILE: usize = 256;

/// Why a store could not deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum StoreError {
    /// The span reaches past the end of the file.
    OutOfRange {
        /// What was asked for.
        span: Span,
        /// The length of the file.
        len: u64,
    },
    /// The span is larger than a tile may be.
    TooLarge {
        /// What was asked for.
        span: Span,
        /// [`Store::max_tile`].
        max: usize,
    },
    /// The store handed out less than was asked for.
    Short {
        /// What was asked for.
        span: Span,
        /// Bytes handed out.
        found: usize,
    },
    /// The bytes are not those that the file's checksums were made of.
    Corrupt {
        /// The piece with another sum.
        span: Span,
    },
    /// Somebody has written to the file since it was opened.
    Changed {
        /// What was asked for.
        span: Span,
    },
    /// The medium failed.
    Io {
        /// What was asked for.
        span: Span,
        /// The medium's own code (errno on Linux).
        code: i32,
    },
}

impl StoreError {
    /// The offset in the file of what could not be delivered.
    #[must_use]
    pub fn offset(self) -> u64 {
        match self {
            Self::OutOfRange { span, .. }
            | Self::TooLarge { span, .. }
            | Self::Short { span, .. }
            | Self::Corrupt { span }
            | Self::Changed { span }
            | Self::Io { span, .. } => span.offset,
        }
    }

    /// Whether the same load may work at another time.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Io { .. } | Self::Short { .. } | Self::Corrupt { .. })
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::OutOfRange { span: Span { offset, len: want }, len } => write!(
                f,
                "{want} bytes wanted at offset {offset}, but the file ends at {len}: it is truncated; copy it again"
            ),
            Self::TooLarge { span: Span { offset, len: want }, max } => write!(
                f,
                "{want} bytes wanted at offset {offset}, but the block buffer has room for tiles of {max}: enlarge it"
            ),
            Self::Short { span: Span { offset, len: want }, found } => {
                write!(
                    f,
                    "{want} bytes wanted at offset {offset}, but the store gave {found}: check the medium"
                )
            }
            Self::Corrupt { span: Span { offset, len } } => write!(
                f,
                "the {len} bytes at offset {offset} have another checksum than the file says: it is damaged; copy it again"
            ),
            Self::Changed { span: Span { offset, .. } } => {
                write!(f, "the file was changed while it was in use, noticed at offset {offset}: start again")
            }
            Self::Io { span: Span { offset, len: want }, code } => {
                write!(f, "reading {want} bytes at offset {offset} failed with code {code}: check the medium")
            }
        }
    }
}

impl core::error::Error for StoreError {}
