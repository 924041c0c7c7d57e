//! What a subcommand can end with, and the exit code that says so.

use anyhow::anyhow;
use std::io::{self, ErrorKind};
use std::{fmt, path::Path};

/// Why a subcommand did not do what was asked.
#[derive(Debug)]
pub enum Error {
    /// The command line makes no sense; exit code 2.
    Usage(String),
    /// A file is missing, malformed or of a kind that we can't read; exit code 3.
    BadInput(String),
    /// Memory, a device or a disk is too small; exit code 4.
    DoesNotFit(String),
    /// Stopped by the user (Ctrl-C) before anything useful was done; exit code 1.
    Interrupted,
    /// Whoever read the standard output has gone (`ouro ... | head`); exit code 1, and no message.
    OutputClosed,
    /// Everything else; exit code 1.
    Other(anyhow::Error),
}

impl Error {
    /// The exit code of the process: 2 wrong usage, 3 bad input file, 4 does not fit, 1 the rest.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::BadInput(_) => 3,
            Self::DoesNotFit(_) => 4,
            Self::Interrupted | Self::OutputClosed | Self::Other(_) => 1,
        }
    }

    /// An input file that can't be opened or read; too little memory for it is told apart.
    #[must_use]
    pub fn reading(path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::OutOfMemory => {
                let path = path.display();
                Self::DoesNotFit(format!("{path}: {error}; use --store file, or a smaller --block-buffer"))
            }
            _ => Self::BadInput(unreadable(path, error)),
        }
    }

    /// An output file that can't be written; a full disk is told apart.
    #[must_use]
    pub fn writing(path: &Path, error: io::Error) -> Self {
        let path = path.display();
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Self::DoesNotFit(format!("writing {path}: {error}; free some space or write to another disk"))
            }
            ErrorKind::NotFound => Self::Other(anyhow!("writing {path}: no such folder; create it first")),
            ErrorKind::NotADirectory => {
                Self::Other(anyhow!("writing {path}: a file is where a folder should be; write elsewhere"))
            }
            ErrorKind::IsADirectory => Self::Other(anyhow!("{path} is a folder; name the file to write")),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Self::Other(anyhow!("writing {path}: {error}; write to another folder"))
            }
            _ => Self::Other(anyhow::Error::new(error).context(format!("writing {path}"))),
        }
    }
}

/// What is wrong with a file that can't be opened or read, and what to do.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    let (found, advice) = match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            (format!("{path} does not exist"), "check its name and its folder")
        }
        ErrorKind::IsADirectory => (format!("{path} is a folder"), "give the name of a file in it"),
        ErrorKind::PermissionDenied => (format!("{path}: {error}"), "check its permissions (ls -l)"),
        _ => (format!("{path}: {error}"), "check its kind and its disk"),
    };
    format!("{found}, expected a file that can be read; {advice}")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::BadInput(text) | Self::DoesNotFit(text) => f.write_str(text),
            Self::Interrupted => f.write_str("interrupted"),
            Self::OutputClosed => f.write_str("the standard output is closed"),
            Self::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}
