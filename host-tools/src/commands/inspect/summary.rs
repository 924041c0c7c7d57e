//! What there is to say about a file, without reading its weights.

use super::layout::{Role, in_layer, stream_problems};
use super::metadata::{TokenizerInfo, metadata};
use crate::commands::output::json_f32;
use crate::error::Error;
use crate::open::{Memory, check_vocabulary, directory};
use crate::store::HostStore;
use crate::text::{metadata_string, read_string};
use ouro_quant::Format;
use ouro_runtime::gguf::{ElementType, Gguf, GgufError, TensorType};
use ouro_runtime::kernels::scalar;
use ouro_runtime::model::{Config, Model, ModelError};
use ouro_runtime::store::Store;
use ouro_runtime::text::{TextError, Tokenizer};
use serde::{Serialize, Serializer};
use serde_json::Value as Json;
use std::path::Path;

/// The JSON object of `ouro inspect --json`.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) file: String,
    pub(super) bytes: u64,
    pub(super) gguf_version: u32,
    pub(super) alignment: u64,
    pub(super) name: Option<String>,
    pub(super) architecture: Option<String>,
    /// Whether this program can run it.
    pub(super) runs: bool,
    /// Why not.
    pub(super) why_not: Option<String>,
    /// Whether that is a fault of the file, rather than a kind of model that we don't know.
    #[serde(skip)]
    pub(super) broken: bool,
    /// The trained depth T.
    pub(super) loops: Option<u64>,
    pub(super) gate: Option<GateInfo>,
    /// Sizes, if it runs.
    pub(super) shape: Option<Shape>,
    pub(super) parameters: u64,
    pub(super) tensor_bytes: u64,
    pub(super) by_role: Vec<Group>,
    pub(super) by_type: Vec<Group>,
    /// What a token costs, if it runs.
    pub(super) reads: Option<Reads>,
    pub(super) stream_ready: bool,
    pub(super) stream_problems: Vec<String>,
    pub(super) tokenizer: Option<TokenizerInfo>,
    pub(super) chat_template: Option<String>,
    #[serde(serialize_with = "as_object")]
    pub(super) metadata: Vec<(String, Json)>,
    /// In file order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tensors: Vec<TensorInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) check: Option<super::check::Outcome>,
}

/// The exit gate.
#[derive(Debug, Serialize)]
pub(super) struct GateInfo {
    pub(super) weights: u64,
    pub(super) bias: Option<Json>,
    pub(super) threshold: Option<Json>,
}

/// [`Config`] as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Shape {
    pub(super) layers: usize,
    pub(super) hidden: usize,
    pub(super) ffn: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) vocabulary: usize,
    pub(super) context: usize,
    pub(super) rope_theta: Json,
    pub(super) norm_epsilon: Json,
}

impl From<&Config> for Shape {
    fn from(config: &Config) -> Self {
        Self {
            layers: config.layers,
            hidden: config.hidden,
            ffn: config.ffn,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            vocabulary: config.vocab,
            context: config.context,
            rope_theta: json_f32(config.rope_theta),
            norm_epsilon: json_f32(config.eps),
        }
    }
}

/// Tensors of one role or type.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) tensors: usize,
    pub(super) parameters: u64,
    pub(super) bytes: u64,
    /// Of a type: whether its matrices run on the integer kernels, or on the f32 path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) integer_kernels: Option<bool>,
}

/// Bytes of weights that a generated token reads from the store. Norms and gate stay in memory.
#[derive(Debug, Serialize)]
pub(super) struct Reads {
    /// One pass through the stack.
    pub(super) per_loop: u64,
    /// The output head.
    pub(super) head: u64,
    /// One row of the embedding.
    pub(super) embedding_row: u64,
    /// All T loops, the head once, and the row.
    pub(super) per_token: u64,
}

/// One tensor.
#[derive(Clone, Debug, Serialize)]
pub(super) struct TensorInfo {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) type_name: &'static str,
    #[serde(skip)]
    pub(super) type_id: u32,
    /// Row length first.
    pub(super) shape: Vec<u64>,
    /// In the file.
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl TensorInfo {
    fn parameters(&self) -> u64 {
        self.shape.iter().fold(1, |product, dim| product.saturating_mul(*dim))
    }

    fn rows(&self) -> u64 {
        self.shape.iter().skip(1).fold(1, |product, dim| product.saturating_mul(*dim))
    }
}

impl Summary {
    /// Reads everything but the weights.
    pub(super) fn read(path: &Path, store: &mut HostStore) -> Result<Self, Error> {
        let mut memory = Memory::default();
        let gguf = directory(path, store, &mut memory)?;
        Self::of(path, store, &gguf)?.map_err(|error| Error::BadInput(format!("{}: {error}", path.display())))
    }

    fn of(path: &Path, store: &mut HostStore, gguf: &Gguf<'_>) -> Result<Result<Self, GgufError>, Error> {
        let (mut model_memory, mut text_memory) = (Memory::default(), Memory::default());
        let model = open_model(store, gguf, &mut model_memory)?;
        let tokenizer = match (open_tokenizer(store, gguf, &mut text_memory)?, &model) {
            (Ok(tokenizer), Ok(model)) => check_vocabulary(tokenizer, model),
            (tokenizer, _) => tokenizer,
        };
        Ok(Self::describe(path, store, gguf, &model, &tokenizer))
    }

    fn describe(
        path: &Path,
        store: &mut HostStore,
        gguf: &Gguf<'_>,
        model: &Result<Model<'_>, ModelError>,
        tokenizer: &Result<Tokenizer<'_>, TextError>,
    ) -> Result<Self, GgufError> {
        let metadata = metadata(store, gguf)?;
        let tensors = tensors(store, gguf)?;
        let text = |key: &str| match metadata.iter().find(|(known, _)| known == key) {
            Some((_, Json::String(text))) => Some(text.clone()),
            _ => None,
        };
        let architecture = text("general.architecture");
        let prefix = architecture.as_deref().unwrap_or_default();
        let loops = match model {
            Ok(model) => Some(model.config().loops as u64),
            Err(_) => gguf.u64(store, &format!("{prefix}.num_loops")).ok().flatten(),
        };
        let stream_problems = stream_problems(&tensors, gguf.alignment());
        let error = model.as_ref().err();
        Ok(Self {
            file: path.display().to_string(),
            bytes: store.len(),
            gguf_version: gguf.version(),
            alignment: gguf.alignment(),
            name: text("general.name"),
            runs: error.is_none(),
            why_not: error.map(ToString::to_string),
            broken: architecture.is_some() && error.is_some_and(|error| !is_of_unknown_kind(error)),
            architecture,
            loops,
            gate: gate(store, gguf),
            shape: model.as_ref().ok().map(|model| model.config().into()),
            parameters: tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.parameters())),
            tensor_bytes: tensors.iter().map(|tensor| tensor.bytes).sum(),
            by_role: by_role(&tensors),
            by_type: by_type(&tensors),
            reads: model.as_ref().ok().and_then(|_| reads(&tensors, loops.unwrap_or(1))),
            stream_ready: stream_problems.is_empty(),
            stream_problems,
            tokenizer: TokenizerInfo::read(store, gguf, &metadata, tokenizer),
            chat_template: metadata_string(store, gguf, "tokenizer.chat_template").ok().flatten(),
            metadata,
            tensors,
            check: None,
        })
    }
}

fn open_model<'m>(
    store: &mut HostStore,
    gguf: &Gguf<'_>,
    memory: &'m mut Memory,
) -> Result<Result<Model<'m>, ModelError>, Error> {
    let bytes = match Model::arena_bytes(store, gguf) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(error)),
    };
    Ok(Model::open(store, gguf, &mut memory.arena(bytes)?))
}

fn open_tokenizer<'m>(
    store: &mut HostStore,
    gguf: &Gguf<'_>,
    memory: &'m mut Memory,
) -> Result<Result<Tokenizer<'m>, TextError>, Error> {
    let bytes = match Tokenizer::arena_bytes(store, gguf) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(error)),
    };
    Ok(Tokenizer::open(store, gguf, &mut memory.arena(bytes)?))
}

/// The file is as good as any, but its model is none of those that run here.
fn is_of_unknown_kind(error: &ModelError) -> bool {
    matches!(
        error,
        ModelError::UnknownArchitecture { .. }
            | ModelError::SkipsLoopNorm
            | ModelError::RopeScaling { .. }
            | ModelError::Type { .. }
            | ModelError::UnknownTensor { .. }
            | ModelError::TooLarge { .. }
    )
}

fn tensors(store: &mut HostStore, gguf: &Gguf<'_>) -> Result<Vec<TensorInfo>, GgufError> {
    let tensors = gguf.tensors().iter().map(|tensor| {
        Ok(TensorInfo {
            name: read_string(store, tensor.name())?,
            type_name: TensorType::from_id(tensor.type_id).map_or("unknown", |kind| kind.name),
            type_id: tensor.type_id,
            shape: tensor.dims.iter().take(tensor.n_dims as usize).copied().collect(),
            offset: tensor.offset,
            bytes: tensor.len,
        })
    });
    tensors.collect()
}

fn gate(store: &mut HostStore, gguf: &Gguf<'_>) -> Option<GateInfo> {
    let weight = gguf.array(store, "ouro.exit_gate.weight", ElementType::F32).ok().flatten()?;
    let mut number = |key: &str| gguf.f32(store, key).ok().flatten().map(json_f32);
    let (bias, threshold) = (number("ouro.exit_gate.bias"), number("ouro.exit_gate.threshold"));
    Some(GateInfo { weights: weight.count, bias, threshold })
}

fn by_role(tensors: &[TensorInfo]) -> Vec<Group> {
    let role =
        |role: Role| group(role.name(), tensors.iter().filter(|tensor| Role::of(&tensor.name) == role));
    Role::ALL.into_iter().map(role).filter(|group| group.tensors > 0).collect()
}

/// The type with the most bytes first.
fn by_type(tensors: &[TensorInfo]) -> Vec<Group> {
    let mut names: Vec<&'static str> = tensors.iter().map(|tensor| tensor.type_name).collect();
    names.sort_unstable();
    names.dedup();
    let of_type = |name| {
        let format = Format::ALL.iter().find(|format| format.name() == name);
        let integer_kernels = Some(format.is_some_and(|format| scalar::knows(*format)));
        let of_type = group(name, tensors.iter().filter(|tensor| tensor.type_name == name));
        Group { integer_kernels, ..of_type }
    };
    let mut groups: Vec<Group> = names.into_iter().map(of_type).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.bytes));
    groups
}

fn group<'t>(name: &'static str, tensors: impl Iterator<Item = &'t TensorInfo>) -> Group {
    let none = Group { name, tensors: 0, parameters: 0, bytes: 0, integer_kernels: None };
    tensors.fold(none, |group, tensor| Group {
        tensors: group.tensors + 1,
        parameters: group.parameters.saturating_add(tensor.parameters()),
        bytes: group.bytes + tensor.bytes,
        ..group
    })
}

fn reads(tensors: &[TensorInfo], loops: u64) -> Option<Reads> {
    let matrices =
        tensors.iter().filter(|tensor| in_layer(&tensor.name) && Role::of(&tensor.name) != Role::Norms);
    let per_loop = matrices.map(|tensor| tensor.bytes).sum();
    let find = |name: &str| tensors.iter().find(|tensor| tensor.name == name);
    let embedding = find("token_embd.weight")?;
    let head = find("output.weight").unwrap_or(embedding).bytes;
    let embedding_row = embedding.bytes / embedding.rows();
    let per_token = loops.saturating_mul(per_loop).saturating_add(head).saturating_add(embedding_row);
    Some(Reads { per_loop, head, embedding_row, per_token })
}

fn as_object<S: Serializer>(entries: &[(String, Json)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
}
