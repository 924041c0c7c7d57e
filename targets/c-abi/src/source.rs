//! Where the model is.

use crate::pointer;
use crate::settings::{Settings, VerifyChoice};
use crate::status::{Error, Status};
use core::ffi::c_void;
use core::fmt;
use core::ptr;
use ouro_runtime::store::{Checked, MIN_TILE, PIECE, SliceStore, Span, Store, StoreCounters, StoreError};

/// Reads `len` bytes of the model file from `offset` on into `to`, and returns 0, or any other
/// number if that is not possible; the call in progress then ends with OURO_STATUS_READ. It is called
/// only from inside calls of this library, on the same thread, and must not use the handle.
pub type Read =
    Option<unsafe extern "C" fn(context: *mut c_void, offset: u64, to: *mut c_void, len: usize) -> i32>;

/// Where the model is: a whole GGUF file in memory or in flash that is mapped into memory, or one
/// that a callback reads.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Source {
    /// The file's first byte, if it can be read in place; no alignment is asked for, and 16 or more
    /// is fastest. NULL if `read` is to be called. The bytes must stay, unchanged, as long as the
    /// handle is used.
    pub bytes: *const c_void,
    /// Length of the file in bytes.
    pub len: u64,
    /// Reads the file where it can't be read in place; else NULL. Everything passes through the
    /// block buffer of the settings.
    pub read: Read,
    /// Handed to `read`.
    pub context: *mut c_void,
}

impl Source {
    /// The bytes, if they can be read in place.
    ///
    /// # Safety
    /// As the header asks of `bytes`.
    unsafe fn bytes(&self) -> Result<&'static [u8], Error> {
        let long = Error::Argument { name: "source.len", status: Status::Length };
        let len = usize::try_from(self.len).ok().filter(|len| *len > 0).ok_or(long)?;
        // SAFETY: as the caller says; nobody changes them as long as the handle is used.
        unsafe { pointer::values(self.bytes.cast(), len, "source.bytes") }
    }

    /// The size of the block buffer: what the settings give, if there is any use for it.
    pub(crate) fn buffer_bytes(&self, settings: &Settings) -> Result<usize, Error> {
        const VERIFYING: usize = MIN_TILE + 2 * (PIECE - 1);
        const _: () = assert!(MIN_TILE == 256 && VERIFYING == 8446);
        let (least, expected) = match settings.verify()? {
            VerifyChoice::Weights => (VERIFYING, "at least 8446 bytes, as weights are to be verified"),
            VerifyChoice::Metadata | VerifyChoice::Never => (MIN_TILE, "at least 256 bytes"),
        };
        match settings.block_buffer as usize {
            _ if self.read.is_none() => Ok(0),
            bytes if bytes >= least => Ok(bytes),
            _ => Err(Error::Setting { name: "settings.block_buffer", expected }),
        }
    }

    /// Whether any of the file is at `memory`.
    pub(crate) fn overlaps(&self, memory: *const u8, size: usize) -> bool {
        let (bytes, memory) = (self.bytes.addr(), memory.addr());
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        !self.bytes.is_null() && bytes < memory.saturating_add(size) && memory < bytes.saturating_add(len)
    }

    /// The store; `buffer` is of use with a callback alone.
    ///
    /// # Safety
    /// As the header asks of [`Source`].
    pub(crate) unsafe fn open(self, buffer: &mut [u8]) -> Result<Medium<'_>, Error> {
        match (self.bytes.is_null(), self.read) {
            // SAFETY: as the caller says.
            (false, None) => Ok(Medium::Memory(SliceStore::new(unsafe { self.bytes() }?))),
            (true, Some(_)) if self.len == 0 => {
                Err(Error::Argument { name: "source.len", status: Status::Length })
            }
            (true, Some(read)) => Ok(Medium::Reader(Reader {
                read,
                context: self.context,
                len: self.len,
                buffer,
                held: Span::EMPTY,
                current: Span::EMPTY,
                counters: StoreCounters::default(),
            })),
            (true, None) => {
                Err(Error::Argument { name: "source.bytes and source.read", status: Status::NullPointer })
            }
            (false, Some(_)) => {
                Err(Error::Setting { name: "source", expected: "either bytes or a read callback, not both" })
            }
        }
    }
}

/// The store of a handle; without checksums nothing is checked.
pub(crate) type CheckedMedium = Checked<Medium<'static>, &'static [u32], &'static mut [u8]>;

/// Where the bytes come from.
#[derive(Debug)]
pub(crate) enum Medium<'b> {
    Memory(SliceStore<'static>),
    Reader(Reader<'b>),
}

/// A store that reads through a callback into the block buffer.
pub(crate) struct Reader<'b> {
    read: unsafe extern "C" fn(*mut c_void, u64, *mut c_void, usize) -> i32,
    context: *mut c_void,
    len: u64,
    buffer: &'b mut [u8],
    /// What is in the buffer, and the part of it that is the current tile.
    held: Span,
    current: Span,
    counters: StoreCounters,
}

impl Reader<'_> {
    fn load(&mut self, want: Span) -> Result<(), StoreError> {
        self.current = Span::EMPTY;
        if want.len > 0 && self.held.contains(want) {
            self.current = want;
            return Ok(());
        }
        self.held = Span::EMPTY;
        let end = want.offset.checked_add(want.len as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(StoreError::OutOfRange { span: want, len: self.len });
        }
        let max = self.buffer.len();
        let to = self.buffer.get_mut(..want.len).ok_or(StoreError::TooLarge { span: want, max })?;
        if !to.is_empty() {
            // SAFETY: the caller of ouro_open vouches for the callback; it is told the room there is.
            let code = unsafe { (self.read)(self.context, want.offset, ptr::from_mut(to).cast(), to.len()) };
            if code != 0 {
                return Err(StoreError::Io { span: want, code });
            }
        }
        (self.held, self.current) = (want, want);
        self.counters.tiles += 1;
        self.counters.requests += 1;
        self.counters.bytes += want.len as u64;
        Ok(())
    }

    fn tile(&self) -> &[u8] {
        let within =
            self.current.offset.checked_sub(self.held.offset).and_then(|at| usize::try_from(at).ok());
        let tile = within.and_then(|at| self.buffer.get(at..at.checked_add(self.current.len)?));
        tile.unwrap_or_default()
    }
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("len", &self.len).field("held", &self.held).finish_non_exhaustive()
    }
}

impl Store for Medium<'_> {
    fn len(&self) -> u64 {
        match self {
            Self::Memory(store) => store.len(),
            Self::Reader(reader) => reader.len,
        }
    }

    fn max_tile(&self) -> usize {
        match self {
            Self::Memory(store) => store.max_tile(),
            Self::Reader(reader) => reader.buffer.len(),
        }
    }

    fn load(&mut self, want: Span, next: impl IntoIterator<Item = Span>) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => store.load(want, next),
            Self::Reader(reader) => reader.load(want),
        }
    }

    fn discard(&mut self) {
        match self {
            Self::Memory(store) => store.discard(),
            Self::Reader(reader) => (reader.held, reader.current) = (Span::EMPTY, Span::EMPTY),
        }
    }

    fn current(&self) -> Span {
        match self {
            Self::Memory(store) => store.current(),
            Self::Reader(reader) => reader.current,
        }
    }

    fn tile(&self) -> &[u8] {
        match self {
            Self::Memory(store) => store.tile(),
            Self::Reader(reader) => reader.tile(),
        }
    }

    fn counters(&self) -> StoreCounters {
        match self {
            Self::Memory(store) => store.counters(),
            Self::Reader(reader) => reader.counters,
        }
    }
}
