//! Small GGUF files for tests: well-formed by default, and wrong wherever a test wants.

/// Ids of metadata value types.
#[allow(missing_docs)]
pub mod value_type {
    pub const U8: u32 = 0;
    pub const I8: u32 = 1;
    pub const U16: u32 = 2;
    pub const I16: u32 = 3;
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
    pub const I64: u32 = 11;
    pub const F64: u32 = 12;
}
use value_type as ty;

/// Builds the bytes of a GGUF file, little endian, version 3.
#[derive(Clone, Debug)]
pub struct GgufBuilder {
    magic: [u8; 4],
    version: u32,
    counts: (Option<u64>, Option<u64>),
    entries: (u64, Vec<u8>),
    tensors: (u64, Vec<u8>),
    alignment: usize,
    data: Vec<u8>,
}

impl Default for GgufBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl GgufBuilder {
    /// A file without entries or tensors.
    #[must_use]
    pub fn new() -> Self {
        let (entries, tensors) = ((0, Vec::new()), (0, Vec::new()));
        Self {
            magic: *b"GGUF",
            version: 3,
            counts: (None, None),
            entries,
            tensors,
            alignment: 32,
            data: Vec::new(),
        }
    }

    /// Other first bytes.
    #[must_use]
    pub fn magic(mut self, magic: [u8; 4]) -> Self {
        self.magic = magic;
        self
    }

    /// Another version field.
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Claims this number of entries, whatever there is.
    #[must_use]
    pub fn claim_entries(mut self, count: u64) -> Self {
        self.counts.0 = Some(count);
        self
    }

    /// Claims this number of tensors, whatever there is.
    #[must_use]
    pub fn claim_tensors(mut self, count: u64) -> Self {
        self.counts.1 = Some(count);
        self
    }

    /// Writes `general.alignment`, and aligns what follows to it.
    #[must_use]
    pub fn alignment(mut self, alignment: u32) -> Self {
        self.alignment = alignment as usize;
        self.u32("general.alignment", alignment)
    }

    /// An entry from its bytes as they are in a file.
    #[must_use]
    pub fn raw_entry(mut self, bytes: &[u8]) -> Self {
        self.entries.0 += 1;
        self.entries.1.extend(bytes);
        self
    }

    /// An entry with a value of type `type_id`, whose bytes are `value`.
    #[must_use]
    pub fn entry(self, key: &str, type_id: u32, value: &[u8]) -> Self {
        self.raw_entry(&[&string(key.as_bytes())[..], &type_id.to_le_bytes(), value].concat())
    }

    /// An entry with an array of `count` elements of type `type_id`, whose bytes are `elements`.
    #[must_use]
    pub fn array(self, key: &str, type_id: u32, count: u64, elements: &[u8]) -> Self {
        let value = [&type_id.to_le_bytes()[..], &count.to_le_bytes(), elements].concat();
        self.entry(key, ty::ARRAY, &value)
    }

    /// An entry with an integer.
    #[must_use]
    pub fn u32(self, key: &str, value: u32) -> Self {
        self.entry(key, ty::U32, &value.to_le_bytes())
    }

    /// An entry with a float.
    #[must_use]
    pub fn f32(self, key: &str, value: f32) -> Self {
        self.entry(key, ty::F32, &value.to_le_bytes())
    }

    /// An entry with a bool.
    #[must_use]
    pub fn bool(self, key: &str, value: bool) -> Self {
        self.entry(key, ty::BOOL, &[value.into()])
    }

    /// An entry with a string.
    #[must_use]
    pub fn string(self, key: &str, value: &str) -> Self {
        self.entry(key, ty::STRING, &string(value.as_bytes()))
    }

    /// An entry with an array of strings.
    #[must_use]
    pub fn strings<T: AsRef<[u8]>>(self, key: &str, values: &[T]) -> Self {
        let elements: Vec<u8> = values.iter().flat_map(|value| string(value.as_ref())).collect();
        self.array(key, ty::STRING, values.len() as u64, &elements)
    }

    /// An entry with an array of integers.
    #[must_use]
    pub fn i32s(self, key: &str, values: &[i32]) -> Self {
        let elements: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.array(key, ty::I32, values.len() as u64, &elements)
    }

    /// An entry with an array of floats.
    #[must_use]
    pub fn f32s(self, key: &str, values: &[f32]) -> Self {
        let elements: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.array(key, ty::F32, values.len() as u64, &elements)
    }

    /// A tensor description from its bytes as they are in a file.
    #[must_use]
    pub fn raw_tensor(mut self, bytes: &[u8]) -> Self {
        self.tensors.0 += 1;
        self.tensors.1.extend(bytes);
        self
    }

    /// A tensor description whose data is said to be at `offset` in the data; none is added.
    #[must_use]
    pub fn tensor_at(self, name: &str, type_id: u32, dims: &[u64], offset: u64) -> Self {
        let mut bytes = string(name.as_bytes());
        bytes.extend((dims.len() as u32).to_le_bytes());
        bytes.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
        bytes.extend(type_id.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        self.raw_tensor(&bytes)
    }

    /// A tensor with its data, at the next aligned offset.
    #[must_use]
    pub fn tensor(mut self, name: &str, type_id: u32, dims: &[u64], data: &[u8]) -> Self {
        self.pad_data();
        let offset = self.data.len() as u64;
        self.data.extend(data);
        self.tensor_at(name, type_id, dims, offset)
    }

    /// A tensor of f32.
    #[must_use]
    pub fn tensor_f32(self, name: &str, dims: &[u64], values: &[f32]) -> Self {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, 0, dims, &data)
    }

    /// Bytes that belong to no tensor, or to one described by [`tensor_at`](Self::tensor_at).
    #[must_use]
    pub fn data(mut self, len: usize) -> Self {
        self.data.resize(self.data.len() + len, 0);
        self
    }

    /// The file.
    #[must_use]
    pub fn build(mut self) -> Vec<u8> {
        self.pad_data();
        let mut file = self.magic.to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(self.counts.1.unwrap_or(self.tensors.0).to_le_bytes());
        file.extend(self.counts.0.unwrap_or(self.entries.0).to_le_bytes());
        file.extend(self.entries.1);
        file.extend(self.tensors.1);
        if !self.data.is_empty() {
            file.resize(file.len().next_multiple_of(self.alignment), 0);
            file.extend(self.data);
        }
        file
    }

    fn pad_data(&mut self) {
        self.data.resize(self.data.len().next_multiple_of(self.alignment), 0);
    }
}

/// The bytes of a string as they are in a file: its length, then itself.
#[must_use]
pub fn string(value: &[u8]) -> Vec<u8> {
    [&(value.len() as u64).to_le_bytes()[..], value].concat()
}
