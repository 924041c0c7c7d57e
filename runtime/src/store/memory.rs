//! A store whose bytes need no fetching.

use super::{Span, Store, StoreCounters, StoreError};

/// A file in memory, or in flash that is mapped into memory (XIP): nothing is copied.
#[derive(Clone, Debug)]
pub struct MemoryStore<B> {
    bytes: B,
    current: Span,
    counters: StoreCounters,
}

/// A [`MemoryStore`] over borrowed bytes.
pub type SliceStore<'a> = MemoryStore<&'a [u8]>;

impl<B: AsRef<[u8]>> MemoryStore<B> {
    /// A store over the bytes of a whole GGUF file.
    #[must_use]
    pub fn new(bytes: B) -> Self {
        Self { bytes, current: Span::EMPTY, counters: StoreCounters::default() }
    }

    /// The whole file.
    pub fn bytes(&self) -> &B {
        &self.bytes
    }

    fn get(&self, span: Span) -> Option<&[u8]> {
        let start = usize::try_from(span.offset).ok()?;
        self.bytes.as_ref().get(start..start.checked_add(span.len)?)
    }
}

impl<B: AsRef<[u8]>> Store for MemoryStore<B> {
    fn len(&self) -> u64 {
        self.bytes.as_ref().len() as u64
    }

    fn max_tile(&self) -> usize {
        usize::MAX
    }

    fn load(&mut self, want: Span, _next: impl IntoIterator<Item = Span>) -> Result<(), StoreError> {
        if self.get(want).is_none() {
            self.current = Span::EMPTY;
            return Err(StoreError::OutOfRange { span: want, len: self.len() });
        }
        self.current = want;
        self.counters.tiles += 1;
        self.counters.bytes += want.len as u64;
        Ok(())
    }

    fn current(&self) -> Span {
        self.current
    }

    fn tile(&self) -> &[u8] {
        self.get(self.current).unwrap_or_default()
    }

    fn counters(&self) -> StoreCounters {
        self.counters
    }
}
