//! A file read tile by tile into one block buffer of two halves: while the tile in one of them
//! computes, a thread fetches the next one into the other.
//!
//! The thread reads tiles one after another, each with one call: the kernel cuts that into as many
//! requests as the disk takes at a time. Several threads would not be faster, and two tiles fetched
//! at the same time come later than one of them could.
//!
//! A load that announces nothing is a small read (a name, an embedding row): it goes through a
//! buffer of its own, so that a tile on its way is not disturbed.

use super::pages::{PAGE, Pages};
use super::reader::Reader;
use ouro_runtime::store::{MIN_TILE, Span, Store, StoreCounters, StoreError};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// The longest small read.
const SMALL: usize = 64 << 10;

/// A file on a disk, read through one block buffer of two halves: while the tile in one of them
/// computes, a thread fetches the next one into the other.
#[derive(Debug)]
pub struct FileStore {
    reader: Arc<Reader>,
    max_tile: usize,
    halves: [Half; 2],
    small: Small,
    current: Current,
    /// A tile whose reading failed before anybody waited for it.
    failed: Option<Span>,
    /// What the thread that reads shall do; started with the first tile.
    orders: Option<Sender<Order>>,
    counters: StoreCounters,
}

/// One half of the block buffer.
#[derive(Debug)]
enum Half {
    /// Nothing of use.
    Free(Pages),
    /// A tile is on its way. The mutex is never locked: with it, threads may look at a store at
    /// rest.
    Filling { span: Span, filled: Mutex<Receiver<Filled>> },
    /// A tile.
    Full { span: Span, pages: Pages },
}

/// A tile to be read.
#[derive(Debug)]
struct Order {
    span: Span,
    pages: Pages,
    filled: SyncSender<Filled>,
}

/// What comes back from the thread.
#[derive(Debug)]
struct Filled {
    pages: Pages,
    result: io::Result<()>,
}

/// A few bytes that are not a tile.
#[derive(Debug)]
struct Small {
    pages: Pages,
    span: Span,
    /// Where weights begin in the file, once known. What lies before is read often and in any
    /// order, and is best left to the page cache.
    weights: u64,
}

/// Where the current tile is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Current {
    Nowhere,
    Half(usize, Span),
    Small(Span),
}

/// The pages that a part of the file lies in.
fn cover(span: Span) -> Span {
    let page = PAGE as u64;
    let offset = span.offset - span.offset % page;
    let len = span.end().saturating_sub(offset).checked_next_multiple_of(page);
    Span { offset, len: len.and_then(|len| usize::try_from(len).ok()).unwrap_or(usize::MAX) }
}

/// Pages of a half that has room for any tile of up to `max_tile` bytes.
fn pages_of_half(max_tile: usize) -> usize {
    max_tile.div_ceil(PAGE).saturating_add(1)
}

impl FileStore {
    /// Tiles that are fetched beside the current one.
    pub const AHEAD: usize = 1;

    /// A store over the file at `path`, past the page cache if the file system allows it. Tiles have
    /// up to `max_tile` bytes, half of the block buffer; that is rounded up to [`MIN_TILE`] and down
    /// to the size of the file.
    ///
    /// # Errors
    /// If the file can't be read, or if there is not enough memory.
    pub fn open(path: &Path, max_tile: usize) -> io::Result<Self> {
        Self::of(Reader::open(path)?, max_tile)
    }

    /// A store over an open file, through the page cache.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn new(file: File, max_tile: usize) -> io::Result<Self> {
        Self::of(Reader::of(file)?, max_tile)
    }

    /// Bytes of memory of a store whose tiles have up to `max_tile` bytes.
    #[must_use]
    pub fn memory_bytes(max_tile: usize) -> usize {
        let pages = pages_of_half(max_tile).saturating_mul(2).saturating_add(pages_of_half(SMALL));
        pages.saturating_mul(PAGE)
    }

    /// Another reader of the same file.
    ///
    /// # Errors
    /// If the system allows no more open files, or if there is not enough memory.
    pub fn another(&self) -> io::Result<Self> {
        let mut other = Self::of(self.reader.try_clone()?, self.max_tile)?;
        other.small.weights = self.small.weights;
        Ok(other)
    }

    /// Says where weights begin: from there on, small reads go past the page cache too.
    pub fn weights_begin(&mut self, offset: u64) {
        self.small.weights = offset;
    }

    /// Whether weights are read past the page cache.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.reader.is_direct()
    }

    /// The largest tile of a file of this length for which [`open`](Self::open) has room.
    #[must_use]
    pub fn largest_tile(file: u64, max_tile: usize) -> usize {
        max_tile.min(usize::try_from(file).unwrap_or(usize::MAX)).max(MIN_TILE)
    }

    /// What is really read for a tile: whole pages.
    #[must_use]
    pub fn pages_of(tile: Span) -> Span {
        cover(tile)
    }

    fn of(reader: Reader, max_tile: usize) -> io::Result<Self> {
        let max_tile = Self::largest_tile(reader.len(), max_tile);
        let half = || Pages::new(pages_of_half(max_tile)).map(Half::Free);
        let pages = Pages::new(pages_of_half(SMALL))?;
        Ok(Self {
            reader: Arc::new(reader),
            max_tile,
            halves: [half()?, half()?],
            small: Small { pages, span: Span::EMPTY, weights: u64::MAX },
            current: Current::Nowhere,
            failed: None,
            orders: None,
            counters: StoreCounters::default(),
        })
    }

    /// The half in which `want` is, or soon will be.
    fn half_with(&self, want: Span) -> Option<usize> {
        self.halves.iter().position(|half| match half {
            Half::Filling { span, .. } | Half::Full { span, .. } => span.contains(want),
            Half::Free(_) => false,
        })
    }

    /// A half that is not being filled: rather one without a tile.
    fn spare_half(&self) -> Option<usize> {
        let free = self.halves.iter().position(|half| matches!(half, Half::Free(_)));
        free.or_else(|| self.halves.iter().position(|half| matches!(half, Half::Full { .. })))
    }

    /// Has a tile fetched into a half that is not being filled.
    fn start(&mut self, half: usize, want: Span) -> io::Result<()> {
        let orders = match &self.orders {
            Some(orders) => orders,
            None => self.orders.insert(start_thread(Arc::clone(&self.reader))?),
        };
        let place = &mut self.halves[half];
        let pages = match place {
            Half::Free(pages) | Half::Full { pages, .. } => std::mem::take(pages),
            Half::Filling { .. } => return Ok(()),
        };
        let span = cover(want);
        let (sender, filled) = sync_channel(1);
        *place = Half::Filling { span, filled: Mutex::new(filled) };
        // Where the thread is gone, it will be noticed that it drops the order.
        let _ = orders.send(Order { span, pages, filled: sender });
        Ok(())
    }

    /// Waits until a half is filled.
    fn finish(&mut self, half: usize) -> io::Result<()> {
        let place = &mut self.halves[half];
        let Half::Filling { span, filled } = place else { return Ok(()) };
        let span = *span;
        let filled = filled.get_mut().unwrap_or_else(PoisonError::into_inner);
        let done = match filled.try_recv() {
            Err(TryRecvError::Empty) => {
                let start = Instant::now();
                let done = filled.recv();
                self.counters.stalls += 1;
                self.counters.stalled_us += start.elapsed().as_micros() as u64;
                done.ok()
            }
            done => done.ok(),
        };
        let filled = done.ok_or_else(|| io::Error::other("the reading thread ended"))?;
        self.keep(half, span, filled)
    }

    /// Takes what came from the disk.
    fn keep(&mut self, half: usize, span: Span, Filled { pages, result }: Filled) -> io::Result<()> {
        let place = &mut self.halves[half];
        self.counters.requests += 1;
        match result {
            Ok(()) => {
                *place = Half::Full { span, pages };
                self.counters.tiles += 1;
                self.counters.bytes += span.len as u64;
                Ok(())
            }
            Err(error) => {
                *place = Half::Free(pages);
                Err(error)
            }
        }
    }

    /// Takes what has arrived though nobody waits for it: a tile that was announced and is not wanted
    /// after all must not take up its half for good.
    fn receive(&mut self) {
        for half in 0..self.halves.len() {
            let Half::Filling { span, filled } = &mut self.halves[half] else { continue };
            let span = *span;
            if let Ok(filled) = filled.get_mut().unwrap_or_else(PoisonError::into_inner).try_recv() {
                // It is read again once it is wanted: if that goes wrong too, that is said.
                if self.keep(half, span, filled).is_err() {
                    self.failed = Some(span);
                }
            }
        }
    }

    /// `next` is on its way before `want` is waited for: the half that was used last is free by
    /// now, and the disk never idles while there is something to read.
    fn load_tile(&mut self, want: Span, next: Option<Span>) -> io::Result<Current> {
        self.receive();
        let half = match self.half_with(want) {
            Some(half) => half,
            None => {
                let half = self.spare_half().unwrap_or_default();
                let is_again = self.failed.take_if(|span| *span == cover(want)).is_some();
                self.counters.retries += u64::from(is_again);
                self.start(half, want)?;
                half
            }
        };
        let other = 1 - half;
        if let Some(next) = next.filter(|next| self.half_with(*next).is_none())
            && !matches!(self.halves[other], Half::Filling { .. })
        {
            // As above.
            let _ = self.start(other, next);
        }
        self.finish(half)?;
        Ok(Current::Half(half, want))
    }

    fn load_small(&mut self, want: Span) -> io::Result<Current> {
        let small = &mut self.small;
        if small.span.contains(want) {
            return Ok(Current::Small(want));
        }
        let is_cached = want.offset < small.weights;
        let span = if is_cached { want } else { cover(want) };
        small.span = Span::EMPTY;
        let out = &mut small.pages.bytes_mut()[..span.len];
        self.counters.requests += 1;
        match is_cached {
            true => self.reader.read_cached(span.offset, out)?,
            false => self.reader.read(span.offset, out)?,
        }
        small.span = span;
        self.counters.tiles += 1;
        self.counters.bytes += span.len as u64;
        Ok(Current::Small(want))
    }
}

/// Starts the thread that reads tiles; it ends with the store.
fn start_thread(reader: Arc<Reader>) -> io::Result<Sender<Order>> {
    let (sender, orders) = channel::<Order>();
    thread::Builder::new().name("store".to_owned()).spawn(move || {
        for Order { span, mut pages, filled } in orders {
            let result = reader.read(span.offset, &mut pages.bytes_mut()[..span.len]);
            // Nobody waits any more where the store is gone.
            let _ = filled.send(Filled { pages, result });
        }
    })?;
    Ok(sender)
}

impl Store for FileStore {
    fn len(&self) -> u64 {
        self.reader.len()
    }

    fn max_tile(&self) -> usize {
        self.max_tile
    }

    fn load(&mut self, want: Span, next: impl IntoIterator<Item = Span>) -> Result<(), StoreError> {
        let (len, max) = (self.len(), self.max_tile);
        self.current = Current::Nowhere;
        if want.end() > len {
            return Err(StoreError::OutOfRange { span: want, len });
        }
        if want.len > max {
            return Err(StoreError::TooLarge { span: want, max });
        }
        let next = next.into_iter().next();
        let is_small = next.is_none() && want.len <= SMALL && self.half_with(want).is_none();
        let next = next.filter(|next| next.len <= max && next.end() <= len);
        let loaded = if is_small { self.load_small(want) } else { self.load_tile(want, next) };
        self.current = loaded.map_err(|error| match (error.raw_os_error(), error.kind()) {
            (Some(code), _) => StoreError::Io { span: want, code },
            // The second: it has become shorter.
            (None, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                StoreError::Changed { span: want }
            }
            _ => StoreError::Io { span: want, code: -1 },
        })?;
        Ok(())
    }

    fn discard(&mut self) {
        match std::mem::replace(&mut self.current, Current::Nowhere) {
            Current::Nowhere => {}
            Current::Small(_) => self.small.span = Span::EMPTY,
            Current::Half(half, _) => {
                let half = &mut self.halves[half];
                if let Half::Full { pages, .. } = half {
                    *half = Half::Free(std::mem::take(pages));
                }
            }
        }
    }

    fn current(&self) -> Span {
        match self.current {
            Current::Nowhere => Span::EMPTY,
            Current::Half(_, span) | Current::Small(span) => span,
        }
    }

    fn tile(&self) -> &[u8] {
        let (pages, held, span) = match self.current {
            Current::Nowhere => return &[],
            Current::Small(span) => (&self.small.pages, self.small.span, span),
            Current::Half(half, span) => match &self.halves[half] {
                Half::Full { span: held, pages } => (pages, *held, span),
                _ => return &[],
            },
        };
        let start = usize::try_from(span.offset.saturating_sub(held.offset)).unwrap_or(usize::MAX);
        pages.bytes().get(start..).and_then(|bytes| bytes.get(..span.len)).unwrap_or_default()
    }

    fn fetched(&self, span: Span) -> u64 {
        cover(span).len as u64
    }

    fn reads_ahead(&self) -> usize {
        Self::AHEAD
    }

    fn counters(&self) -> StoreCounters {
        self.counters
    }
}
