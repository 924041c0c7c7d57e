//! A store with a small buffer, as a microcontroller with external flash has.

use ouro_runtime::store::{Span, Store, StoreCounters, StoreError};

/// Copies each tile into a buffer, so that a tile read earlier is gone.
#[derive(Clone, Debug)]
pub struct PagedStore<'a> {
    file: &'a [u8],
    page: Vec<u8>,
    current: Span,
    counters: StoreCounters,
}

impl<'a> PagedStore<'a> {
    /// A store over `file` with a buffer of `size` bytes.
    #[must_use]
    pub fn new(file: &'a [u8], size: usize) -> Self {
        Self { file, page: vec![0; size], current: Span::EMPTY, counters: StoreCounters::default() }
    }
}

impl Store for PagedStore<'_> {
    fn len(&self) -> u64 {
        self.file.len() as u64
    }

    fn max_tile(&self) -> usize {
        self.page.len()
    }

    fn load(&mut self, want: Span, _next: impl IntoIterator<Item = Span>) -> Result<(), StoreError> {
        self.current = Span::EMPTY;
        let max = self.page.len();
        let page = self.page.get_mut(..want.len).ok_or(StoreError::TooLarge { span: want, max })?;
        let file =
            usize::try_from(want.offset).ok().and_then(|start| self.file.get(start..)?.get(..want.len));
        page.copy_from_slice(file.ok_or(StoreError::OutOfRange { span: want, len: self.file.len() as u64 })?);
        self.current = want;
        self.counters.tiles += 1;
        self.counters.bytes += want.len as u64;
        Ok(())
    }

    fn current(&self) -> Span {
        self.current
    }

    fn tile(&self) -> &[u8] {
        &self.page[..self.current.len]
    }

    fn counters(&self) -> StoreCounters {
        self.counters
    }
}
