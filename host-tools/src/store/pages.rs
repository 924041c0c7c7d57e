//! Memory that direct reads can go to.

use bytemuck::{Pod, Zeroable};
use std::collections::TryReserveError;

/// What direct reads are aligned to: in the file, in memory and in length. Enough for every disk
/// that Linux knows.
pub(super) const PAGE: usize = 4096;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(4096))]
struct Page([u8; PAGE]);

/// A buffer of whole pages.
#[derive(Default)]
pub(super) struct Pages(Vec<Page>);

impl Pages {
    /// A buffer of `count` pages, all zero.
    pub(super) fn new(count: usize) -> Result<Self, TryReserveError> {
        let mut pages = Vec::new();
        pages.try_reserve_exact(count)?;
        pages.resize(count, Page::zeroed());
        Ok(Self(pages))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} pages", self.0.len())
    }
}
