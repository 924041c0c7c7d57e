//! Reading a file past the page cache, and noticing when somebody changes it.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// A file for any number of threads.
#[derive(Debug)]
pub(super) struct Reader {
    /// Through the page cache.
    file: File,
    /// Past it; `None` where the file system refuses.
    direct: Option<File>,
    len: u64,
    stamp: Stamp,
}

/// What changes with a file's contents: its length and the time of its last change.
type Stamp = (u64, i64, i64);

fn stamp(file: &File) -> io::Result<Stamp> {
    let metadata = file.metadata()?;
    Ok((metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

impl Reader {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut reader = Self::of(File::open(path)?)?;
        reader.direct = open_direct(path, reader.stamp);
        Ok(reader)
    }

    /// Reads through the page cache.
    pub(super) fn of(file: File) -> io::Result<Self> {
        let stamp = stamp(&file)?;
        // A disk or a partition tells its length only so.
        let len = if stamp.0 == 0 { (&file).seek(SeekFrom::End(0))? } else { stamp.0 };
        Ok(Self { len, direct: None, file, stamp })
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        let direct = self.direct.as_ref().map(File::try_clone).transpose()?;
        Ok(Self { file: self.file.try_clone()?, direct, ..*self })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether reads go past the page cache.
    pub(super) fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// A few bytes through the page cache.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(super) fn read_cached(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)?;
        self.is_unchanged()
    }

    fn is_unchanged(&self) -> io::Result<()> {
        if stamp(&self.file)? == self.stamp {
            return Ok(());
        }
        Err(io::Error::new(ErrorKind::InvalidData, "the file has changed"))
    }

    /// Whole pages, past the page cache; what is beyond the end of the file is left alone.
    ///
    /// # Errors
    /// The system's. On a file that somebody has changed since it was opened, it is one without a code.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let file = self.direct.as_ref().unwrap_or(&self.file);
        let wanted = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let mut done = 0;
        while done < wanted {
            match file.read_at(&mut out[done..], offset + done as u64) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.forget(offset, out.len());
        self.is_unchanged()
    }

    /// Where reads go through the page cache, what was read leaves it again: it is read once per
    /// loop, and would push out what is used more often.
    fn forget(&self, offset: u64, len: usize) {
        #[cfg(target_os = "linux")]
        if self.direct.is_none() {
            let len = std::num::NonZeroU64::new(len as u64);
            // It is advice only: nothing is lost if the file system does not take it.
            let _ = rustix::fs::fadvise(&self.file, offset, len, rustix::fs::Advice::DontNeed);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (offset, len);
    }
}

/// The same file past the page cache, if a read of its first page works that way.
#[cfg(target_os = "linux")]
fn open_direct(path: &Path, expected: Stamp) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).ok()?;
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    let mut page = super::pages::Pages::new(1).ok()?;
    file.read_at(page.bytes_mut(), 0).ok()?;
    // The path may name another file by now.
    (stamp(&file).ok()? == expected).then_some(file)
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_path: &Path, _expected: Stamp) -> Option<File> {
    None
}
