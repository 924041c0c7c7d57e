//! A file read tile by tile into one block buffer of three parts: while the tile in one of them
//! computes, a thread fetches the two that follow into the others. With two on order the disk has work
//! as long as computing a tile takes no longer than reading two: short waits of the one are not handed
//! on to the other.
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

/// A file on a disk, read through one block buffer: while the tile in one part of it computes, a thread
/// fetches those that follow into the others.
#[derive(Debug)]
pub struct FileStore {
    reader: Arc<Reader>,
    max_tile: usize,
    parts: [Part; Self::PARTS],
    small: Small,
    current: Current,
    /// What the thread that reads shall do; started with the first tile.
    orders: Option<Sender<Order>>,
    counters: StoreCounters,
}

/// One part of the block buffer.
#[derive(Debug)]
enum Part {
    /// Nothing of use.
    Free(Pages),
    /// A tile is on its way. The mutex is never locked: with it, threads may look at a store at
    /// rest.
    Filling { span: Span, filled: Mutex<Receiver<Filled>> },
    /// A tile.
    Full { span: Span, pages: Pages },
}

impl Part {
    /// Whether `want` is in it, or soon will be.
    fn holds(&self, want: Span) -> bool {
        match self {
            Self::Filling { span, .. } | Self::Full { span, .. } => span.contains(want),
            Self::Free(_) => false,
        }
    }
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
    Part(usize, Span),
    Small(Span),
}

/// The pages that a part of the file lies in.
fn cover(span: Span) -> Span {
    let page = PAGE as u64;
    let offset = span.offset - span.offset % page;
    let len = span.end().saturating_sub(offset).checked_next_multiple_of(page);
    Span { offset, len: len.and_then(|len| usize::try_from(len).ok()).unwrap_or(usize::MAX) }
}

/// Pages of a part that has room for any tile of up to `max_tile` bytes.
fn pages_of_part(max_tile: usize) -> usize {
    max_tile.div_ceil(PAGE).saturating_add(1)
}

impl FileStore {
    /// Parts of the block buffer, each with room for a tile.
    pub const PARTS: usize = 3;
    /// Tiles that are fetched while one computes.
    pub const AHEAD: usize = Self::PARTS - 1;

    /// A store over the file at `path`, past the page cache if the file system allows it. Tiles have
    /// up to `max_tile` bytes, one part of the block buffer; that is rounded up to [`MIN_TILE`] and down
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
        let pages = pages_of_part(max_tile).saturating_mul(Self::PARTS).saturating_add(pages_of_part(SMALL));
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
        let part = || Pages::new(pages_of_part(max_tile)).map(Part::Free);
        let pages = Pages::new(pages_of_part(SMALL))?;
        Ok(Self {
            reader: Arc::new(reader),
            max_tile,
            parts: [part()?, part()?, part()?],
            small: Small { pages, span: Span::EMPTY, weights: u64::MAX },
            current: Current::Nowhere,
            orders: None,
            counters: StoreCounters::default(),
        })
    }

    /// The part in which `want` is, or soon will be.
    fn part_with(&self, want: Span) -> Option<usize> {
        self.parts.iter().position(|part| part.holds(want))
    }

    /// A part that is not being filled and holds none of these: rather one without a tile.
    fn spare_part(&self, needed: &[Span]) -> Option<usize> {
        let is_spare = |part: &Part| match part {
            Part::Full { .. } => !needed.iter().any(|span| part.holds(*span)),
            Part::Free(_) | Part::Filling { .. } => false,
        };
        let free = self.parts.iter().position(|part| matches!(part, Part::Free(_)));
        free.or_else(|| self.parts.iter().position(is_spare))
    }

    /// Has a tile fetched into a part that is not being filled.
    fn start(&mut self, part: usize, want: Span) -> io::Result<()> {
        let orders = match &self.orders {
            Some(orders) => orders,
            None => self.orders.insert(start_thread(Arc::clone(&self.reader))?),
        };
        let place = &mut self.parts[part];
        let pages = match place {
            Part::Free(pages) | Part::Full { pages, .. } => std::mem::take(pages),
            Part::Filling { .. } => return Ok(()),
        };
        let span = cover(want);
        let (sender, filled) = sync_channel(1);
        *place = Part::Filling { span, filled: Mutex::new(filled) };
        // Where the thread is gone, it will be noticed that it drops the order.
        let _ = orders.send(Order { span, pages, filled: sender });
        Ok(())
    }

    /// Waits until a part is filled.
    fn finish(&mut self, part: usize) -> io::Result<()> {
        let place = &mut self.parts[part];
        let Part::Filling { span, filled } = place else { return Ok(()) };
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
        self.keep(part, span, filled)
    }

    /// Takes what came from the disk.
    fn keep(&mut self, part: usize, span: Span, Filled { pages, result }: Filled) -> io::Result<()> {
        let place = &mut self.parts[part];
        self.counters.requests += 1;
        match result {
            Ok(()) => {
                *place = Part::Full { span, pages };
                self.counters.tiles += 1;
                self.counters.bytes += span.len as u64;
                Ok(())
            }
            Err(error) => {
                *place = Part::Free(pages);
                Err(error)
            }
        }
    }

    /// Takes what has arrived though nobody waits for it: a tile that was announced and is not wanted
    /// after all must not take up its part for good.
    fn receive(&mut self) {
        for part in 0..self.parts.len() {
            let Part::Filling { span, filled } = &mut self.parts[part] else { continue };
            let span = *span;
            if let Ok(filled) = filled.get_mut().unwrap_or_else(PoisonError::into_inner).try_recv() {
                // What went wrong is said once the tile is wanted.
                let _ = self.keep(part, span, filled);
            }
        }
    }

    /// What follows is on its way before `want` is waited for, so that the disk never idles while there
    /// is something to read.
    fn load_tile(&mut self, want: Span, next: &[Span]) -> io::Result<Current> {
        self.receive();
        let part = match self.part_with(want) {
            Some(part) => part,
            None => {
                // One at least is not being filled: the part that was used last.
                let spare = self.spare_part(next).or_else(|| self.spare_part(&[]));
                let part = spare.unwrap_or_default();
                self.start(part, want)?;
                part
            }
        };
        self.order(want, next);
        self.finish(part)?;
        // What was on order in vain has come before it.
        self.receive();
        self.order(want, next);
        Ok(Current::Part(part, want))
    }

    /// Has fetched what follows, as far as there are parts for it.
    fn order(&mut self, want: Span, next: &[Span]) {
        let needed = [&[want][..], next].concat();
        for &next in next {
            if self.part_with(next).is_none()
                && let Some(part) = self.spare_part(&needed)
            {
                // What goes wrong is said once the tile is wanted.
                let _ = self.start(part, next);
            }
        }
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
        let mut next: Vec<Span> = next.into_iter().take(Self::AHEAD).collect();
        let is_small = next.is_empty() && want.len <= SMALL && self.part_with(want).is_none();
        next.retain(|next| next.len <= max && next.end() <= len);
        let loaded = if is_small { self.load_small(want) } else { self.load_tile(want, &next) };
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
            Current::Part(part, _) => {
                let part = &mut self.parts[part];
                if let Part::Full { pages, .. } = part {
                    *part = Part::Free(std::mem::take(pages));
                }
            }
        }
    }

    fn current(&self) -> Span {
        match self.current {
            Current::Nowhere => Span::EMPTY,
            Current::Part(_, span) | Current::Small(span) => span,
        }
    }

    fn tile(&self) -> &[u8] {
        let (pages, held, span) = match self.current {
            Current::Nowhere => return &[],
            Current::Small(span) => (&self.small.pages, self.small.span, span),
            Current::Part(part, span) => match &self.parts[part] {
                Part::Full { span: held, pages } => (pages, *held, span),
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

#[cfg(test)]
mod tests {
    use super::*;
    use ouro_runtime::sample::SplitMix64;

    /// Whenever a tile computes, those that follow are there or on their way, also after a wrong guess:
    /// the disk idles only if computing takes longer than reading all of them.
    #[test]
    fn what_follows_is_always_on_its_way() {
        const TILES: u64 = 40;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![7; TILES as usize * PAGE]).unwrap();
        let mut store = FileStore::open(file.path(), PAGE).unwrap();
        let tile = |number: u64| Span { offset: number % TILES * PAGE as u64, len: PAGE };
        let mut random = SplitMix64::new(5);
        let mut number = 0;
        for _ in 0..2000 {
            let next = [tile(number + 1), tile(number + 2)];
            store.load(tile(number), next).unwrap();
            assert!(next.iter().all(|next| store.part_with(*next).is_some()), "{:?}", store.parts);
            // One in ten goes elsewhere, where none of the parts is.
            let goes_on = !random.bits().is_multiple_of(10);
            number += if goes_on { 1 } else { 3 + random.bits() % (TILES - 6) };
        }
        let counters = store.counters();
        assert!(counters.tiles > 2000 && counters.tiles < 3000, "{counters:?}");
    }
}
