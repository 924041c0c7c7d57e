//! Which weights stay in memory.

use super::PinChoice;
use crate::error::Error;
use crate::report::human_bytes;
use ouro_runtime::model::{self, Model, Part, Tile};
use ouro_runtime::store::Span;
use std::ops::RangeInclusive;

/// The tiles of one pass through the stack, which a token makes so often at most, and those of the head.
#[derive(Clone, Debug)]
pub(super) struct Tiles {
    stack: Vec<Tile>,
    head: Vec<Tile>,
    loops: usize,
}

impl Tiles {
    pub(super) fn of(model: &Model<'_>, max_tile: usize, loops: usize) -> Self {
        let (stack, head) = (model.stack_tiles(max_tile), model.head_tiles(max_tile));
        Self { stack: stack.collect(), head: head.collect(), loops }
    }
}

impl PinChoice {
    /// The tiles to keep in `room` bytes, in order of offset; a list of parts may have any size where
    /// no room is said.
    ///
    /// # Errors
    /// [`Error::Usage`] for layers that the model has not, [`Error::DoesNotFit`].
    pub(super) fn tiles(
        &self,
        model: &Model<'_>,
        Tiles { stack, head, loops }: &Tiles,
        room: Option<usize>,
    ) -> Result<Vec<Span>, Error> {
        let mut pins = match self {
            Self::None => Vec::new(),
            Self::Auto => choose_pins(&spans(stack), &spans(head), *loops, room.unwrap_or_default()),
            Self::Parts { layers, head: with_head } => {
                check_layers(layers, model)?;
                let chosen = |tile: &&Tile| match tile.part {
                    Part::Layer(layer) => layers.iter().any(|range| range.contains(&layer)),
                    Part::Head => *with_head,
                };
                stack.iter().chain(head).filter(chosen).map(|tile| tile.span).collect()
            }
        };
        let wanted: usize = pins.iter().map(|pin| pin.len).sum();
        if let Some(room) = room.filter(|room| wanted > *room) {
            return Err(Error::DoesNotFit(format!(
                "--pin wants {} for weights, but --ram leaves {}; pin less, or {} more is needed",
                human_bytes(wanted as u64),
                human_bytes(room as u64),
                human_bytes((wanted - room) as u64)
            )));
        }
        pins.sort_by_key(|pin| pin.offset);
        Ok(pins)
    }
}

fn spans(tiles: &[Tile]) -> Vec<Span> {
    tiles.iter().map(|tile| tile.span).collect()
}

fn check_layers(layers: &[RangeInclusive<usize>], model: &Model<'_>) -> Result<(), Error> {
    let count = model.config().layers;
    match layers.iter().find(|range| range.is_empty() || *range.end() >= count) {
        Some(range) if range.start() == range.end() => Err(Error::Usage(format!(
            "--pin blk.{}: the model has the layers blk.0 to blk.{}",
            range.start(),
            count - 1
        ))),
        Some(range) => Err(Error::Usage(format!(
            "--pin blk.{}-{}: the model has the layers blk.0 to blk.{}",
            range.start(),
            range.end(),
            count - 1
        ))),
        None => Ok(()),
    }
}

/// Says so where the order of tensors in the file makes many more tiles than there need be.
pub(super) fn note_order(stack: model::Tiles<'_>, max_tile: usize) {
    let stack: Vec<Tile> = stack.collect();
    let bytes: usize = stack.iter().map(|tile| tile.span.len).sum();
    let layers = stack.chunk_by(|a, b| a.part == b.part).count();
    let enough = bytes / max_tile.max(1) + layers;
    if stack.len() > 2 * enough {
        eprintln!(
            "note: {} requests per loop where {enough} would do, as the file is not in order of execution; \
             `ouro layout` copies it into that",
            stack.len()
        );
    }
}

/// The tiles to keep in `room` bytes so that a token of so many loops fetches the fewest: the stack
/// first, as it is read in every loop, then the head. With one loop they are read equally often.
///
/// Which tiles of the stack, makes no difference to the bytes: a pass reads each once. It does to the
/// time: between two tiles that are fetched there should be as much to compute as possible, so what
/// is kept is spread evenly.
#[must_use]
pub fn choose_pins(stack: &[Span], head: &[Span], loops: usize, room: usize) -> Vec<Span> {
    if loops == 1 {
        return spread(&[stack, head].concat(), room);
    }
    let mut pins = spread(stack, room);
    let left = room - pins.iter().map(|pin| pin.len).sum::<usize>();
    if pins.len() == stack.len() {
        pins.extend(spread(head, left));
    }
    pins
}

/// Some of `tiles`, as evenly as possible, of `room` bytes at most.
fn spread(tiles: &[Span], room: usize) -> Vec<Span> {
    let total: usize = tiles.iter().map(|tile| tile.len).sum();
    let (mut seen, mut kept) = (0, 0);
    let mut is_kept: Vec<bool> = Vec::with_capacity(tiles.len());
    for tile in tiles {
        seen += tile.len;
        let share = (room as u128 * seen as u128 / total.max(1) as u128) as usize;
        is_kept.push(kept + tile.len <= share.min(room));
        kept += if is_kept.last() == Some(&true) { tile.len } else { 0 };
    }
    // What rounding has left over.
    for (tile, is_kept) in tiles.iter().zip(&mut is_kept) {
        if !*is_kept && kept + tile.len <= room {
            *is_kept = true;
            kept += tile.len;
        }
    }
    tiles.iter().zip(is_kept).filter(|(_, is_kept)| *is_kept).map(|(tile, _)| *tile).collect()
}
