//! Where the matrices lie, and the tiles through which they are read.
//!
//! A pass reads the same matrices in the same order in every loop. A *tile* is a run of whole
//! rows that the store fetches at once; it reaches as far as the block buffer allows, over
//! several matrices where they are neighbours in the file. Which tiles follow is known (see
//! [`tiles`](super::tiles)), so they are announced.

use super::Config;
use super::tiles::{Place, Tiles};
use crate::kernels::Input;
use crate::kernels::reference::WeightRows;
use crate::session::SessionError;
use crate::store::{Span, Store, StoreError};
use bytemuck::{Pod, Zeroable};
use core::fmt;
use ouro_quant::Format;

/// The matrices of a layer, in order of execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Q,
    K,
    V,
    AttnOutput,
    FfnGate,
    FfnUp,
    FfnDown,
}

impl Role {
    pub(crate) const ALL: [Role; 7] =
        [Role::Q, Role::K, Role::V, Role::AttnOutput, Role::FfnGate, Role::FfnUp, Role::FfnDown];

    /// The name between `blk.N.` and `.weight`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Q => "attn_q",
            Self::K => "attn_k",
            Self::V => "attn_v",
            Self::AttnOutput => "attn_output",
            Self::FfnGate => "ffn_gate",
            Self::FfnUp => "ffn_up",
            Self::FfnDown => "ffn_down",
        }
    }

    /// Rows (outputs) and columns (inputs).
    pub(super) fn shape(self, config: &Config) -> (usize, usize) {
        let &Config { hidden, ffn, .. } = config;
        match self {
            Self::Q => (config.q_width(), hidden),
            Self::K | Self::V => (config.kv_width(), hidden),
            Self::AttnOutput => (hidden, config.q_width()),
            Self::FfnGate | Self::FfnUp => (ffn, hidden),
            Self::FfnDown => (hidden, ffn),
        }
    }
}

/// A matrix in the file, row by row, each row a whole number of blocks.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Matrix {
    offset: u64,
    rows: u32,
    cols: u32,
    row_bytes: u32,
    format_id: u32,
}

impl Matrix {
    /// `None` if a row is not a whole number of blocks or a size does not fit.
    pub(super) fn new(offset: u64, format: Format, rows: usize, cols: usize) -> Option<Self> {
        let row_bytes = format.row_bytes(cols)?;
        row_bytes.checked_mul(rows)?;
        Some(Self {
            offset,
            rows: u32::try_from(rows).ok()?,
            cols: u32::try_from(cols).ok()?,
            row_bytes: u32::try_from(row_bytes).ok()?,
            format_id: format.id(),
        })
    }

    pub(super) fn rows(&self) -> usize {
        self.rows as usize
    }

    pub(super) fn row_bytes(&self) -> usize {
        self.row_bytes as usize
    }

    /// Where all of it lies.
    fn all(&self) -> Span {
        self.span(0, self.rows())
    }

    /// Where `count` rows from `first` lie.
    pub(super) fn span(&self, first: usize, count: usize) -> Span {
        let offset = self.offset.saturating_add(first as u64 * u64::from(self.row_bytes));
        Span { offset, len: count.saturating_mul(self.row_bytes()) }
    }
}

/// The matrices of one layer, by [`Role`].
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Layer {
    pub(super) matrices: [Matrix; Role::ALL.len()],
}

/// Which layer is being computed, and what is read after the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    /// The layer, from 0.
    pub(crate) layer: usize,
    /// Whether the output head follows this loop, as far as that is known. Else the next loop does.
    pub(crate) head_follows: bool,
}

/// The name of a matrix in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct MatrixName {
    layer: Option<usize>,
    part: &'static str,
}

impl fmt::Display for MatrixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "blk.{layer}.{}.weight", self.part),
            None => write!(f, "{}.weight", self.part),
        }
    }
}

/// All weights of a model: norms in memory, matrices in the store.
#[derive(Debug)]
pub(crate) struct Weights<'a> {
    pub(super) config: Config,
    pub(super) layers: &'a [Layer],
    pub(super) norms: &'a [f32],
    pub(super) embedding: Matrix,
    pub(super) head: Matrix,
}

impl Weights<'_> {
    /// The norms of a layer in order of execution, each `[hidden]`.
    pub(crate) fn layer_norms(&self, layer: usize) -> impl Iterator<Item = &[f32]> {
        let per_layer = self.config.norms_per_layer();
        self.norms.chunks_exact(self.config.hidden.max(1)).skip(layer * per_layer).take(per_layer)
    }

    /// The norm at the end of every loop, `[hidden]`.
    pub(crate) fn output_norm(&self) -> &[f32] {
        self.norms.rchunks_exact(self.config.hidden.max(1)).next().unwrap_or_default()
    }

    /// The embedding of one token into `out` (`[hidden]`).
    pub(crate) fn embed<S: Store>(
        &self,
        store: &mut S,
        token: u32,
        out: &mut [f32],
    ) -> Result<(), SessionError> {
        let row = self.embedding.span(token as usize, 1);
        store.load(row, None).map_err(|error| self.failed(row, error))?;
        let format = self.embedding.format()?;
        Ok(ouro_quant::decode(format, store.tile(), out)?)
    }

    /// `out[n] = W x[n]` for every position `n`: `x` is `[N, cols]`, `out` `[N, rows]`. Every tile
    /// is fetched once for all positions.
    pub(crate) fn matmul<S: Store>(
        &self,
        store: &mut S,
        Visit { layer, head_follows }: Visit,
        role: Role,
        x: &mut Input<'_>,
        out: &mut [f32],
    ) -> Result<(), SessionError> {
        let place = Place { matrix: role as usize, ..Place::start(layer) };
        self.product(store, (place, head_follows), x, out, |_, _| {})
    }

    /// `logits = head h` for one position: `h` is `[hidden]`, `logits` `[vocab]`. After each tile,
    /// `done` sees the logits and how many of them there are.
    pub(crate) fn logits<S: Store>(
        &self,
        store: &mut S,
        h: &mut Input<'_>,
        logits: &mut [f32],
        done: impl FnMut(&[f32], usize),
    ) -> Result<(), SessionError> {
        self.product(store, (Place::start(self.layers.len()), false), h, logits, done)
    }

    fn product<S: Store>(
        &self,
        store: &mut S,
        (mut place, head_follows): (Place, bool),
        x: &mut Input<'_>,
        out: &mut [f32],
        mut done: impl FnMut(&[f32], usize),
    ) -> Result<(), SessionError> {
        let Some(matrix) = self.matrix(place) else { return Ok(()) };
        let format = matrix.format()?;
        while place.row < matrix.rows() {
            let bytes = self.rows(store, place, matrix, head_follows)?;
            let row_bytes = matrix.row_bytes();
            let rows = WeightRows { format, bytes, row_bytes, first: place.row, of: matrix.rows() };
            x.times(rows, matrix.cols as usize, out)?;
            place.row += bytes.len().checked_div(row_bytes).unwrap_or_default().max(1);
            done(out, place.row);
        }
        Ok(())
    }

    /// Whole rows of `matrix` from `place` on, at least one, as many as are at hand: in the current
    /// tile, or in the one that is loaded now.
    fn rows<'s, S: Store>(
        &self,
        store: &'s mut S,
        place: Place,
        matrix: &Matrix,
        head_follows: bool,
    ) -> Result<&'s [u8], SessionError> {
        let first = matrix.span(place.row, 1);
        if !store.current().contains(first) {
            let max = store.max_tile();
            let (tile, next) = self.tile(place, max);
            let head = head_follows.then_some(Place::start(self.layers.len()));
            let upcoming = Tiles::from(self, max, next)
                .chain(Tiles::from(self, max, head))
                .chain(Tiles::from(self, max, Some(Place::start(0))));
            store.load(tile, upcoming.map(|tile| tile.span)).map_err(|error| self.failed(first, error))?;
        }
        let tile = store.current();
        let rows = matrix.span(place.row, matrix.rows() - place.row);
        let start = usize::try_from(first.offset.saturating_sub(tile.offset)).unwrap_or(usize::MAX);
        let bytes = store.tile().get(start..).unwrap_or_default();
        if bytes.len() < matrix.row_bytes() {
            let error = StoreError::Short { span: tile, found: store.tile().len() };
            return Err(self.failed(first, error));
        }
        Ok(bytes.get(..rows.len).unwrap_or(bytes))
    }

    /// The error of a store, with the matrix that it concerns.
    fn failed(&self, wanted: Span, error: StoreError) -> SessionError {
        let at = Span { offset: error.offset(), len: 1 };
        let known = self.name_at(at).or_else(|| self.name_at(wanted));
        known.map_or(SessionError::Store(error), |matrix| SessionError::Weights { matrix, error })
    }

    /// The matrix that a part of the file belongs to.
    pub(crate) fn name_at(&self, span: Span) -> Option<MatrixName> {
        let name = |layer, part| MatrixName { layer, part };
        for (number, layer) in self.layers.iter().enumerate() {
            let mut matrices = Role::ALL.into_iter().zip(&layer.matrices);
            if let Some((role, _)) = matrices.find(|(_, matrix)| matrix.all().contains(span)) {
                return Some(name(Some(number), role.name()));
            }
        }
        let ends = [(&self.embedding, "token_embd"), (&self.head, "output")];
        let found = ends.into_iter().find(|(matrix, _)| matrix.all().contains(span));
        found.map(|(_, part)| name(None, part))
    }

    /// Bytes of the longest row of any matrix.
    pub(super) fn largest_row(&self) -> usize {
        let of_layers = self.layers.iter().flat_map(|layer| &layer.matrices);
        let matrices = of_layers.chain([&self.embedding, &self.head]);
        matrices.map(Matrix::row_bytes).max().unwrap_or_default()
    }

    pub(super) fn matrix(&self, place: Place) -> Option<&Matrix> {
        match self.layers.get(place.layer) {
            Some(layer) => layer.matrices.get(place.matrix),
            None => (place.layer == self.layers.len() && place.matrix == 0).then_some(&self.head),
        }
    }
}

impl Matrix {
    /// The block format; it was known when the matrix was made.
    pub(super) fn format(&self) -> Result<Format, SessionError> {
        Format::from_id(self.format_id).ok_or(SessionError::Internal)
    }
}
