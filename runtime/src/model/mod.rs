//! A model: its configuration, and where its weights lie in the file.
//!
//! Loading reads metadata, the norms and the exit gate (they are small and used in every loop, so
//! the arena keeps them); matrices stay in the store. Everything is checked against the
//! configuration here, so that the forward pass need not doubt it.

mod checksums;
mod config;
mod defaults;
mod error;
mod tiles;
mod weights;

pub use checksums::{CHECKSUMS, METADATA_CHECKSUM, check_metadata, checksums, metadata_checksum};
pub use config::{Architecture, Config};
pub use defaults::{ExitDefault, ExitKind};
pub use error::ModelError;
pub use tiles::{Part, Tile, Tiles};
pub use weights::MatrixName;
pub(crate) use weights::{Role, Visit, Weights};

use crate::arena::{Arena, ArenaFull};
use crate::gguf::{Array, ElementType, Gguf, Name, Tensor};
use crate::kv::KvSharing;
use crate::store::{Span, Store};
use heapless::String;
use ouro_quant::{Format, decode};
use weights::{Layer, Matrix};

/// The learned exit gate: `lambda = sigmoid(weight . h + bias)`.
#[derive(Clone, Copy, Debug)]
pub struct Gate<'a> {
    /// `[hidden]`.
    pub weight: &'a [f32],
    /// The bias.
    pub bias: f32,
    /// The quantile that the file's author recommends for Q-exit; 1 means never before the last loop.
    pub threshold: f32,
}

/// A checked model. Its weights are in the store that it was opened from.
#[derive(Debug)]
pub struct Model<'a> {
    config: Config,
    weights: Weights<'a>,
    gate: Option<Gate<'a>>,
    exit: Option<ExitDefault>,
    kv_sharing: Option<KvSharing>,
}

impl<'a> Model<'a> {
    /// Bytes of arena that [`open`](Self::open) takes.
    ///
    /// # Errors
    /// As [`open`](Self::open), as far as the configuration goes.
    pub fn arena_bytes<S: Store>(store: &mut S, gguf: &Gguf<'_>) -> Result<usize, ModelError> {
        let (config, gate) = check(store, gguf)?;
        let mut arena = Arena::measure();
        Parts::carve(&mut arena, &config, gate.is_some())?;
        Ok(arena.used())
    }

    /// Checks the whole file against its own configuration, and reads norms and gate.
    ///
    /// # Errors
    /// [`ModelError`] with what was found and what was expected.
    pub fn open<S: Store>(store: &mut S, gguf: &Gguf<'_>, arena: &mut Arena<'a>) -> Result<Self, ModelError> {
        let (config, gate) = check(store, gguf)?;
        let Parts { layers, norms, gate_weight } = Parts::carve(arena, &config, gate.is_some())?;
        let mut finder = Finder { gguf, store, found: 0 };
        let mut norm_slots = norms.chunks_exact_mut(config.hidden.max(1));
        for (number, layer) in layers.iter_mut().enumerate() {
            for (norm, slot) in config.norm_names().iter().zip(&mut norm_slots) {
                finder.read_norm(&tensor_name(number, norm), slot)?;
            }
            *layer = finder.layer(&config, number)?;
        }
        if let Some(slot) = norm_slots.next() {
            finder.read_norm(OUTPUT_NORM, slot)?;
        }
        let (embedding, head) = finder.ends(&config)?;
        let gate = match gate {
            Some(array) => Some(read_gate(store, gguf, array, gate_weight)?),
            None => None,
        };
        let exit = ExitDefault::read(store, gguf, gate.is_some())?;
        let kv_sharing = defaults::kv_sharing(store, gguf)?;
        let weights = Weights { config, layers, norms, embedding, head };
        Ok(Self { config, weights, gate, exit, kv_sharing })
    }

    /// Sizes and constants.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The exit gate, if the file has one.
    #[must_use]
    pub fn gate(&self) -> Option<&Gate<'a>> {
        self.gate.as_ref()
    }

    /// The exit policy that the file asks for, if it does; what a run uses unless told otherwise.
    #[must_use]
    pub fn exit_default(&self) -> Option<&ExitDefault> {
        self.exit.as_ref()
    }

    /// How the file asks K and V to be shared among loops, if it does; what a run uses unless told
    /// otherwise.
    #[must_use]
    pub fn kv_sharing_default(&self) -> Option<KvSharing> {
        self.kv_sharing
    }

    /// The matrix that the byte at this offset of the file belongs to.
    #[must_use]
    pub fn matrix_at(&self, offset: u64) -> Option<MatrixName> {
        self.weights.name_at(Span { offset, len: 1 })
    }

    pub(crate) fn weights(&self) -> &Weights<'a> {
        &self.weights
    }
}

/// What a model keeps in the arena.
struct Parts<'a> {
    layers: &'a mut [Layer],
    /// `[layers * norms per layer + 1, hidden]`, in order of execution.
    norms: &'a mut [f32],
    /// `[hidden]`, or empty.
    gate_weight: &'a mut [f32],
}

impl<'a> Parts<'a> {
    fn carve(arena: &mut Arena<'a>, config: &Config, gate: bool) -> Result<Self, ArenaFull> {
        let norms = (config.layers * config.norms_per_layer() + 1).saturating_mul(config.hidden);
        Ok(Self {
            layers: arena.take(config.layers)?,
            norms: arena.take(norms)?,
            gate_weight: arena.take(if gate { config.hidden } else { 0 })?,
        })
    }
}

const EMBEDDING: &str = "token_embd.weight";
const OUTPUT_NORM: &str = "output_norm.weight";
const HEAD: &str = "output.weight";

/// Checks configuration, names and shapes. No weight is read and no memory is needed, so that
/// memory is only ever asked for what is really in the file.
fn check<S: Store>(store: &mut S, gguf: &Gguf<'_>) -> Result<(Config, Option<Array>), ModelError> {
    let architecture = config::architecture(gguf, store)?;
    let embedding = gguf.tensor(store, EMBEDDING)?.ok_or_else(|| ModelError::missing_tensor(EMBEDDING))?;
    let [width, rows, ..] = embedding.dims;
    let config = Config::read(gguf, store, architecture, [width, rows])?;
    let mut finder = Finder { gguf, store, found: 0 };
    for number in 0..config.layers {
        for norm in config.norm_names() {
            finder.find(&tensor_name(number, norm), 1, config.hidden)?;
        }
        finder.layer(&config, number)?;
    }
    finder.find(OUTPUT_NORM, 1, config.hidden)?;
    finder.ends(&config)?;
    if finder.found != gguf.tensors().len() {
        return Err(unknown_tensor(store, gguf, &config)?);
    }
    let gate = gate_array(store, gguf, &config)?;
    Ok((config, gate))
}

/// Finds tensors by name and checks them.
struct Finder<'l, 'g, S> {
    gguf: &'l Gguf<'g>,
    store: &'l mut S,
    /// Tensors found so far.
    found: usize,
}

impl<S: Store> Finder<'_, '_, S> {
    fn find(&mut self, name: &str, rows: usize, cols: usize) -> Result<Matrix, ModelError> {
        let tensor: Tensor =
            *self.gguf.tensor(self.store, name)?.ok_or_else(|| ModelError::missing_tensor(name))?;
        let expected = [cols as u64, rows as u64];
        if tensor.dims != [cols as u64, rows as u64, 1, 1] {
            return Err(ModelError::Shape {
                tensor: Name::new(name.as_bytes()),
                found: tensor.dims,
                expected,
            });
        }
        let format = Format::from_id(tensor.type_id)
            .ok_or(ModelError::Type { tensor: Name::new(name.as_bytes()), type_id: tensor.type_id })?;
        if !format.is_built() {
            return Err(ModelError::NotBuilt { tensor: Name::new(name.as_bytes()), format });
        }
        self.found = self.found.saturating_add(1);
        Matrix::new(tensor.offset, format, rows, cols)
            .ok_or(ModelError::TooLarge { tensor: Name::new(name.as_bytes()) })
    }

    fn layer(&mut self, config: &Config, number: usize) -> Result<Layer, ModelError> {
        let mut layer = Layer::default();
        for (role, matrix) in Role::ALL.into_iter().zip(&mut layer.matrices) {
            let (rows, cols) = role.shape(config);
            *matrix = self.find(&tensor_name(number, role.name()), rows, cols)?;
        }
        Ok(layer)
    }

    /// The embedding and the output head, which may be one.
    fn ends(&mut self, config: &Config) -> Result<(Matrix, Matrix), ModelError> {
        let embedding = self.find(EMBEDDING, config.vocab, config.hidden)?;
        let head = match self.gguf.tensor(self.store, HEAD)? {
            Some(_) => self.find(HEAD, config.vocab, config.hidden)?,
            None => embedding,
        };
        Ok((embedding, head))
    }

    /// Reads a norm's weights, in as many pieces as the block buffer makes necessary.
    fn read_norm(&mut self, name: &str, slot: &mut [f32]) -> Result<(), ModelError> {
        let norm = self.find(name, 1, slot.len())?;
        let Ok(format) = norm.format() else { return Ok(()) }; // it has one, as find saw to
        let blocks = self.store.max_tile().checked_div(format.block_bytes()).unwrap_or_default().max(1);
        let piece_len = blocks.saturating_mul(format.block_len()).min(slot.len());
        let mut offset = norm.span(0, 1).offset;
        for piece in slot.chunks_mut(piece_len.max(1)) {
            let len = format.row_bytes(piece.len()).unwrap_or_default();
            self.store.load(Span { offset, len }, None)?;
            decode(format, self.store.tile(), piece)?;
            offset = offset.saturating_add(len as u64);
        }
        if slot.iter().all(|weight| weight.is_finite()) {
            Ok(())
        } else {
            Err(ModelError::NotFinite { name: Name::new(name.as_bytes()) })
        }
    }
}

/// Room for the longest name that is looked up.
const TENSOR_NAME: usize = 48;

fn tensor_name(layer: usize, part: &str) -> String<TENSOR_NAME> {
    let mut name = String::new();
    let mut push = |text: &str| drop(name.push_str(text));
    // Not `write!`, which would bring the formatting of core into every image.
    push("blk.");
    for unit in [1000, 100, 10, 1] {
        let digit = layer.checked_div(unit).unwrap_or_default() % 10; // layers are below 10,000
        if layer >= unit || unit == 1 {
            push("0123456789".get(digit..=digit).unwrap_or_default());
        }
    }
    push(".");
    push(part);
    push(".weight");
    name
}

/// The error for a file in which some tensor has no place in the configuration.
fn unknown_tensor<S: Store>(
    store: &mut S,
    gguf: &Gguf<'_>,
    config: &Config,
) -> Result<ModelError, ModelError> {
    let known = |name: &[u8]| {
        let digits = name.iter().skip("blk.".len()).take_while(|byte| byte.is_ascii_digit());
        let number = digits.fold(0usize, |number, digit| {
            number.saturating_mul(10).saturating_add(usize::from(digit - b'0'))
        });
        let norms = config.norm_names().iter().copied();
        let mut parts = Role::ALL.into_iter().map(Role::name).chain(norms);
        [EMBEDDING, OUTPUT_NORM, HEAD].iter().any(|known| known.as_bytes() == name)
            || number < config.layers && parts.any(|part| tensor_name(number, part).as_bytes() == name)
    };
    for tensor in gguf.tensors() {
        store.load(Span { len: tensor.name().len.min(TENSOR_NAME), ..tensor.name() }, None)?;
        let name = store.tile();
        if !known(name) {
            return Ok(ModelError::UnknownTensor { tensor: Name::new(name) });
        }
    }
    Ok(ModelError::UnknownTensor { tensor: Name::new(b"") })
}

const GATE_WEIGHT: &str = "ouro.exit_gate.weight";
const GATE_BIAS: &str = "ouro.exit_gate.bias";
const GATE_THRESHOLD: &str = "ouro.exit_gate.threshold";

/// The gate's weights in metadata, if the file has any, as long as the hidden state.
fn gate_array<S: Store>(
    store: &mut S,
    gguf: &Gguf<'_>,
    config: &Config,
) -> Result<Option<Array>, ModelError> {
    let array = gguf.array(store, GATE_WEIGHT, ElementType::F32)?;
    match array {
        Some(array) if array.count != config.hidden as u64 => Err(ModelError::Shape {
            tensor: Name::new(GATE_WEIGHT.as_bytes()),
            found: [array.count, 1, 1, 1],
            expected: [config.hidden as u64, 1],
        }),
        _ => Ok(array),
    }
}

fn read_gate<'a, S: Store>(
    store: &mut S,
    gguf: &Gguf<'_>,
    array: Array,
    weight: &'a mut [f32],
) -> Result<Gate<'a>, ModelError> {
    array.read_f32(store, weight)?;
    let bias = gguf.f32(store, GATE_BIAS)?.ok_or_else(|| ModelError::missing(GATE_BIAS))?;
    let threshold = gguf.f32(store, GATE_THRESHOLD)?.unwrap_or(1.0);
    if !(bias.is_finite() && weight.iter().all(|weight| weight.is_finite())) {
        return Err(ModelError::NotFinite { name: Name::new(GATE_WEIGHT.as_bytes()) });
    }
    if !(0.0..=1.0).contains(&threshold) {
        return Err(ModelError::Threshold { key: GATE_THRESHOLD, found: threshold });
    }
    Ok(Gate { weight, bias, threshold })
}
