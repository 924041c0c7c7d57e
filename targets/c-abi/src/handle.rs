//! What stands in the caller's memory, and how calls get at it.
//!
//! The session borrows the model and the clock that stand beside it. So nothing here ever makes a
//! reference to a whole [`Place`]: its parts are reached through the raw pointer, each by itself.

use crate::pointer;
use crate::settings::CallerClock;
use crate::status::{Error, Status};
use core::mem::MaybeUninit;
use ouro_runtime::model::{ExitDefault, Model};
use ouro_runtime::session::{Depth, Session};
use ouro_runtime::text::{Symbol, TextError, Tokenizer, Utf8Stream};

use crate::source::CheckedMedium;

/// An open model and a conversation with it, in memory that the caller lent to `ouro_open`.
///
/// One thread uses a handle at a time; different handles have nothing in common.
pub struct Ouro {
    _opaque: (),
}

/// What a handle's memory begins with.
#[repr(C, align(16))]
pub(crate) struct Place {
    state: u32,
    /// The last call's; valid in every state.
    error: Error,
    pub(crate) model: MaybeUninit<Model<'static>>,
    pub(crate) clock: MaybeUninit<CallerClock>,
    /// Valid when open or busy.
    body: MaybeUninit<Body>,
}

/// What calls work on.
pub(crate) struct Body {
    pub(crate) medium: CheckedMedium,
    pub(crate) tokenizer: Result<Tokenizer<'static>, TextError>,
    pub(crate) session: Session<'static>,
    pub(crate) policy: ExitDefault,
    /// Tokens that end an answer.
    pub(crate) ends: [Option<u32>; 3],
    /// For long words.
    pub(crate) symbols: &'static mut [Symbol],
    /// The answer's text so far, as far as a character is not complete.
    pub(crate) text: Utf8Stream,
    /// How deep the last token fed ran.
    pub(crate) answer: Option<Depth>,
    /// Whether what was fed last has no answer.
    pub(crate) skips: bool,
}

/// Numbers that memory hardly holds by chance.
const OPEN: u32 = 0x4f75_726f;
const BUSY: u32 = 0x4f75_7262;
const FAILED: u32 = 0x4f75_7266;

/// The memory becomes a handle that is not open yet.
///
/// # Safety
/// `place` is valid for writes.
pub(crate) unsafe fn begin(place: *mut Place) {
    // SAFETY: as the caller says.
    unsafe {
        (&raw mut (*place).state).write(FAILED);
        (&raw mut (*place).error).write(Error::None);
    }
}

/// Opens the handle, or takes note of why that is not possible.
///
/// # Safety
/// `place` was begun.
pub(crate) unsafe fn end(place: *mut Place, result: Result<Body, Error>) -> Status {
    // SAFETY: as the caller says.
    unsafe {
        match result {
            Ok(body) => {
                (&raw mut (*place).body).write(MaybeUninit::new(body));
                (&raw mut (*place).state).write(OPEN);
                Status::Ok
            }
            Err(error) => {
                (&raw mut (*place).error).write(error);
                error.status()
            }
        }
    }
}

/// Does something with an open handle, which nobody else can use meanwhile.
///
/// # Safety
/// `handle` is null, or misaligned, or points to memory that can be read and that is a handle only if
/// `ouro_open` made it one.
pub(crate) unsafe fn with(handle: *mut Ouro, work: impl FnOnce(&mut Body) -> Result<(), Error>) -> Status {
    let place: *mut Place = handle.cast();
    if let Err(error) = pointer::check(place, 1, "handle") {
        return error.status();
    }
    // SAFETY: `place` can be read, as the caller says. In the state OPEN it has a body, to which no
    // other reference exists: whoever makes one, here, sets BUSY first.
    unsafe {
        match (&raw const (*place).state).read() {
            OPEN => {}
            BUSY => return Status::Busy,
            _ => return Status::Handle,
        }
        (&raw mut (*place).state).write(BUSY);
        let body = &raw mut (*place).body;
        let result = work((*body).assume_init_mut());
        let error = result.err().unwrap_or(Error::None);
        (&raw mut (*place).error).write(error);
        (&raw mut (*place).state).write(OPEN);
        error.status()
    }
}

/// The last error of a handle, open or not.
///
/// # Safety
/// As for [`with`].
pub(crate) unsafe fn last_error(handle: *const Ouro) -> Result<Error, Error> {
    let place: *const Place = handle.cast();
    pointer::check(place, 1, "handle")?;
    // SAFETY: `place` can be read, as the caller says, and has an error in these states.
    unsafe {
        match (&raw const (*place).state).read() {
            OPEN | FAILED => Ok((&raw const (*place).error).read()),
            BUSY => Err(Error::Argument { name: "handle", status: Status::Busy }),
            _ => Err(Error::Argument { name: "handle", status: Status::Handle }),
        }
    }
}
