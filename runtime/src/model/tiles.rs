//! The order in which a token reads the weights, tile by tile.
//!
//! It is known before anything is read, from where the matrices lie and from how large a tile may
//! be: in every loop all layers, then, where somebody reads it, the output head. This is the one
//! definition of it: what runs announces tiles by it, and what plans memory counts by it.

use super::Model;
use super::weights::Weights;
use crate::store::Span;

/// A tile reads on over a gap of this many bytes (alignment, a norm) rather than end there: that
/// costs less than another request.
const MAX_GAP: u64 = 16 << 10;

/// A row of the stack in order of execution. The output head counts as one more layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) layer: usize,
    pub(super) matrix: usize,
    pub(super) row: usize,
}

impl Place {
    pub(super) fn start(layer: usize) -> Self {
        Self { layer, matrix: 0, row: 0 }
    }
}

/// What a tile is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Part {
    /// A layer of the stack, from 0.
    Layer(usize),
    /// The output head.
    Head,
}

/// Weights that are fetched together; no tile reaches over the end of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Tile {
    /// Where it is in the file.
    pub span: Span,
    /// What it is a part of.
    pub part: Part,
}

/// Tiles in the order in which they are read.
#[derive(Clone, Debug)]
pub struct Tiles<'w> {
    weights: &'w Weights<'w>,
    max_tile: usize,
    place: Option<Place>,
}

impl<'w> Tiles<'w> {
    /// From a place to the end of the stack, or of the head.
    pub(super) fn from(weights: &'w Weights<'w>, max_tile: usize, place: Option<Place>) -> Self {
        Self { weights, max_tile, place }
    }
}

impl Iterator for Tiles<'_> {
    type Item = Tile;

    fn next(&mut self) -> Option<Tile> {
        let place = self.place?;
        let (span, next) = self.weights.tile(place, self.max_tile);
        self.place = next;
        let part =
            if place.layer < self.weights.layers.len() { Part::Layer(place.layer) } else { Part::Head };
        Some(Tile { span, part })
    }
}

impl Model<'_> {
    /// The tiles of one pass through the stack, none larger than `max_tile` bytes unless a single
    /// row is.
    #[must_use]
    pub fn stack_tiles(&self, max_tile: usize) -> Tiles<'_> {
        Tiles::from(self.weights(), max_tile, Some(Place::start(0)))
    }

    /// The tiles of the output head.
    #[must_use]
    pub fn head_tiles(&self, max_tile: usize) -> Tiles<'_> {
        Tiles::from(self.weights(), max_tile, Some(Place::start(self.config().layers)))
    }

    /// The tiles that one token of this depth reads, its embedding apart.
    pub fn token_tiles(&self, loops: usize, max_tile: usize) -> impl Iterator<Item = Tile> {
        (0..loops).flat_map(move |_| self.stack_tiles(max_tile)).chain(self.head_tiles(max_tile))
    }

    /// Where the embedding of a token is: one small read, by far the smallest part of a token.
    #[must_use]
    pub fn embedding_row(&self, token: u32) -> Span {
        self.weights().embedding.span(token as usize, 1)
    }

    /// The longest row of any matrix: the least that a tile must have room for.
    #[must_use]
    pub fn largest_row(&self) -> usize {
        self.weights().largest_row()
    }
}

impl Weights<'_> {
    /// The tile that begins at `place`, and where the one after it does, unless that is beyond the
    /// stack or the head: whole rows, up to `max` bytes but at least one row, of this matrix and of
    /// those of the same layer that follow it in the file as they do in execution.
    pub(super) fn tile(&self, place: Place, max: usize) -> (Span, Option<Place>) {
        let Some(matrix) = self.matrix(place) else { return (Span::EMPTY, None) };
        let start = matrix.span(place.row, 0).offset;
        let mut tile = Span { offset: start, len: 0 };
        let mut next = place;
        while let Some(matrix) = self.matrix(next) {
            let begin = matrix.span(next.row, 0).offset;
            let Some(gap) = begin.checked_sub(tile.end()).filter(|gap| *gap <= MAX_GAP) else { break };
            let room = max.saturating_sub(tile.len).saturating_sub(gap as usize);
            let fit = room.checked_div(matrix.row_bytes()).unwrap_or_default();
            let fit = if tile.len == 0 { fit.max(1) } else { fit }.min(matrix.rows() - next.row);
            if fit == 0 {
                break;
            }
            tile.len += gap as usize + fit * matrix.row_bytes();
            next.row += fit;
            if next.row < matrix.rows() {
                break;
            }
            next = Place { matrix: next.matrix + 1, row: 0, ..next };
        }
        (tile, self.settle(next))
    }

    /// The same place, or the beginning of the next layer where this one has ended.
    fn settle(&self, place: Place) -> Option<Place> {
        if self.matrix(place).is_some() {
            return Some(place);
        }
        let layer = place.layer + 1;
        (layer < self.layers.len()).then_some(Place::start(layer))
    }
}
