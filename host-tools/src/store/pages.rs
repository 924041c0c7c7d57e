//! Memory that direct reads can go to, and arenas lie in.

use memmap2::{MmapMut, MmapOptions};
use std::io;

/// What direct reads are aligned to: in the file, in memory and in length. Enough for every disk
/// that Linux knows.
pub(crate) const PAGE: usize = 4096;

/// A huge page, as most processors have it. A disk is told of it as one piece, where 512 single pages lie
/// anywhere.
const HUGE: usize = 2 << 20;

/// A buffer of whole pages; from its start on huge ones, where the system has some to give.
#[derive(Default)]
pub(crate) struct Pages {
    map: Option<MmapMut>,
    start: usize,
    len: usize,
}

impl Pages {
    /// A buffer of `count` pages, all zero.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub(crate) fn new(count: usize) -> io::Result<Self> {
        let len = count.checked_mul(PAGE).ok_or(io::ErrorKind::OutOfMemory)?;
        // What lies before `start` and after the end is never touched, and so takes no memory.
        let reserved = len.checked_add(HUGE).ok_or(io::ErrorKind::OutOfMemory)?;
        let map = MmapOptions::new().len(reserved).map_anon()?;
        let start = map.as_ptr().align_offset(HUGE).min(HUGE);
        #[cfg(target_os = "linux")]
        advise(&map, start, len - len % HUGE);
        Ok(Self { map: Some(map), start, len })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.map.as_ref().map_or(&[], |map| &map[self.start..][..self.len])
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.map.as_mut().map_or(&mut [], |map| &mut map[self.start..][..self.len])
    }
}

/// Asks for huge pages where whole ones are wanted, and for none elsewhere: they would take memory that
/// nobody has counted. A kernel that knows none goes on with small ones.
#[cfg(target_os = "linux")]
fn advise(map: &MmapMut, start: usize, len: usize) {
    use memmap2::Advice::{HugePage, NoHugePage};
    let _ = map.advise(NoHugePage);
    if len > 0 {
        let _ = map.advise_range(HugePage, start, len);
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} pages", self.len / PAGE)
    }
}
