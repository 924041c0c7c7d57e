//! Files that get their name when they are whole: whatever stops a program, there is the old file or
//! the new one.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use tempfile::NamedTempFile;

/// A file without a name of its own yet, in the folder of `out`.
pub(crate) fn temporary_file(out: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".ouro-").suffix(".part");
    // The permissions of any new file, not the private ones of a temporary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    builder.tempfile_in(folder.unwrap_or(Path::new(".")))
}

/// Gives the finished file its name, once its bytes are safe on the disk.
pub(crate) fn keep(temporary: NamedTempFile, out: &Path) -> io::Result<u64> {
    let file: &File = temporary.as_file();
    file.sync_all()?;
    temporary.persist(out).map_err(|error| error.error)?;
    Ok(fs::metadata(out)?.len())
}
