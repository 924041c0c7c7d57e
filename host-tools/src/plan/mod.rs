//! What a model needs and how fast it would be, before anything is bought, downloaded or waited for.
//!
//! Memory and bytes are those of a run, as the same code counts them ([`Demand`], the tiles of
//! [`Model`]). Time is a model of a machine with three or four rates. Of one token, or of a prompt,
//!
//! ```text
//! fetching  = bytes that come from flash / flash rate
//! matrices  = max(bytes of weights / memory rate, products / product rate)
//! attention = bytes of K and V that are read / rate of reading K and V
//! time      = fetching + products + attention         from mapped flash: the core waits for each line
//!           = matrices + attention                    in memory
//! ```
//!
//! From a file, a tile is read while the one before it computes: what is fetched where
//! little is computed, is waited for (`overlap.rs`). Weights that were fetched are read once more from
//! memory by whoever computes. The worst case of a token is the full depth at the end of the context with
//! nothing overlapping.

mod advice;
mod boards;
mod measure;
mod outline;
mod overlap;
mod report;

pub use boards::{BOARDS, Board};
pub(crate) use measure::{measure, measure_disk};
pub use outline::Outline;
pub use report::Report;

use crate::error::Error;
use crate::ram::{Demand, Division, PinChoice, Place};
use ouro_runtime::depth::Needs;
use ouro_runtime::kv::KvType;
use ouro_runtime::model::{Config, Model, Tiles};
use ouro_runtime::session::{Cost, Fetches, Settings, Work};
use ouro_runtime::store::SliceStore;
use overlap::Step;
use serde::Serialize;

/// How fast a machine is, per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// Bytes read from flash or disk; needed where weights are there.
    pub flash: Option<f64>,
    /// Bytes of weights read from memory.
    pub memory: f64,
    /// Bytes of K and V read from memory and computed with.
    pub kv: f64,
    /// The same in a prompt, each byte once for every position that reads it: they share what is near.
    pub prompt_kv: f64,
    /// Products of weights and activations.
    pub macs: f64,
}

/// What is asked for, the model and its session apart.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Where weights are.
    pub place: Place,
    /// All the memory that there is.
    pub ram: Option<usize>,
    /// The block buffer, if not the usual one.
    pub buffer: Option<usize>,
    /// What stays in memory.
    pub pin: PinChoice,
    /// The longest prompt, in tokens; [`Settings::rows`] of them are in flight at once.
    pub prompt: usize,
    /// The machine, if speed is asked for.
    pub machine: Option<Machine>,
    /// What the exit policy wants to see.
    pub needs: Needs,
    /// The mean depth of a token, if it is known.
    pub mean_depth: Option<f64>,
}

/// A model in the memory that there is.
#[derive(Clone, Debug)]
pub struct Plan<'d> {
    demand: Demand<'d>,
    ask: Ask,
    division: Division,
    fetches: Fetches,
    /// Bytes of the tiles of a pass, and of those of the head, where weights are in a file.
    stack: Vec<Piece>,
    head: Vec<Piece>,
}

/// A tile.
#[derive(Clone, Copy, Debug)]
struct Piece {
    bytes: f64,
    /// Nothing if it is pinned.
    fetched: f64,
}

/// What takes the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// Reading from flash or disk.
    Flash,
    /// Reading weights from memory.
    Memory,
    /// Multiplying.
    Products,
    /// Reading K and V.
    Kv,
}

impl Bound {
    fn name(self) -> &'static str {
        match self {
            Self::Flash => "flash",
            Self::Memory => "memory",
            Self::Products => "products",
            Self::Kv => "K and V",
        }
    }
}

/// Seconds of some work, by what they go into.
#[derive(Clone, Copy, Debug)]
struct Time {
    place: Place,
    fetching: f64,
    weights: f64,
    products: f64,
    attention: f64,
    /// All of it, with what overlaps.
    seconds: f64,
}

/// What is computed.
#[derive(Clone, Copy, Debug)]
struct Task {
    depth: usize,
    /// Positions, whose embeddings are read.
    rows: usize,
    /// Positions whose K and V are read in a layer, in all loops.
    reads: usize,
    /// Bytes of K and V per second.
    kv: f64,
}

impl Time {
    /// The one and then the other.
    fn plus(self, other: Self) -> Self {
        Self {
            place: self.place,
            fetching: self.fetching + other.fetching,
            weights: self.weights + other.weights,
            products: self.products + other.products,
            attention: self.attention + other.attention,
            seconds: self.seconds + other.seconds,
        }
    }

    fn times(self, factor: f64) -> Self {
        Self {
            place: self.place,
            fetching: factor * self.fetching,
            weights: factor * self.weights,
            products: factor * self.products,
            attention: factor * self.attention,
            seconds: factor * self.seconds,
        }
    }

    fn computing(&self) -> f64 {
        let weights = if self.place == Place::Flash { 0.0 } else { self.weights };
        weights.max(self.products) + self.attention
    }

    fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Nothing overlaps.
    fn worst(&self) -> f64 {
        self.fetching + self.computing()
    }

    fn bound(&self) -> Bound {
        let Self { place, fetching, weights, products, attention, .. } = *self;
        let fetches = if place == Place::File { fetching >= self.computing() } else { fetching >= products };
        match place {
            Place::File | Place::Flash if fetches && fetching >= attention => Bound::Flash,
            _ if attention > products && (place == Place::Flash || attention > weights) => Bound::Kv,
            Place::File | Place::Memory if weights > products => Bound::Memory,
            _ => Bound::Products,
        }
    }
}

impl<'d> Plan<'d> {
    /// Divides memory as a run would.
    ///
    /// # Errors
    /// Those of the run: [`Error::DoesNotFit`] with the least that would do, [`Error::Usage`].
    pub fn new(demand: Demand<'d>, ask: Ask) -> Result<Self, Error> {
        let division = demand.divide(ask.place, ask.ram, ask.buffer, &ask.pin)?;
        let fetches = division.fetches(ask.place, demand.model);
        let pieces = |tiles: Tiles<'_>| {
            let tiles = tiles.map(|tile| tile.span).filter(|_| ask.place == Place::File);
            let fetched = |span| division.fetched(ask.place, span) as f64;
            tiles.map(|span| Piece { bytes: span.len as f64, fetched: fetched(span) }).collect()
        };
        let stack = pieces(demand.model.stack_tiles(division.max_tile));
        let head = pieces(demand.model.head_tiles(division.max_tile));
        Ok(Self { demand, ask, division, fetches, stack, head })
    }

    /// Bytes fetched for a generated token of this depth, at most.
    fn token_bytes(&self, depth: usize) -> u64 {
        self.bytes(depth, 1, self.cost(depth, Work { generated: 1, ..Work::default() }).heads)
    }

    fn bytes(&self, depth: usize, rows: usize, heads: u64) -> u64 {
        let Fetches { pass, head, row, .. } = self.fetches;
        depth as u64 * pass + heads * head + rows as u64 * row
    }

    /// The same with what may be read ahead in vain: the most, as a budget of bytes counts it.
    fn worst_bytes(&self, depth: usize) -> u64 {
        self.token_bytes(depth) + self.fetches.ahead
    }

    fn cost(&self, depth: usize, work: Work) -> Cost {
        let Settings { min_loops, .. } = self.demand.settings;
        let settings = Settings { max_loops: depth, min_loops: min_loops.min(depth), ..self.demand.settings };
        Cost::worst_case(self.demand.model, &SliceStore::new(&[]), &settings, work, self.ask.needs)
    }

    /// A generated token of this depth after `older` positions.
    fn decode(&self, machine: &Machine, depth: usize, older: usize) -> Time {
        let cost = self.cost(depth, Work { generated: 1, older, ..Work::default() });
        self.time(machine, cost, Task { depth, rows: 1, reads: depth * (older + 1), kv: machine.kv })
    }

    /// Seconds of a generated token at most: nothing overlaps.
    fn worst_seconds(&self, machine: &Machine, depth: usize, older: usize) -> f64 {
        let in_vain = machine.flash.map_or(0.0, |flash| self.fetches.ahead as f64 / flash);
        self.decode(machine, depth, older).worst() + in_vain
    }

    /// The longest prompt, from an empty cache.
    fn prefill(&self, machine: &Machine) -> Time {
        let (prompt, rows) = (self.ask.prompt, self.demand.settings.rows.max(1));
        let before = prompt.saturating_sub(1) / rows;
        let last = self.part(machine, before * rows, prompt - before * rows, true);
        if before == 0 {
            return last;
        }
        // From one of those before it to the next only what is read of K and V grows, and evenly: the mean of
        // the first and the last is that of all, or a little more where it takes over as the limit on the way.
        let both =
            self.part(machine, 0, rows, false).plus(self.part(machine, (before - 1) * rows, rows, false));
        both.times(before as f64 / 2.0).plus(last)
    }

    /// So many positions of a prompt at once, after `older` ones; with the output head if they are the last.
    fn part(&self, machine: &Machine, older: usize, rows: usize, is_last: bool) -> Time {
        let depth = self.demand.settings.max_loops;
        let mut cost = self.cost(depth, Work { older, prompt: rows, ..Work::default() });
        if !is_last {
            let Config { vocab, hidden, .. } = self.demand.model.config();
            let tiles = self.demand.model.head_tiles(self.division.max_tile);
            let head: u64 = tiles.map(|tile| tile.span.len as u64).sum();
            cost.macs -= cost.heads * (vocab * hidden) as u64;
            cost.bytes -= cost.heads * head;
            cost.heads = 0;
        }
        let reads = depth * (rows * older + rows * (rows + 1) / 2);
        self.time(machine, cost, Task { depth, rows, reads, kv: machine.prompt_kv })
    }

    fn time(&self, machine: &Machine, cost: Cost, task: Task) -> Time {
        let config = self.demand.model.config();
        let reads = (task.reads * config.layers) as f64;
        let products = cost.macs as f64 - reads * 2.0 * config.q_width() as f64;
        let fetched = self.bytes(task.depth, task.rows, cost.heads) as f64;
        let time = Time {
            place: self.ask.place,
            fetching: machine.flash.map_or(0.0, |flash| fetched / flash),
            weights: cost.bytes as f64 / machine.memory,
            products: products / machine.macs,
            attention: reads * kv_bytes(self.demand.model, &self.demand.settings) as f64 / task.kv,
            seconds: 0.0,
        };
        let seconds = match self.ask.place {
            Place::File => self.overlapping(machine, &time, cost.heads, task),
            Place::Memory | Place::Flash => time.worst(),
        };
        Time { seconds, ..time }
    }

    /// Seconds with tiles fetched while others compute. A tile of the stack, or of the head, computes for
    /// its share of what the stack or the head takes.
    fn overlapping(&self, machine: &Machine, time: &Time, heads: u64, task: Task) -> f64 {
        let config = self.demand.model.config();
        let sum = |pieces: &[Piece]| pieces.iter().map(|piece| piece.bytes).sum::<f64>();
        let head_bytes = sum(&self.head);
        let head_macs = (config.vocab * config.hidden) as f64;
        let head = (head_bytes / machine.memory).max(head_macs / machine.macs);
        let stack = (time.computing() - heads as f64 * head).max(0.0) / task.depth as f64;
        let fetching = |bytes: f64| machine.flash.map_or(0.0, |flash| bytes / flash);
        let steps = |pieces: &[Piece], seconds: f64, bytes: f64| -> Vec<Step> {
            let step = |piece: &Piece| Step {
                computing: seconds * piece.bytes / bytes,
                fetching: fetching(piece.fetched),
            };
            pieces.iter().map(step).collect()
        };
        let stack = steps(&self.stack, stack, sum(&self.stack));
        let head = steps(&self.head, head, head_bytes);
        let mut tiles = Vec::new();
        for left in (0..task.depth as u64).rev() {
            tiles.extend_from_slice(&stack);
            if left < heads {
                tiles.extend_from_slice(&head);
            }
        }
        overlap::seconds(fetching(task.rows as f64 * self.fetches.row as f64), &tiles)
    }

    /// The position of a token in the middle of an answer: half-way from the prompt to the context's end.
    fn middle(&self) -> usize {
        let (context, prompt) = (self.demand.settings.context, self.ask.prompt);
        prompt + context.saturating_sub(prompt) / 2
    }

    /// Seconds of a token in the middle of an answer, of a mean depth that need not be whole.
    fn mean_seconds(&self, machine: &Machine, depth: f64) -> f64 {
        let whole = depth.floor();
        let at = |depth: f64| self.decode(machine, (depth as usize).max(1), self.middle()).seconds();
        let (below, above) = (at(whole), at(depth.ceil()));
        below + (above - below) * (depth - whole)
    }

    /// The depth that speed is compared at: the mean where it is known, else the largest.
    fn usual_depth(&self) -> f64 {
        let most = self.demand.settings.max_loops as f64;
        self.ask.mean_depth.map_or(most, |mean| mean.clamp(1.0, most))
    }

    /// Tokens per second in the middle of an answer at the usual depth.
    fn speed(&self, machine: &Machine) -> f64 {
        1.0 / self.mean_seconds(machine, self.usual_depth())
    }
}

/// Bytes of K and V of a position in one layer, scales included.
fn kv_bytes(model: &Model<'_>, settings: &Settings) -> usize {
    let config = model.config();
    let scale = match settings.kv.element {
        KvType::Int8 | KvType::Int4 => size_of::<f32>(),
        KvType::F32 | KvType::F16 => 0,
    };
    2 * config.kv_heads * (config.head_dim * settings.kv.element.bits() as usize / 8 + scale)
}

/// The longest context that fits beside everything else, at most what the model was trained with.
fn longest_context(demand: &Demand<'_>, ask: &Ask) -> Option<usize> {
    ask.ram?;
    let fits = |context: usize| {
        let demand = with_context(demand, context);
        demand.divide(ask.place, ask.ram, ask.buffer, &PinChoice::None).is_ok()
    };
    let (mut fit, mut too_many) = (0, demand.model.config().context + 1);
    while fit + 1 < too_many {
        let middle = fit + (too_many - fit) / 2;
        if fits(middle) { fit = middle } else { too_many = middle }
    }
    Some(fit)
}

/// The same with another context; a prompt is not longer than that.
fn with_context<'d>(demand: &Demand<'d>, context: usize) -> Demand<'d> {
    let mut settings = Settings { context, ..demand.settings };
    settings.rows = settings.rows.min(context);
    Demand { settings, ..*demand }
}
