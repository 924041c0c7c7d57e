//! The account of memory, to the byte: the one that `ouro run` goes by and `ouro plan` shows.

use super::pins::Tiles;
use super::{PinChoice, block_buffer};
use crate::error::Error;
use crate::open::{Opened, session_error};
use crate::report::human_bytes;
use crate::store::{Buffer, FileStore, HostStore};
use ouro_runtime::model::Model;
use ouro_runtime::session::{Fetches, Session, SessionError, Settings};
use ouro_runtime::store::{Span, Store, StoreCounters, StoreError, Sums};
use serde::Serialize;

/// Where weights are while a model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// All in memory.
    Memory,
    /// In a file: those that are pinned stay in memory, the others pass through the block buffer.
    File,
    /// In flash that is mapped into memory, as firmware has it: nothing is copied.
    Flash,
}

/// What a model needs, however much memory there is.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'d> {
    /// The model.
    pub model: &'d Model<'d>,
    /// Context, prompt, depth and cache.
    pub settings: Settings,
    /// Sessions at the same time.
    pub sessions: usize,
    /// Bytes of its directory, norms and tokenizer.
    pub tables: usize,
    /// Bytes of the program itself.
    pub program: usize,
    /// Length of the file.
    pub file: u64,
    /// Length of its header.
    pub header: u64,
    /// Whether tiles are compared with checksums, which needs more room at their ends.
    pub has_sums: bool,
    /// The board whose memory it is, where that was not said with `--ram`.
    pub board: Option<&'static str>,
}

/// Bytes of memory by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Parts {
    /// The program itself: code, libraries, stacks of threads.
    pub program: usize,
    /// Directory, norms and tokenizer of the model.
    pub tables: usize,
    /// The KV cache.
    pub kv: usize,
    /// The rest of the session: activations and logits.
    pub activations: usize,
    /// The block buffer, and the one for small reads.
    pub block_buffer: usize,
    /// What grows with memory and file: page tables, checksums, and the file's header in the page cache.
    pub reserve: usize,
    /// Weights that stay in memory.
    pub weights: usize,
}

impl Parts {
    /// All of them, with their names.
    #[must_use]
    pub fn list(&self) -> [(&'static str, usize); 7] {
        let Self { program, tables, kv, activations, block_buffer, reserve, weights } = *self;
        [
            ("program", program),
            ("model's tables", tables),
            ("K and V", kv),
            ("activations", activations),
            ("block buffer", block_buffer),
            ("reserve", reserve),
            ("weights", weights),
        ]
    }

    /// All together.
    #[must_use]
    pub fn total(&self) -> usize {
        self.list().into_iter().fold(0, |sum, (_, bytes)| sum.saturating_add(bytes))
    }
}

/// How memory is divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Division {
    /// Bytes of each part.
    pub parts: Parts,
    /// The largest tile.
    pub max_tile: usize,
    /// Tiles that stay in memory, in order of offset.
    pub pins: Vec<Span>,
}

/// Memory that comes in pages is named in pages.
const PAGE: usize = 4096;

/// The program itself at most, as long as it does nothing unusual: measured on x86-64, with a chat
/// template and two threads, 9.1 MiB of which 2 MiB are [`GROWTH`]. A fixed figure, so that the same
/// memory is always divided in the same way; there is room in it for [`THREADS`].
const PROGRAM: usize = 10 << 20;
/// Threads that `PROGRAM` has room for, and bytes that each more takes, most of it stack.
const THREADS: usize = 40;
const THREAD: usize = 24 << 10;
/// What the program still touches after memory was divided.
const GROWTH: usize = 2 << 20;

impl<'d> Demand<'d> {
    /// Of a model that was opened through this store.
    #[must_use]
    pub fn of(store: &HostStore, opened: &'d Opened<'d>, settings: &Settings) -> Self {
        let buffer = if store.max_tile() == usize::MAX { 0 } else { store.buffer_bytes() };
        let known = opened.arena_bytes.saturating_add(buffer);
        let demand = Self {
            model: &opened.model,
            settings: *settings,
            sessions: 1,
            tables: opened.arena_bytes,
            program: PROGRAM,
            file: store.len(),
            header: opened.gguf.data_offset(),
            has_sums: store.has_sums(),
            board: None,
        };
        let known = known.saturating_add(demand.sums());
        Self { program: Self::program(store.max_tile() != usize::MAX, known), ..demand }
    }

    /// The program: its usual size, or what it has already beside `known` bytes, if that is more. Where
    /// all weights are in memory, what the process has says little.
    fn program(streams: bool, known: usize) -> usize {
        let found = super::resident().filter(|_| streams).map_or(0, |bytes| bytes.saturating_sub(known));
        PROGRAM.max(found.saturating_add(GROWTH))
    }

    /// The usual size of the program with so many threads.
    #[must_use]
    pub fn usual_program(threads: usize) -> usize {
        PROGRAM.saturating_add(threads.saturating_sub(THREADS).saturating_mul(THREAD))
    }

    /// Divides memory: first what is needed, then, in what is left of `ram`, weights that stay.
    ///
    /// # Errors
    /// [`Error::DoesNotFit`] with the least that would do; [`Error::Usage`] for pins or settings that
    /// make no sense.
    pub fn divide(
        &self,
        place: Place,
        ram: Option<usize>,
        buffer: Option<usize>,
        pin: &PinChoice,
    ) -> Result<Division, Error> {
        let (mut parts, max_tile) = self.needed(place, ram, buffer)?;
        let room = match ram {
            Some(ram) => Some(self.room((place, ram), (buffer, pin), &parts)?),
            None => None,
        };
        let pins = match place {
            Place::File => match pin.tiles(self.model, &self.tiles(max_tile), room) {
                Err(Error::DoesNotFit(why)) => {
                    let least = self.least(place, buffer, pin)? / 1024;
                    return Err(Error::DoesNotFit(format!("{why}; that takes {least}K at least")));
                }
                tiles => tiles?,
            },
            Place::Memory | Place::Flash => Vec::new(),
        };
        if place == Place::File {
            parts.weights = pins.iter().map(|pin| pin.len).sum();
        }
        Ok(Division { parts, max_tile, pins })
    }

    fn tiles(&self, max_tile: usize) -> Tiles {
        Tiles::of(self.model, max_tile, self.settings.max_loops)
    }

    /// What there must be before the first weight is pinned, and the largest tile.
    fn needed(
        &self,
        place: Place,
        ram: Option<usize>,
        asked: Option<usize>,
    ) -> Result<(Parts, usize), Error> {
        let of_all = |bytes: Result<usize, SessionError>| {
            bytes.map(|bytes| bytes.saturating_mul(self.sessions)).map_err(session_error)
        };
        let session = of_all(Session::arena_bytes(self.model, &self.settings))?;
        let kv = of_all(Session::kv_bytes(self.model, &self.settings))?;
        let buffer = match place {
            Place::File => HostStore::buffer(self.file, block_buffer(asked, ram) / 2, self.has_sums),
            Place::Memory | Place::Flash => Buffer { max_tile: usize::MAX, bytes: 0 },
        };
        let weights =
            if place == Place::Memory { usize::try_from(self.file).unwrap_or(usize::MAX) } else { 0 };
        let parts = Parts {
            program: self.program,
            tables: self.tables,
            kv,
            activations: session.saturating_sub(kv),
            block_buffer: buffer.bytes,
            reserve: if place == Place::Flash { 0 } else { self.reserve(ram) },
            weights,
        };
        Ok((parts, buffer.max_tile))
    }

    /// What a run still takes besides: page tables, lists of the sampler, checksums, and the file's header
    /// in the page cache.
    fn reserve(&self, ram: Option<usize>) -> usize {
        let tables = ram.unwrap_or_default() / 256;
        let lists = self.model.config().vocab.saturating_mul(size_of::<u32>() * 2);
        let header = usize::try_from(self.header).unwrap_or(usize::MAX);
        [tables, lists, self.sums(), header].into_iter().fold(0, usize::saturating_add)
    }

    /// The checksums of weights, with a bit for each that was looked at.
    fn sums(&self) -> usize {
        let count = if self.has_sums { Sums::<()>::count(self.header, self.file) } else { 0 };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        count.saturating_mul(size_of::<u32>()).saturating_add(count.div_ceil(8))
    }

    /// Bytes left for pins.
    fn room(
        &self,
        (place, ram): (Place, usize),
        (buffer, pin): (Option<usize>, &PinChoice),
        parts: &Parts,
    ) -> Result<usize, Error> {
        if let Some(room) = ram.checked_sub(parts.total()) {
            return Ok(room);
        }
        let least = self.least(place, buffer, pin)? / 1024;
        let parts = parts.list().into_iter().filter(|(_, bytes)| *bytes > 0);
        let parts: Vec<_> =
            parts.map(|(name, bytes)| format!("{name} {}", human_bytes(bytes as u64))).collect();
        let buffer = if place == Place::File { " or a smaller --block-buffer" } else { "" };
        let ram = human_bytes(ram as u64);
        let found = match self.board {
            Some(board) => format!("{board} has {ram} of RAM, which"),
            None => format!("--ram {ram}"),
        };
        Err(Error::DoesNotFit(format!(
            "{found} is too little for this model and the session asked for: {least}K at least ({}); lower --ctx or --kv-window, \
             or choose a smaller --kv-type, --kv last, a shorter prompt{buffer}, or quantize to fewer bits",
            parts.join(", ")
        )))
    }

    /// The least memory that would do, in whole pages, with the weights that are pinned by name.
    ///
    /// What is needed grows with the memory, as the block buffer and the reserve are parts of it, but
    /// more slowly: from nothing at all upwards, the first memory that is enough for what it asks for
    /// is the least.
    ///
    /// # Errors
    /// [`Error::Usage`] for settings or pins that make no sense.
    pub fn least(&self, place: Place, buffer: Option<usize>, pin: &PinChoice) -> Result<usize, Error> {
        let mut ram = 0;
        loop {
            let (parts, max_tile) = self.needed(place, Some(ram), buffer)?;
            let named = match (place, pin) {
                (Place::File, PinChoice::Parts { .. }) => {
                    pin.tiles(self.model, &self.tiles(max_tile), None)?
                }
                _ => Vec::new(),
            };
            let total = named.iter().fold(parts.total(), |sum, pin| sum.saturating_add(pin.len));
            let needed = total.checked_next_multiple_of(PAGE).unwrap_or(usize::MAX);
            if needed <= ram {
                return Ok(ram);
            }
            ram = needed;
        }
    }
}

impl Division {
    /// What is fetched for the parts of a token, as the store of a run counts it ([`Store::fetched`]),
    /// and nothing if all weights are in memory.
    #[must_use]
    pub fn fetches(&self, place: Place, model: &Model<'_>) -> Fetches {
        match place {
            Place::Memory => Fetches::default(),
            Place::File | Place::Flash => Fetches::of(model, &Planned { division: self, place }),
        }
    }

    /// Bytes that are fetched for a tile, or for a part of one, whenever it is read.
    #[must_use]
    pub fn fetched(&self, place: Place, span: Span) -> u64 {
        Planned { division: self, place }.fetched(span)
    }
}

/// The store of a run whose memory is divided like this, all that is pinned read: what it would move. It
/// has no bytes to hand out.
struct Planned<'d> {
    division: &'d Division,
    place: Place,
}

impl Store for Planned<'_> {
    fn len(&self) -> u64 {
        u64::MAX
    }

    fn max_tile(&self) -> usize {
        self.division.max_tile
    }

    fn load(&mut self, want: Span, _: impl IntoIterator<Item = Span>) -> Result<(), StoreError> {
        Err(StoreError::Short { span: want, found: 0 })
    }

    fn current(&self) -> Span {
        Span::EMPTY
    }

    fn tile(&self) -> &[u8] {
        &[]
    }

    fn fetched(&self, span: Span) -> u64 {
        let pins = &self.division.pins;
        let before = pins.partition_point(|pin| pin.offset <= span.offset);
        let is_pinned = pins[..before].last().is_some_and(|pin| pin.contains(span));
        match self.place {
            Place::File if !is_pinned => FileStore::pages_of(span).len as u64,
            Place::Flash => span.len as u64,
            Place::File | Place::Memory => 0,
        }
    }

    fn reads_ahead(&self) -> usize {
        if self.place == Place::File { FileStore::AHEAD } else { 0 }
    }

    fn counters(&self) -> StoreCounters {
        StoreCounters::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::Memories;
    use crate::store::{BUILT_IN, StoreKind};
    use std::path::Path;

    /// The memory that a refusal names is accepted, and one page less is not, also where the block
    /// buffer and the reserve grow with it.
    #[test]
    fn the_least_is_enough_and_nothing_less_is() {
        let path = Path::new(BUILT_IN);
        let mut store = HostStore::open(path, StoreKind::Memory, 0).unwrap();
        let mut memories = Memories::default();
        let opened = Opened::open(path, &mut store, &mut memories).unwrap();
        let settings = Settings::new(&opened.model, 512, 64);
        let usual = Demand::of(&store, &opened, &settings);
        for (file, program) in
            [(600 << 10, 0), (900 << 20, 0), (900 << 20, 10 << 20), (900 << 20, 3_999_999_999)]
        {
            for has_sums in [false, true] {
                for buffer in [None, Some(100 << 10), Some(32 << 20)] {
                    let named: PinChoice = "blk.1,output".parse().unwrap();
                    for (place, pin) in [
                        (Place::File, named),
                        (Place::File, PinChoice::None),
                        (Place::File, PinChoice::Auto),
                        (Place::Flash, PinChoice::Auto),
                    ] {
                        let demand = Demand { file, program, has_sums, ..usual };
                        let least = demand.least(place, buffer, &pin).unwrap();
                        let divided = demand.divide(place, Some(least), buffer, &pin).unwrap();
                        assert!(
                            divided.parts.total() <= least
                                && least < divided.parts.total() + PAGE + (600 << 10)
                        );
                        let refused = demand.divide(place, Some(least - PAGE), buffer, &pin).unwrap_err();
                        assert!(
                            refused.to_string().contains(&format!("{}K at least", least / 1024)),
                            "{refused}"
                        );
                    }
                }
            }
        }
    }
}
