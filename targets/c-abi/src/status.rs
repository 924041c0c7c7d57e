//! Every error: a number for programs, a sentence for people.

use core::ffi::{CStr, c_char};
use core::fmt;
use ouro_runtime::arena::ArenaFull;
use ouro_runtime::gguf::GgufError;
use ouro_runtime::kernels::Mismatch;
use ouro_runtime::model::ModelError;
use ouro_runtime::session::SessionError;
use ouro_runtime::store::StoreError;
use ouro_runtime::text::TextError;

/// How a call ended. Every error leaves the handle as it was before the call, unless said otherwise;
/// `ouro_explain` tells more about it.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It did what it is for.
    Ok = 0,
    /// A pointer is NULL that must not be.
    NullPointer = 1,
    /// A pointer is not aligned as its type asks; the memory of a handle to OURO_ALIGN bytes.
    Misaligned = 2,
    /// A length is 0, larger than an object can be, or more than 1 for a generated token.
    Length = 3,
    /// The model and the memory lent overlap.
    Overlap = 4,
    /// The pointer is not a handle that `ouro_open` opened.
    Handle = 5,
    /// The handle is in use: the call comes from inside one of its callbacks.
    Busy = 6,
    /// A setting is out of range.
    Setting = 7,
    /// The memory lent is too small.
    Memory = 8,
    /// There is no room for all that would be written.
    Buffer = 9,
    /// The file is damaged, or is no model that runs here.
    Model = 10,
    /// The file ends too early.
    Truncated = 11,
    /// The block buffer is too small for a row of weights.
    BlockBuffer = 12,
    /// The read callback failed. What was in flight is dropped; feed the same tokens again.
    Read = 13,
    /// The file's tokenizer is not one that is known here: give token ids.
    Tokenizer = 14,
    /// The tokenizer has not the special tokens of ChatML: give plain text or token ids.
    NotChatml = 15,
    /// The text is not UTF-8.
    NotUtf8 = 16,
    /// The text has a word that is longer than the settings allow.
    Word = 17,
    /// More tokens at once than the settings allow.
    Prompt = 18,
    /// The conversation is longer than the settings allow.
    Context = 19,
    /// No token has this id.
    Token = 20,
    /// The exit policy needs the exit gate, and the file has none.
    NoGate = 21,
    /// There is nothing to do, or no answer yet: feed tokens first, and step until done.
    NothingInFlight = 22,
    /// The logits are not numbers: weights in the file are damaged.
    NotANumber = 23,
    /// The time was up before there was any answer.
    OutOfTime = 24,
    /// The budget can't pay its own fallback depth.
    Budget = 25,
    /// A state that the code rules out; please report it.
    Internal = 26,
    /// A kernel computes wrong on this CPU, and is not used.
    Kernel = 27,
    /// A part of the file is not what its checksum was made of: it is damaged. What was in flight is
    /// dropped.
    Checksum = 28,
}

impl Status {
    fn text(self) -> &'static CStr {
        match self {
            Self::Ok => c"done",
            Self::NullPointer => c"a pointer is NULL",
            Self::Misaligned => c"a pointer is not aligned",
            Self::Length => c"a length is 0 or too large",
            Self::Overlap => c"the model and the memory lent overlap",
            Self::Handle => c"not an open handle",
            Self::Busy => c"the handle is in use",
            Self::Setting => c"a setting is out of range",
            Self::Memory => c"the memory lent is too small",
            Self::Buffer => c"the buffer is too small",
            Self::Model => c"not a model that runs here, or damaged",
            Self::Truncated => c"the model file is truncated",
            Self::BlockBuffer => c"the block buffer is too small",
            Self::Read => c"reading the model failed",
            Self::Tokenizer => c"no tokenizer that is known here",
            Self::NotChatml => c"the tokenizer does not know ChatML",
            Self::NotUtf8 => c"the text is not UTF-8",
            Self::Word => c"a word of the text is too long",
            Self::Prompt => c"more tokens at once than the settings allow",
            Self::Context => c"the conversation is longer than the settings allow",
            Self::Token => c"no such token",
            Self::NoGate => c"the model has no exit gate",
            Self::NothingInFlight => c"nothing is in flight",
            Self::NotANumber => c"the logits are not numbers",
            Self::OutOfTime => c"out of time",
            Self::Budget => c"the budget can't pay its fallback depth",
            Self::Internal => c"internal error: please report it",
            Self::Kernel => c"a kernel computes wrong on this CPU and is not used",
            Self::Checksum => c"the model is damaged: another checksum",
        }
    }

    const ALL: [Self; 29] = [
        Self::Ok,
        Self::NullPointer,
        Self::Misaligned,
        Self::Length,
        Self::Overlap,
        Self::Handle,
        Self::Busy,
        Self::Setting,
        Self::Memory,
        Self::Buffer,
        Self::Model,
        Self::Truncated,
        Self::BlockBuffer,
        Self::Read,
        Self::Tokenizer,
        Self::NotChatml,
        Self::NotUtf8,
        Self::Word,
        Self::Prompt,
        Self::Context,
        Self::Token,
        Self::NoGate,
        Self::NothingInFlight,
        Self::NotANumber,
        Self::OutOfTime,
        Self::Budget,
        Self::Internal,
        Self::Kernel,
        Self::Checksum,
    ];
}

/// A few words for a status, in English; never NULL, whatever `status` is. The text is part of the
/// program and is never freed.
#[unsafe(no_mangle)]
pub extern "C" fn ouro_status_text(status: i32) -> *const c_char {
    let known = Status::ALL.into_iter().find(|known| *known as i32 == status);
    known.map_or(c"unknown status", Status::text).as_ptr()
}

/// All that is known of an error.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Error {
    /// There was none.
    None,
    /// An argument, or a field of one.
    Argument {
        name: &'static str,
        status: Status,
    },
    /// A setting out of range.
    Setting {
        name: &'static str,
        expected: &'static str,
    },
    /// The memory lent for a handle.
    Memory {
        needed: usize,
        found: usize,
    },
    /// Room for what is written.
    Buffer {
        needed: usize,
        found: usize,
    },
    /// No answer, or no tokens in flight.
    NothingInFlight,
    Gguf(GgufError),
    Model(ModelError),
    Text(TextError),
    Session(SessionError),
    Store(StoreError),
    Arena(ArenaFull),
    Kernel(Mismatch),
}

impl Error {
    pub(crate) fn status(&self) -> Status {
        match *self {
            Self::None => Status::Ok,
            Self::Argument { status, .. } => status,
            Self::Setting { .. } => Status::Setting,
            Self::Memory { .. } | Self::Arena(_) => Status::Memory,
            Self::Buffer { .. } => Status::Buffer,
            Self::NothingInFlight => Status::NothingInFlight,
            Self::Gguf(error) => of_gguf(error),
            Self::Model(error) => of_model(error),
            Self::Text(error) => of_text(error),
            Self::Session(error) => of_session(error),
            Self::Store(error) => of_store(error),
            Self::Kernel(_) => Status::Kernel,
        }
    }
}

fn of_store(error: StoreError) -> Status {
    match error {
        StoreError::OutOfRange { .. } => Status::Truncated,
        StoreError::TooLarge { .. } => Status::BlockBuffer,
        StoreError::Io { .. } | StoreError::Short { .. } => Status::Read,
        StoreError::Corrupt { .. } => Status::Checksum,
        // What else can be wrong is wrong with the bytes.
        _ => Status::Model,
    }
}

fn of_gguf(error: GgufError) -> Status {
    match error {
        GgufError::Store(error) => of_store(error),
        GgufError::Arena(_) => Status::Memory,
        _ => Status::Model,
    }
}

fn of_model(error: ModelError) -> Status {
    match error {
        ModelError::Store(error) => of_store(error),
        ModelError::Gguf(error) => of_gguf(error),
        ModelError::Arena(_) | ModelError::TooLarge { .. } => Status::Memory,
        ModelError::MetadataChecksum => Status::Checksum,
        _ => Status::Model,
    }
}

fn of_text(error: TextError) -> Status {
    match error {
        TextError::Table(_) => Status::Tokenizer,
        TextError::ScratchTooSmall { .. } => Status::Word,
        TextError::OutputTooSmall { .. } => Status::Buffer,
        TextError::NoSuchToken { .. } => Status::Token,
        TextError::NotChatMl { .. } => Status::NotChatml,
        TextError::Gguf(error) => of_gguf(error),
        TextError::Store(error) => of_store(error),
        TextError::Arena(_) => Status::Memory,
    }
}

fn of_session(error: SessionError) -> Status {
    match error {
        SessionError::Setting { .. } => Status::Setting,
        SessionError::Arena(_) => Status::Memory,
        SessionError::Prompt { found: 0, .. } | SessionError::Generated { .. } => Status::Length,
        SessionError::Prompt { .. } => Status::Prompt,
        SessionError::Context { .. } => Status::Context,
        SessionError::Token { .. } => Status::Token,
        SessionError::LoopRate { .. } | SessionError::ByteRate { .. } => Status::Budget,
        SessionError::OutOfTime { .. } => Status::OutOfTime,
        SessionError::NoGate => Status::NoGate,
        SessionError::NothingInFlight => Status::NothingInFlight,
        SessionError::NotANumber => Status::NotANumber,
        SessionError::Store(error) | SessionError::Weights { error, .. } => of_store(error),
        SessionError::Quant(_) => Status::Model,
        _ => Status::Internal,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |status: Status| status.text().to_str().unwrap_or_default();
        match self {
            Self::None => Ok(()),
            Self::Argument { name, status } => write!(f, "{name}: {}", words(*status)),
            Self::Setting { name, expected } => write!(f, "{name}: expected {expected}"),
            Self::Memory { needed, found } => write!(
                f,
                "{needed} bytes of memory are needed, but {found} were lent; lend more or lower context, window or prompt"
            ),
            Self::Buffer { needed, found } => {
                write!(f, "there is room for {found}, but {needed} would be written; make more room")
            }
            Self::NothingInFlight => f.write_str(words(self.status())),
            Self::Gguf(error) => error.fmt(f),
            Self::Model(error) => error.fmt(f),
            Self::Text(error) => error.fmt(f),
            Self::Session(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Arena(error) => error.fmt(f),
            Self::Kernel(error) => error.fmt(f),
        }
    }
}

/// An [`Error`] out of each of the runtime's.
macro_rules! from {
    ($($variant:ident($error:ty))*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

from! {
    Gguf(GgufError)
    Model(ModelError)
    Text(TextError)
    Session(SessionError)
    Store(StoreError)
    Arena(ArenaFull)
    Kernel(Mismatch)
}
