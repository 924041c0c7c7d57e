//! The GGUF file format: what a model file holds, and where.
//!
//! [`Gguf::open`] checks the whole header and leaves a directory in the arena: some 50 bytes for
//! each metadata entry and 80 for each tensor. Names, strings, arrays and tensor data stay in
//! the file; the directory knows where, and any [`Store`] reads them.
//!
//! Versions 2 and 3, little endian. Whatever the bytes, nothing here panics or recurses, time is
//! at most n log n in the size of the header, and no memory is taken before the counts are known
//! to be true: a first pass reads the header without keeping anything. Refused are, beside what
//! the [specification](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) forbids:
//! counts and lengths above the limits below, arrays of arrays, tensors without values, data that
//! overlaps, and names that occur twice. Not checked is whether strings are UTF-8.

mod cursor;
mod directory;
mod error;
mod index;
mod scan;
mod types;
mod value;

pub use directory::{Entry, Tensor};
pub(crate) use error::CONVERT_AGAIN;
pub use error::{Field, GgufError, Name};
pub use index::span_eq;
pub use types::TensorType;
pub use value::{Array, ElementType, Elements, Kind, Strings, Value};

use crate::arena::Arena;
use crate::sort::sort_by;
use crate::store::{Span, Store};
use core::ops::RangeInclusive;
use directory::RawEntry;
use index::{Index, load_name};
use scan::{Layout, scan};

/// Most metadata entries in a file.
pub const MAX_ENTRIES: u32 = 65_536;
/// Most tensors in a file.
pub const MAX_TENSORS: u32 = 65_536;
/// Most bytes of a key (the specification's limit) or of a tensor's name.
pub const MAX_NAME_LEN: u64 = 65_535;
/// Most bytes of a string.
pub const MAX_STRING_LEN: u64 = 1 << 30;
/// Most bytes of an array in the file.
pub const MAX_ARRAY_BYTES: u64 = 1 << 30;
/// Most dimensions of a tensor.
pub const MAX_DIMS: u32 = 4;
/// The powers of two that `general.alignment` may be.
pub const ALIGNMENTS: RangeInclusive<u64> = 8..=1 << 20;
/// The alignment of a file that does not name one.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// The directory of a GGUF file. It holds no store: hand the same one to every call.
#[derive(Clone, Copy, Debug)]
pub struct Gguf<'a> {
    layout: Layout,
    entries: &'a [RawEntry],
    /// Numbers of entries, by hash of their key.
    entry_order: &'a [u32],
    tensors: &'a [Tensor],
    /// Numbers of tensors, by hash of their name.
    tensor_order: &'a [u32],
}

impl<'a> Gguf<'a> {
    /// The bytes that [`open`](Self::open) takes from the arena for this file, to the byte.
    ///
    /// # Errors
    /// [`GgufError`], if the header can't be read to its end.
    pub fn arena_bytes<S: Store>(store: &mut S) -> Result<usize, GgufError> {
        let layout = scan(store, &mut |_| {}, &mut |_| {})?;
        let mut arena = Arena::measure();
        Parts::carve(layout, &mut arena)?;
        Ok(arena.used())
    }

    /// Checks the header of the file in `store` and lists what it holds.
    ///
    /// # Errors
    /// [`GgufError`] names the first thing that is wrong.
    pub fn open<S: Store>(store: &mut S, arena: &mut Arena<'a>) -> Result<Self, GgufError> {
        let layout = scan(store, &mut |_| {}, &mut |_| {})?;
        let Parts { entries, entry_order, tensors, tensor_order } = Parts::carve(layout, arena)?;
        let (mut entry, mut tensor) = (entries.iter_mut(), tensors.iter_mut());
        scan(store, &mut |found| put(&mut entry, found), &mut |found| put(&mut tensor, found))?;

        for tensor in tensors.iter_mut() {
            check_place(store, layout, tensor)?;
        }
        sort(tensor_order, &|number| tensors.get(number as usize).map_or(0, |tensor| tensor.offset));
        check_overlaps(store, tensors, tensor_order)?;
        sort(tensor_order, &|number| tensors.get(number as usize).map_or(0, |tensor| tensor.hash.into()));
        sort(entry_order, &|number| entries.get(number as usize).map_or(0, |entry| entry.hash.into()));

        let gguf = Self { layout, entries, entry_order, tensors, tensor_order };
        if let Some(span) = gguf.keys().find_duplicate(store)? {
            return Err(GgufError::DuplicateKey { key: load_name(store, span)?, at: span.offset });
        }
        if let Some(span) = gguf.names().find_duplicate(store)? {
            return Err(GgufError::DuplicateTensor { tensor: load_name(store, span)?, at: span.offset });
        }
        Ok(gguf)
    }

    /// The version of the format, 2 or 3.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.layout.version
    }

    /// What the offsets of tensor data are multiples of.
    #[must_use]
    pub fn alignment(&self) -> u64 {
        self.layout.alignment
    }

    /// Where tensor data starts. A file without tensors may end before.
    #[must_use]
    pub fn data_offset(&self) -> u64 {
        self.layout.data_offset
    }

    /// The metadata, in file order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry> + Clone + use<'a> {
        self.entries.iter().map(RawEntry::get)
    }

    /// The tensors, in file order.
    #[must_use]
    pub fn tensors(&self) -> &'a [Tensor] {
        self.tensors
    }

    /// The value of `key`, if the file has it.
    ///
    /// # Errors
    /// The store's.
    pub fn get<S: Store>(&self, store: &mut S, key: &str) -> Result<Option<Value>, GgufError> {
        Ok(self.entry(store, key)?.map(|entry| entry.value))
    }

    /// The entry of `key`, if the file has it.
    ///
    /// # Errors
    /// The store's.
    pub fn entry<S: Store>(&self, store: &mut S, key: &str) -> Result<Option<Entry>, GgufError> {
        let number = self.keys().find(store, key)?;
        Ok(number.and_then(|number| self.entries.get(number as usize)).map(RawEntry::get))
    }

    /// The tensor called `name`, if the file has it.
    ///
    /// # Errors
    /// The store's.
    pub fn tensor<S: Store>(&self, store: &mut S, name: &str) -> Result<Option<&'a Tensor>, GgufError> {
        let number = self.names().find(store, name)?;
        Ok(number.and_then(|number| self.tensors.get(number as usize)))
    }

    /// The value of `key` if it is an integer of any type, but not a negative one.
    ///
    /// # Errors
    /// [`GgufError::WrongType`], [`GgufError::Negative`], or the store's.
    pub fn u64<S: Store>(&self, store: &mut S, key: &str) -> Result<Option<u64>, GgufError> {
        let value = self.get(store, key)?;
        value.map(|value| value.to_u64(Name::new(key.as_bytes()))).transpose()
    }

    /// The value of `key` if it is an f32.
    ///
    /// # Errors
    /// [`GgufError::WrongType`], or the store's.
    pub fn f32<S: Store>(&self, store: &mut S, key: &str) -> Result<Option<f32>, GgufError> {
        let value = self.typed(store, key, Kind::One(ElementType::F32))?;
        Ok(value.and_then(|value| if let Value::F32(value) = value { Some(value) } else { None }))
    }

    /// The value of `key` if it is a bool.
    ///
    /// # Errors
    /// [`GgufError::WrongType`], or the store's.
    pub fn bool<S: Store>(&self, store: &mut S, key: &str) -> Result<Option<bool>, GgufError> {
        let value = self.typed(store, key, Kind::One(ElementType::Bool))?;
        Ok(value.and_then(|value| if let Value::Bool(value) = value { Some(value) } else { None }))
    }

    /// Where the value of `key` is if it is a string.
    ///
    /// # Errors
    /// [`GgufError::WrongType`], or the store's.
    pub fn string<S: Store>(&self, store: &mut S, key: &str) -> Result<Option<Span>, GgufError> {
        let value = self.typed(store, key, Kind::One(ElementType::String))?;
        Ok(value.and_then(|value| if let Value::String(span) = value { Some(span) } else { None }))
    }

    /// The value of `key` if it is an array of `element`.
    ///
    /// # Errors
    /// [`GgufError::WrongType`], or the store's.
    pub fn array<S: Store>(
        &self,
        store: &mut S,
        key: &str,
        element: ElementType,
    ) -> Result<Option<Array>, GgufError> {
        let value = self.typed(store, key, Kind::ArrayOf(element))?;
        Ok(value.and_then(|value| if let Value::Array(array) = value { Some(array) } else { None }))
    }

    /// A value that is of the kind expected.
    fn typed<S: Store>(&self, store: &mut S, key: &str, expected: Kind) -> Result<Option<Value>, GgufError> {
        match self.get(store, key)? {
            Some(value) if value.kind() != expected => {
                Err(GgufError::WrongType { key: Name::new(key.as_bytes()), found: value.kind(), expected })
            }
            value => Ok(value),
        }
    }

    fn keys(&self) -> Index<'a, impl Fn(u32) -> Option<(u32, Span)> + use<'a>> {
        let entries = self.entries;
        let name = move |number| entries.get(number as usize).map(|entry| (entry.hash, entry.key()));
        Index { order: self.entry_order, name }
    }

    fn names(&self) -> Index<'a, impl Fn(u32) -> Option<(u32, Span)> + use<'a>> {
        let tensors = self.tensors;
        let name = move |number| tensors.get(number as usize).map(|tensor| (tensor.hash, tensor.name()));
        Index { order: self.tensor_order, name }
    }
}

/// What a [`Gguf`] takes from the arena, before it is filled.
struct Parts<'a> {
    entries: &'a mut [RawEntry],
    entry_order: &'a mut [u32],
    tensors: &'a mut [Tensor],
    tensor_order: &'a mut [u32],
}

impl<'a> Parts<'a> {
    fn carve(layout: Layout, arena: &mut Arena<'a>) -> Result<Self, GgufError> {
        let (entries, tensors) = (layout.entries as usize, layout.tensors as usize);
        Ok(Self {
            entries: arena.take(entries)?,
            entry_order: arena.take(entries)?,
            tensors: arena.take(tensors)?,
            tensor_order: arena.take(tensors)?,
        })
    }
}

/// Compiled once for all tables.
fn sort(order: &mut [u32], key: &dyn Fn(u32) -> u64) {
    sort_by(order, key);
}

fn put<T>(places: &mut core::slice::IterMut<'_, T>, found: T) {
    // A store whose bytes change between the passes could offer more than there is room for.
    if let Some(place) = places.next() {
        *place = found;
    }
}

/// Turns the offset within the data into one within the file, and checks that the file has it.
#[inline(never)]
fn check_place<S: Store>(store: &mut S, layout: Layout, tensor: &mut Tensor) -> Result<(), GgufError> {
    let Layout { alignment, data_offset, .. } = layout;
    let (offset, bytes, len) = (tensor.offset, tensor.len, store.len());
    if offset & (alignment - 1) != 0 {
        let tensor = load_name(store, tensor.name())?;
        return Err(GgufError::Misaligned { tensor, offset, alignment });
    }
    let start = data_offset.checked_add(offset);
    let end = start.and_then(|start| start.checked_add(bytes)).filter(|end| *end <= len);
    match start.zip(end) {
        Some((start, _)) => tensor.offset = start,
        None => {
            let tensor = load_name(store, tensor.name())?;
            return Err(GgufError::OutsideFile { tensor, data: data_offset, offset, bytes, len });
        }
    }
    Ok(())
}

/// `order` is by offset.
#[inline(never)]
fn check_overlaps<S: Store>(store: &mut S, tensors: &[Tensor], order: &[u32]) -> Result<(), GgufError> {
    let at = |number: &u32| tensors.get(*number as usize);
    for (first, second) in order.iter().zip(order.iter().skip(1)) {
        if let Some((first, second)) = at(first).zip(at(second))
            && first.end() > second.offset
        {
            let (first, second, at) = (first.name(), second.name(), second.offset);
            let (first, second) = (load_name(store, first)?, load_name(store, second)?);
            return Err(GgufError::Overlap { first, second, at });
        }
    }
    Ok(())
}
