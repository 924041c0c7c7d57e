//! Everything a GGUF file says, read through our reader by every way it offers.

use ouro_runtime::arena::{ALIGN, Arena};
use ouro_runtime::gguf::{Array, ElementType, Gguf, GgufError, Tensor, Value};
use ouro_runtime::store::{Span, Store, StoreError};

/// What [`read_contents`] found. Equal whatever the store.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Contents {
    pub version: u32,
    pub alignment: u64,
    pub data_offset: u64,
    pub entries: Vec<(Vec<u8>, Content)>,
    pub tensors: Vec<(Vec<u8>, Tensor)>,
    /// Bytes of the directory in the arena.
    pub arena: usize,
}

/// A metadata value with its bytes. Floats by their bits.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Content {
    Number(&'static str, u64),
    String(Vec<u8>),
    Array(&'static str, Vec<Content>),
    /// An array that could not be read to its end: a bool above 1.
    Broken(GgufError),
}

/// Opens a file and reads all its metadata.
///
/// # Errors
/// As [`Gguf::open`].
///
/// # Panics
/// If the reader contradicts itself: in the size of the arena, in what a look-up by name finds,
/// or between two ways to read an array.
pub fn read_contents<S: Store>(store: &mut S) -> Result<Contents, GgufError> {
    let bytes = Gguf::arena_bytes(store)?;
    let mut memory = vec![0; bytes + ALIGN];
    let start = memory.as_ptr().align_offset(ALIGN);
    let mut arena = Arena::new(&mut memory[start..start + bytes]);
    let gguf = Gguf::open(store, &mut arena)?;
    assert_eq!(arena.left(), 0, "bytes of the arena left over");

    let mut entries = Vec::new();
    for entry in gguf.entries() {
        let key = read_span(store, entry.key)?;
        if let Ok(key) = str::from_utf8(&key) {
            let found = gguf.get(store, key)?.expect("a key of the file");
            if found != entry.value {
                assert_eq!(format!("{found:?}"), format!("{:?}", entry.value), "{key}"); // two NaNs
            }
        }
        entries.push((key, read_value(store, entry.value)?));
    }
    let mut tensors = Vec::new();
    for tensor in gguf.tensors() {
        let name = read_span(store, tensor.name())?;
        if let Ok(name) = str::from_utf8(&name) {
            assert_eq!(gguf.tensor(store, name)?, Some(tensor), "{name}");
        }
        assert_eq!(tensor.offset % gguf.alignment(), gguf.data_offset() % gguf.alignment());
        assert!(tensor.offset + tensor.len <= store.len());
        tensors.push((name, *tensor));
    }
    assert_eq!(gguf.get(store, "no such key")?, None);
    assert_eq!(gguf.tensor(store, "no such tensor")?, None);
    let (version, alignment, data_offset) = (gguf.version(), gguf.alignment(), gguf.data_offset());
    Ok(Contents { version, alignment, data_offset, entries, tensors, arena: bytes })
}

fn read_value<S: Store>(store: &mut S, value: Value) -> Result<Content, GgufError> {
    Ok(match value {
        Value::U8(value) => Content::Number("u8", value.into()),
        Value::I8(value) => Content::Number("i8", value as u64),
        Value::U16(value) => Content::Number("u16", value.into()),
        Value::I16(value) => Content::Number("i16", value as u64),
        Value::U32(value) => Content::Number("u32", value.into()),
        Value::I32(value) => Content::Number("i32", value as u64),
        Value::F32(value) => Content::Number("f32", value.to_bits().into()),
        Value::Bool(value) => Content::Number("bool", value.into()),
        Value::U64(value) => Content::Number("u64", value),
        Value::I64(value) => Content::Number("i64", value as u64),
        Value::F64(value) => Content::Number("f64", value.to_bits()),
        Value::String(span) => Content::String(read_span(store, span)?),
        Value::Array(array) => read_array(store, array)?,
    })
}

fn read_array<S: Store>(store: &mut S, array: Array) -> Result<Content, GgufError> {
    let mut values = Vec::new();
    let mut elements = array.elements();
    loop {
        match elements.next(store) {
            Ok(Some(value)) => values.push(read_value(store, value)?),
            Ok(None) => break,
            Err(error @ GgufError::Bool { .. }) => return Ok(Content::Broken(error)),
            Err(error) => return Err(error),
        }
    }
    assert_eq!(values.len() as u64, array.count);
    assert_eq!(elements.next(store)?, None);
    match array.element {
        ElementType::String => same_strings(store, array, &values),
        ElementType::F32 => {
            let mut floats = vec![0.0; values.len()];
            array.read_f32(store, &mut floats)?;
            let floats = floats.iter().map(|value| Content::Number("f32", value.to_bits().into()));
            assert!(floats.eq(values.iter().cloned()));
        }
        _ => {}
    }
    Ok(Content::Array(array.element.name(), values))
}

fn same_strings<S: Store>(store: &mut S, array: Array, values: &[Content]) {
    let page = store.max_tile();
    let mut strings = array.strings(store).expect("strings");
    for value in values {
        match strings.next() {
            Ok(next) => {
                let (_, bytes) = next.expect("as many as elements");
                assert_eq!(*value, Content::String(bytes.to_vec()));
            }
            Err(GgufError::Store(StoreError::TooLarge { span, .. })) => {
                assert!(span.len > page);
                assert!(matches!(value, Content::String(bytes) if bytes.len() == span.len));
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(strings.next(), Ok(None));
}

/// Bytes of the file, whatever the size of the store's buffer.
fn read_span<S: Store>(store: &mut S, span: Span) -> Result<Vec<u8>, GgufError> {
    let mut bytes = Vec::new();
    while bytes.len() < span.len {
        let len = (span.len - bytes.len()).min(store.max_tile());
        store.load(Span { offset: span.offset + bytes.len() as u64, len }, None)?;
        bytes.extend(store.tile());
    }
    Ok(bytes)
}
