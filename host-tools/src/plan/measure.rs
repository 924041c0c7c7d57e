//! The rates of the machine at hand: what its kernels reach on matrices of the model's own shapes and
//! types, and how fast its disk is.
//!
//! Peaks of the hardware would promise too much, so a piece of the model is really run: its widths,
//! types and output head, a few of its layers, with random weights, in memory.

use super::Machine;
use crate::checksums;
use crate::compute::Compute;
use crate::error::Error;
use crate::gguf_writer::{GgufWriter, TensorInfo};
use crate::open::{Memories, Memory, Opened, session, session_error};
use crate::quantize::{ALIGNMENT, FileType, Source, choose, infos, layer_of};
use crate::store::HostStore;
use ouro_runtime::depth::{FixedDepth, Needs};
use ouro_runtime::kv::KvSettings;
use ouro_runtime::model::Model;
use ouro_runtime::session::{Cost, Feed, Session, Settings, Step, Work};
use ouro_runtime::store::{SliceStore, Store};
use std::io::Cursor;
use std::path::Path;
use std::time::Instant;

/// Layers of at least so many bytes together: more than caches hold.
const LAYER_BYTES: u64 = 64 << 20;
/// Tokens of a prompt.
const PROMPT: usize = 128;
/// Rounds, of which the median counts.
const ROUNDS: usize = 7;
/// A disk is read for about so long, and once more if that was all of the model.
const DISK_SECONDS: f64 = 1.0;

/// The rates of this machine for a model with this session.
///
/// # Errors
/// [`Error`], among others if there is no room for the piece.
pub(crate) fn measure(
    source: Source,
    file_type: Option<FileType>,
    compute: Compute,
    (model, settings): (&Model<'_>, &Settings),
) -> Result<Machine, Error> {
    let mut store = piece(source, file_type)?;
    let mut memories = Memories::default();
    let opened = Opened::open(Path::new("the piece that is measured"), &mut store, &mut memories)?;
    let kv = KvSettings { window: 0, ..settings.kv };
    let rows = PROMPT.min(opened.model.config().context);
    let settings_here = Settings { context: 2 * rows + ROUNDS, rows, max_loops: 1, min_loops: 1, kv };
    let mut memory = Memory::default();
    let (mut session, _) = session(&opened.model, settings_here, &mut memory)?;
    compute.lend(&mut session);
    let times = Times::of(&mut session, &mut store, rows)?;
    Ok(times.machine((model, settings), rows))
}

/// A model of a few layers, in memory.
fn piece(mut source: Source, file_type: Option<FileType>) -> Result<HostStore, Error> {
    let choices = choose(&source.tensors, source.layers, file_type, &[])?;
    let all = infos(&source, &choices)?;
    let first: u64 = all.iter().filter(|info| layer_of(&info.name) == Some(0)).map(|info| info.len).sum();
    let layers =
        u32::try_from(LAYER_BYTES.div_ceil(first.max(1))).unwrap_or(u32::MAX).clamp(1, source.layers);
    let is_in = |name: &str| layer_of(name).is_none_or(|layer| layer < layers);
    let infos: Vec<TensorInfo> = all.into_iter().filter(|info| is_in(&info.name)).collect();
    source.metadata.set(format!("{}.block_count", source.architecture), layers);
    source.metadata.set("general.alignment", ALIGNMENT);
    source.metadata = checksums::without(&source.metadata);

    let room = infos.iter().map(|info| info.len.next_multiple_of(ALIGNMENT.into())).sum::<u64>();
    let mut header = Vec::new();
    GgufWriter::new(&mut header, &source.metadata, &infos, ALIGNMENT).map_err(anyhow::Error::new)?;
    HostStore::filled(header.len() as u64 + room, |bytes| {
        let writing = |error| Error::Other(anyhow::Error::new(error));
        let mut writer =
            GgufWriter::new(Cursor::new(bytes), &source.metadata, &infos, ALIGNMENT).map_err(writing)?;
        let mut weights = crate::commands::random::Weights::new(0);
        for info in &infos {
            weights.write(info, |bytes| writer.write(bytes).map_err(writing))?;
            writer.end_tensor().map_err(writing)?;
        }
        Ok(())
    })
}

/// Seconds, medians.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// A layer for a whole prompt.
    prompt: f64,
    /// A layer for half of one.
    half: f64,
    /// A layer for one position with next to nothing in the cache.
    first: f64,
    /// A layer for one position after two prompts.
    last: f64,
    /// The output head.
    head: f64,
}

impl Times {
    fn of(session: &mut Session<'_>, store: &mut HostStore, rows: usize) -> Result<Self, Error> {
        let ids = vec![0; rows];
        let rounds = (0..=ROUNDS).map(|_| {
            session.clear();
            let mut run = |ids: &[u32]| steps(session, store, ids);
            let (first, head) = run(&[0])?;
            let (prompt, _) = run(&ids)?;
            run(ids.get(2..).unwrap_or_default())?;
            let (last, _) = run(&[0])?;
            session.clear();
            let (half, _) = steps(session, store, ids.get(..rows.div_ceil(2)).unwrap_or_default())?;
            Ok([prompt, half, first, last, head])
        });
        // The first warms caches and clocks.
        let rounds = rounds.skip(1).collect::<Result<Vec<_>, Error>>()?;
        let [prompt, half, first, last, head] =
            std::array::from_fn(|which| median(rounds.iter().map(|round| round[which]).collect()));
        Ok(Self { prompt, half, first, last, head })
    }

    /// Rates with which the model takes the times measured, at its full depth.
    fn machine(&self, (model, settings): (&Model<'_>, &Settings), rows: usize) -> Machine {
        let config = model.config();
        let passes = (config.layers * settings.max_loops) as f64;
        let cost = |work| Cost::worst_case(model, &SliceStore::new(&[]), settings, work, Needs::NOTHING);
        let token = cost(Work { generated: 1, ..Work::default() });
        let memory = token.bytes as f64 / (passes * self.first + self.head);

        let older = 2 * rows - 1;
        let read = (older * super::kv_bytes(model, settings)) as f64;
        // Where there is no difference to be seen, reading K and V is no slower than reading weights.
        let slower = (self.last - self.first).max(read / memory);
        let kv = read / slower;

        // A prompt's products grow with its length, its attention with the square: two lengths tell them apart.
        let reads = |rows: usize| (rows * (rows + 1) / 2) as f64;
        let parts = rows as f64 / rows.div_ceil(2) as f64;
        let more_reads = reads(rows) - parts * reads(rows.div_ceil(2));
        let attention = match (self.prompt - parts * self.half) / more_reads * reads(rows) {
            attention if more_reads > 0.0 && attention > 0.0 => attention.min(0.9 * self.prompt),
            _ => 0.0,
        };
        // Where there is none to be seen, it is no slower than for a position alone.
        let bytes = reads(rows) * super::kv_bytes(model, settings) as f64;
        let prompt_kv = if attention > 0.0 { (bytes / attention).max(kv) } else { kv };
        let attention = bytes / prompt_kv;
        let layer = cost(Work { prompt: 1, ..Work::default() });
        let head = (config.vocab * config.hidden) as f64;
        let products = (layer.macs as f64 - head) / passes * rows as f64;
        let macs = products / (self.prompt - attention).max(0.1 * self.prompt);
        Machine { flash: None, memory, kv, prompt_kv, macs }
    }
}

/// Seconds of a layer, the median over all, and of the output head.
fn steps(session: &mut Session<'_>, store: &mut HostStore, ids: &[u32]) -> Result<(f64, f64), Error> {
    if ids.is_empty() {
        return Ok((0.0, 0.0));
    }
    session.feed(ids, Feed::Prompt).map_err(session_error)?;
    let (mut layers, mut head) = (Vec::new(), 0.0);
    loop {
        let began = Instant::now();
        let step = session.step(store, &FixedDepth).map_err(session_error)?;
        let seconds = began.elapsed().as_secs_f64();
        match step {
            Step::Layer { .. } => layers.push(seconds),
            Step::Head { .. } => head = seconds,
            Step::Loop { .. } => {}
            Step::Done(_) => return Ok((median(layers), head)),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Bytes per second of reading tiles of a file as a run does, with nothing to compute; `None` if the
/// file is in memory.
///
/// # Errors
/// [`Error::BadInput`] if it can't be read.
pub(crate) fn measure_disk(store: &mut HostStore, model: &Model<'_>) -> Result<Option<f64>, Error> {
    let max = store.max_tile();
    if max == usize::MAX {
        return Ok(None);
    }
    // A run goes round all tiles again and again, and a disk with a cache may have them at hand by then.
    let (first, is_whole) = measure_round(store, model)?;
    Ok(Some(if is_whole { measure_round(store, model)?.0 } else { first }))
}

/// Bytes per second of reading all tiles, or as many as there is time for; and whether it was all.
fn measure_round(store: &mut HostStore, model: &Model<'_>) -> Result<(f64, bool), Error> {
    let (max, before, began) = (store.max_tile(), store.counters().bytes, Instant::now());
    let mut tiles = model.stack_tiles(max).chain(model.head_tiles(max)).map(|tile| tile.span);
    let mut is_whole = true;
    while let Some(tile) = tiles.next() {
        if began.elapsed().as_secs_f64() > DISK_SECONDS {
            is_whole = false;
            break;
        }
        store.load(tile, tiles.clone()).map_err(|error| Error::BadInput(error.to_string()))?;
    }
    let bytes = store.counters().bytes - before;
    Ok((bytes as f64 / began.elapsed().as_secs_f64().max(1e-9), is_whole))
}
