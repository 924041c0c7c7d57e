//! A GGUF as the source of a conversion: its metadata as it stands, and where its tensors lie.

use super::source::{Source, SourceTensor};
use crate::{
    checkpoint::Architecture,
    error::Error,
    gguf_writer::{Metadata, Value},
    store::{BUILT_IN, FileStore, HostStore, StoreKind, refuse_folder},
};
use ouro_quant::Format;
use ouro_runtime::{
    arena::Arena,
    gguf::{self, ElementType, Gguf, Name, TensorType},
    model::ModelError,
    store::{Span, Store},
};
use std::{
    fmt::Display,
    fs::File,
    io::{self, Cursor, Read, Seek, SeekFrom},
    path::Path,
};

/// The header is read through a buffer of this size.
const BLOCK_BUFFER: usize = 64 << 10;

impl Source {
    /// Reads and checks the header of a GGUF.
    pub(crate) fn from_gguf(path: &Path) -> Result<Self, Error> {
        refuse_folder(path)?;
        let open = || File::open(path).map_err(|error| Error::reading(path, &error));
        let store = FileStore::new(open()?, BLOCK_BUFFER).map_err(|error| Error::reading(path, &error))?;
        Self::from_store(path, store, open()?)
    }

    /// The built-in model.
    pub(crate) fn built_in() -> Result<Self, Error> {
        let path = Path::new(BUILT_IN);
        let mut store = HostStore::open(path, StoreKind::Memory, 0)?;
        // It is in memory already, so that its length is no surprise.
        let whole = Span { offset: 0, len: store.len() as usize };
        store.load(whole, None).map_err(anyhow::Error::new)?;
        let bytes = store.tile().to_vec();
        Self::from_store(path, store, Cursor::new(bytes))
    }

    /// Reads and checks a header through `store`, and what it points at from `file`.
    fn from_store(path: &Path, mut store: impl Store, file: impl Read + Seek) -> Result<Self, Error> {
        let bad = |error: &dyn Display| Error::BadInput(format!("{}: {error}", path.display()));
        let bytes = Gguf::arena_bytes(&mut store).map_err(|error| bad(&error))?;
        let mut memory = vec![0u128; bytes.div_ceil(size_of::<u128>())];
        let mut arena = Arena::new(bytemuck::cast_slice_mut(&mut memory));
        let gguf = Gguf::open(&mut store, &mut arena).map_err(|error| bad(&error))?;

        let mut file = Spans { file, path };
        let mut metadata = Metadata::default();
        for entry in gguf.entries() {
            metadata.push(file.text(entry.key)?, file.value(entry.value)?);
        }
        let tensors = gguf.tensors().iter().map(|tensor| file.tensor(tensor)).collect::<Result<_, _>>()?;

        let architecture = metadata.string("general.architecture").unwrap_or("none");
        let architecture = Architecture::from_name(architecture).ok_or_else(|| {
            bad(&ModelError::UnknownArchitecture { found: Name::new(architecture.as_bytes()) })
        })?;
        let mut count = |key: &str| {
            let key = format!("{architecture}.{key}");
            let found = gguf.u64(&mut store, &key).map_err(|error| bad(&error))?;
            let key = Name::new(key.as_bytes());
            let found = found.ok_or_else(|| bad(&ModelError::MissingKey { key }))?;
            u32::try_from(found)
                .map_err(|_| bad(&ModelError::OutOfRange { key, found, max: u32::MAX.into() }))
        };
        let layers = count("block_count")?;
        let hidden = count("embedding_length")?;
        Ok(Self {
            about: format!("GGUF {}", path.display()),
            files: vec![path.to_owned()],
            is_gguf: true,
            architecture,
            hidden: hidden.into(),
            layers,
            metadata,
            tensors,
            // At most 2^20, as the reader checks.
            alignment: gguf.alignment() as u32,
        })
    }

    /// Puts the tensors into the order in which a pass uses them; what we don't know goes to the start,
    /// or to the end of its layer.
    pub(crate) fn order_by_execution(&mut self) {
        self.tensors.sort_by_cached_key(|tensor| place_in_execution(&tensor.name));
    }
}

/// The parts of a layer in order of execution.
pub(crate) const LAYER_ORDER: [&str; 11] = [
    "attn_norm",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "post_attention_norm",
    "ffn_norm",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
    "post_ffw_norm",
];

fn place_in_execution(name: &str) -> (u8, u32, usize) {
    if let Some(layer) = super::recipe::layer_of(name) {
        let role = super::report::role(name);
        let place = LAYER_ORDER.iter().position(|known| *known == role).unwrap_or(LAYER_ORDER.len());
        return (2, layer, place);
    }
    match name {
        "token_embd.weight" => (0, 0, 0),
        "output_norm.weight" => (3, 0, 0),
        "output.weight" => (3, 0, 1),
        _ => (1, 0, 0),
    }
}

/// Reads what the directory points at.
struct Spans<'a, R> {
    file: R,
    path: &'a Path,
}

impl<R: Read + Seek> Spans<'_, R> {
    /// The bytes of a span, which the reader found to lie inside the file.
    fn bytes(&mut self, span: Span) -> Result<Vec<u8>, Error> {
        let read = |file: &mut R| -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; span.len];
            file.seek(SeekFrom::Start(span.offset))?;
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        read(&mut self.file).map_err(|error| Error::reading(self.path, &error))
    }

    fn text(&mut self, span: Span) -> Result<String, Error> {
        String::from_utf8(self.bytes(span)?).map_err(|error| {
            let (path, offset) = (self.path.display(), span.offset);
            Error::BadInput(format!("{path}: the name at offset {offset} is not UTF-8: {error}"))
        })
    }

    fn value(&mut self, value: gguf::Value) -> Result<Value, Error> {
        let (kind, bytes) = match value {
            gguf::Value::U8(value) => (ElementType::U8, value.to_le_bytes().to_vec()),
            gguf::Value::I8(value) => (ElementType::I8, value.to_le_bytes().to_vec()),
            gguf::Value::U16(value) => (ElementType::U16, value.to_le_bytes().to_vec()),
            gguf::Value::I16(value) => (ElementType::I16, value.to_le_bytes().to_vec()),
            gguf::Value::U32(value) => (ElementType::U32, value.to_le_bytes().to_vec()),
            gguf::Value::I32(value) => (ElementType::I32, value.to_le_bytes().to_vec()),
            gguf::Value::F32(value) => (ElementType::F32, value.to_le_bytes().to_vec()),
            gguf::Value::Bool(value) => (ElementType::Bool, vec![value.into()]),
            gguf::Value::U64(value) => (ElementType::U64, value.to_le_bytes().to_vec()),
            gguf::Value::I64(value) => (ElementType::I64, value.to_le_bytes().to_vec()),
            gguf::Value::F64(value) => (ElementType::F64, value.to_le_bytes().to_vec()),
            gguf::Value::String(span) => {
                let mut bytes = (span.len as u64).to_le_bytes().to_vec();
                bytes.extend(self.bytes(span)?);
                (ElementType::String, bytes)
            }
            gguf::Value::Array(array) => {
                let elements = self.bytes(array.data)?;
                return Ok(Value::from_raw_array(array.element, array.count, &elements));
            }
        };
        Ok(Value::from_raw(kind, bytes))
    }

    fn tensor(&mut self, tensor: &gguf::Tensor) -> Result<SourceTensor, Error> {
        let name = self.text(tensor.name())?;
        let format = Format::from_id(tensor.type_id).ok_or_else(|| {
            let kind = TensorType::from_id(tensor.type_id).map_or("unknown", |kind| kind.name);
            let known: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
            let (path, known) = (self.path.display(), known.join(", "));
            Error::BadInput(format!("{path}: {name} is of type {kind}; those read are {known}"))
        })?;
        Ok(SourceTensor {
            name,
            dims: tensor.dims.iter().take(tensor.n_dims as usize).copied().collect(),
            format,
            file: 0,
            offset: tensor.offset,
            len: tensor.len,
            interleave: None,
        })
    }
}
