//! Writing GGUF version 3, little endian: a header that is known beforehand, then the tensors one by
//! one in the order announced. Nothing is held back: memory is the caller's buffer and the header.
//!
//! The layout is the one of <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use crate::checksums::{Places, Summing};
use ouro_quant::Format;
use ouro_runtime::gguf::ElementType;
use ouro_runtime::model::{CHECKSUMS, METADATA_CHECKSUM};
use std::io::{self, Write};

/// The id of an array among the types of values.
const ARRAY_ID: u32 = 9;

/// A metadata value, already in the bytes of the file: what is copied from another file stays exactly
/// as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    type_id: u32,
    bytes: Vec<u8>,
}

impl Value {
    /// A value that is no array from its bytes as they stand in a GGUF file, a string with its length
    /// in front.
    #[must_use]
    pub fn from_raw(kind: ElementType, bytes: Vec<u8>) -> Self {
        Self { type_id: kind.id(), bytes }
    }

    /// An array whose elements are given in the bytes of the file.
    #[must_use]
    pub fn from_raw_array(element: ElementType, count: u64, elements: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(elements.len().saturating_add(12));
        bytes.extend_from_slice(&element.id().to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(elements);
        Self { type_id: ARRAY_ID, bytes }
    }

    /// This array with the elements of another behind its own; `None` unless both are arrays of the
    /// same type.
    #[must_use]
    pub fn followed_by(&self, more: &Self) -> Option<Self> {
        let (element, count, elements) = self.array()?;
        let (same, added, behind) = more.array()?;
        let elements = [elements, behind].concat();
        (element == same).then(|| Self::from_raw_array(element, count + added, &elements))
    }

    /// The number of elements, if this is an array.
    #[must_use]
    pub fn array_len(&self) -> Option<u64> {
        self.array().map(|(_, count, _)| count)
    }

    /// Type, number and bytes of an array's elements.
    fn array(&self) -> Option<(ElementType, u64, &[u8])> {
        let (element, rest) = self.bytes.split_first_chunk().filter(|_| self.type_id == ARRAY_ID)?;
        let (count, elements) = rest.split_first_chunk()?;
        Some((ElementType::from_id(u32::from_le_bytes(*element))?, u64::from_le_bytes(*count), elements))
    }

    /// An array of strings.
    #[must_use]
    pub fn strings<S: AsRef<str>>(values: &[S]) -> Self {
        let mut elements = Vec::new();
        for value in values {
            push_string(&mut elements, value.as_ref());
        }
        Self::from_raw_array(ElementType::String, values.len() as u64, &elements)
    }

    /// An array of f32.
    #[must_use]
    pub fn f32s(values: &[f32]) -> Self {
        let elements: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::from_raw_array(ElementType::F32, values.len() as u64, &elements)
    }

    /// An array of i32.
    #[must_use]
    pub fn i32s(values: &[i32]) -> Self {
        let elements: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::from_raw_array(ElementType::I32, values.len() as u64, &elements)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::from_raw(ElementType::U32, value.to_le_bytes().to_vec())
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Self {
        Self::from_raw(ElementType::F32, value.to_le_bytes().to_vec())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::from_raw(ElementType::Bool, vec![u8::from(value)])
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        let mut bytes = Vec::with_capacity(value.len() + 8);
        push_string(&mut bytes, value);
        Self::from_raw(ElementType::String, bytes)
    }
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Keys and values in file order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(Vec<(String, Value)>);

impl Metadata {
    /// Sets a key: in its place if it is there, else at the end.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some(entry) => entry.1 = value,
            None => self.0.push((key, value)),
        }
    }

    /// Adds a key that is not there yet.
    pub fn push(&mut self, key: String, value: Value) {
        self.0.push((key, value));
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(known, _)| known != key);
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// All keys and values, in file order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key that holds a string.
    #[must_use]
    pub fn string(&self, key: &str) -> Option<&str> {
        let value = self.get(key).filter(|value| value.type_id == ElementType::String.id())?;
        std::str::from_utf8(value.bytes.get(8..)?).ok()
    }
}

/// What the header says of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// `token_embd.weight`, `blk.0.attn_q.weight`, …
    pub name: String,
    /// Row length first, as ggml counts.
    pub dims: Vec<u64>,
    /// How the values are stored.
    pub format: Format,
    /// Length of the tensor's data in bytes.
    pub len: u64,
}

/// Writes a GGUF file from beginning to end.
#[derive(Debug)]
pub struct GgufWriter<W> {
    out: W,
    alignment: u64,
    /// Lengths of the tensors not yet finished, the next one last.
    pending: Vec<u64>,
    /// Bytes of the current tensor written so far.
    written: u64,
    header: Vec<u8>,
    summing: Summing,
    places: Places,
}

impl<W: Write> GgufWriter<W> {
    /// Writes the header, up to the first tensor's data. `alignment` is a power of two, and the one that
    /// `metadata` states (32 where it states none).
    ///
    /// # Errors
    /// What writing to `out` gives.
    pub fn new(mut out: W, metadata: &Metadata, tensors: &[TensorInfo], alignment: u32) -> io::Result<Self> {
        let alignment = u64::from(alignment);
        let mut header = b"GGUF".to_vec();
        header.extend_from_slice(&3u32.to_le_bytes());
        header.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
        header.extend_from_slice(&(metadata.0.len() as u64).to_le_bytes());
        let mut places = Places::default();
        for (key, value) in &metadata.0 {
            push_string(&mut header, key);
            header.extend_from_slice(&value.type_id.to_le_bytes());
            match key.as_str() {
                CHECKSUMS => places.weights = Some(header.len() + 12), // after type and number of the elements
                METADATA_CHECKSUM => places.metadata = Some(header.len()),
                _ => {}
            }
            header.extend_from_slice(&value.bytes);
        }
        let mut offset = 0u64;
        for tensor in tensors {
            push_string(&mut header, &tensor.name);
            header.extend_from_slice(&(tensor.dims.len() as u32).to_le_bytes());
            for dim in &tensor.dims {
                header.extend_from_slice(&dim.to_le_bytes());
            }
            header.extend_from_slice(&tensor.format.id().to_le_bytes());
            header.extend_from_slice(&offset.to_le_bytes());
            offset += tensor.len.next_multiple_of(alignment);
        }
        let padded = (header.len() as u64).next_multiple_of(alignment);
        header.resize(padded as usize, 0);
        out.write_all(&header)?;
        let pending = tensors.iter().rev().map(|tensor| tensor.len).collect();
        Ok(Self { out, alignment, pending, written: 0, header, summing: Summing::default(), places })
    }

    /// Writes some bytes of the current tensor.
    ///
    /// # Errors
    /// What writing gives; [`io::ErrorKind::InvalidInput`] if the tensor would become too long.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let after = self.written + bytes.len() as u64;
        if self.pending.last().is_none_or(|len| after > *len) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more tensor data than announced"));
        }
        self.written = after;
        self.summing.push(bytes);
        self.out.write_all(bytes)
    }

    /// Ends the current tensor; the next [`write`](Self::write) begins the following one.
    ///
    /// # Errors
    /// What writing gives; [`io::ErrorKind::InvalidInput`] if bytes of the tensor are missing.
    pub fn end_tensor(&mut self) -> io::Result<()> {
        if self.pending.pop() != Some(self.written) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "less tensor data than announced"));
        }
        let mut padding = self.written.next_multiple_of(self.alignment) - self.written;
        self.written = 0;
        while padding > 0 {
            let part = padding.min(ZEROS.len() as u64);
            self.summing.push(&ZEROS[..part as usize]);
            self.out.write_all(&ZEROS[..part as usize])?;
            padding -= part;
        }
        Ok(())
    }

    /// The header with the checksums of all that was written so far, as far as the metadata has keys for
    /// them: they are known last, and it has to be written over the other one.
    #[must_use]
    pub fn summed_header(&self) -> Vec<u8> {
        let mut header = self.header.clone();
        self.places.fill(&mut header, &self.summing);
        header
    }

    /// Ends the file and hands back what was written to.
    ///
    /// # Errors
    /// What flushing gives; [`io::ErrorKind::InvalidInput`] if tensors are missing.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.pending.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "fewer tensors than announced"));
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

const ZEROS: [u8; 4096] = [0; 4096];
