//! Text in and out.

use crate::handle::{self, Body, Ouro};
use crate::pointer;
use crate::status::{Error, Status};
use core::ffi::c_char;
use core::fmt::{self, Write as _};
use ouro_runtime::text::{Message as RuntimeMessage, Role as RuntimeRole, Specials, TextError};

/// What to make of text that looks like a special token, such as `<|im_end|>`: values of the argument
/// `specials`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialsChoice {
    /// It is plain text. For what users and documents say.
    PlainText = 0,
    /// It is that token. For templates of one's own.
    Recognize = 1,
}

/// Who speaks: values of `ouro_message.role`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The person.
    User = 0,
    /// Instructions for all of the conversation.
    System = 1,
    /// The model.
    Assistant = 2,
}

/// One turn of a conversation.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Message {
    /// An `ouro_role`.
    pub role: u32,
    /// What is said, in UTF-8; not terminated.
    pub text: *const c_char,
    /// Its length in bytes.
    pub len: usize,
}

/// The most messages of one call.
pub const OURO_MAX_MESSAGES: usize = 16;

/// Turns text (UTF-8, `len` bytes) into token ids, to be fed. Nothing is added before or after.
///
/// Writes up to `capacity` ids and sets `*count` to their number. If there is no room for all, the
/// answer is OURO_STATUS_BUFFER and `*count` the room that is needed; no text has more ids than bytes.
/// `specials` is an `ouro_specials`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ouro_encode(
    handle: *mut Ouro,
    text: *const c_char,
    len: usize,
    specials: u32,
    ids: *mut u32,
    capacity: usize,
    count: *mut usize,
) -> Status {
    const PLAIN: u32 = SpecialsChoice::PlainText as u32;
    const RECOGNIZE: u32 = SpecialsChoice::Recognize as u32;
    // SAFETY: as the header asks.
    unsafe {
        handle::with(handle, |body| {
            pointer::write(count, 0, "count")?;
            let text = utf8(text, len, "text")?;
            let specials = match specials {
                PLAIN => Specials::PlainText,
                RECOGNIZE => Specials::Recognize,
                _ => return Err(Error::Setting { name: "specials", expected: "an ouro_specials" }),
            };
            let ids = pointer::room(ids, capacity, "ids")?;
            let tokenizer = body.tokenizer?;
            counted(tokenizer.encode(text, specials, body.symbols, ids), count)
        })
    }
}

/// Turns messages into token ids in the ChatML format, up to the point where the assistant speaks.
/// What looks like a special token in a message is plain text.
///
/// `is_reply` is 0 for the beginning of a conversation, and 1 for messages that follow an answer which
/// ended by itself (`ouro_token.ends`). Ids, capacity and count are as for `ouro_encode`. The model's
/// file may have a template of its own which says more; this is plain ChatML.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ouro_encode_chat(
    handle: *mut Ouro,
    messages: *const Message,
    message_count: usize,
    is_reply: u32,
    ids: *mut u32,
    capacity: usize,
    count: *mut usize,
) -> Status {
    // SAFETY: as the header asks.
    unsafe {
        handle::with(handle, |body| {
            pointer::write(count, 0, "count")?;
            if !(1..=OURO_MAX_MESSAGES).contains(&message_count) {
                return Err(Error::Argument { name: "message_count", status: Status::Length });
            }
            let mut checked = [RuntimeMessage { role: RuntimeRole::User, content: "" }; OURO_MAX_MESSAGES];
            let messages = pointer::values(messages, message_count, "messages")?;
            for (to, message) in checked.iter_mut().zip(messages) {
                // A copy: what is checked is what is used.
                let Message { role, text, len } = *message;
                *to = RuntimeMessage { role: speaker(role)?, content: utf8(text, len, "messages.text")? };
            }
            let checked = checked.get(..message_count).unwrap_or_default();
            let ids = pointer::room(ids, capacity, "ids")?;
            let tokenizer = body.tokenizer?;
            let encoded = match is_reply {
                0 => tokenizer.chatml(checked, body.symbols, ids),
                1 => tokenizer.chatml_reply(checked, body.symbols, ids),
                _ => return Err(Error::Setting { name: "is_reply", expected: "0 or 1" }),
            };
            counted(encoded, count)
        })
    }
}

fn speaker(role: u32) -> Result<RuntimeRole, Error> {
    const USER: u32 = Role::User as u32;
    const SYSTEM: u32 = Role::System as u32;
    const ASSISTANT: u32 = Role::Assistant as u32;
    match role {
        USER => Ok(RuntimeRole::User),
        SYSTEM => Ok(RuntimeRole::System),
        ASSISTANT => Ok(RuntimeRole::Assistant),
        _ => Err(Error::Setting { name: "messages.role", expected: "an ouro_role" }),
    }
}

/// # Safety
/// As for [`pointer::values`].
unsafe fn utf8<'a>(text: *const c_char, len: usize, name: &'static str) -> Result<&'a str, Error> {
    // SAFETY: as the caller says.
    let bytes = unsafe { pointer::values(text.cast(), len, name) }?;
    core::str::from_utf8(bytes).map_err(|_| Error::Argument { name, status: Status::NotUtf8 })
}

/// Tells the caller how many ids there are, also if they found no room.
///
/// # Safety
/// `count` was checked.
unsafe fn counted(encoded: Result<usize, TextError>, count: *mut usize) -> Result<(), Error> {
    let found = match encoded {
        Ok(found) => found,
        Err(TextError::OutputTooSmall { needed, .. }) => needed,
        Err(_) => 0,
    };
    // SAFETY: as the caller says.
    unsafe { pointer::write(count, found, "count") }?;
    encoded.map(|_| ()).map_err(Error::from)
}

/// The text that became certain with this token of an answer, in whole characters: those that the
/// token ends in the middle of come with a later one.
///
/// Writes UTF-8 and a NUL behind it to `text`, and sets `*len` to the length without the NUL. If
/// `capacity` is too small, the answer is OURO_STATUS_BUFFER, `*len` is the length that it would have
/// had, and the call can be repeated with at least `*len + 1` bytes. To be called once for every token of an answer, in
/// order; a token that ends it has no part in its text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ouro_token_text(
    handle: *mut Ouro,
    id: u32,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> Status {
    // SAFETY: as the header asks.
    unsafe {
        handle::with(handle, |body| {
            let mut out = Output::new(text, capacity, len)?;
            let Body { medium, tokenizer, session, text, .. } = body;
            let tokenizer = (*tokenizer)?;
            let mut stream = text.clone();
            // The vocabulary of a model may be larger than its tokenizer's: those tokens have no text.
            let is_padding = id >= tokenizer.vocab_len() && (id as usize) < session.model().config().vocab;
            if !is_padding {
                let bytes = tokenizer.token_bytes(medium, id)?;
                let _ = stream.push(bytes, &mut out);
            }
            out.finish(len)?;
            *text = stream;
            Ok(())
        })
    }
}

/// Ends an answer's text: U+FFFD for a character that never came to its end, else nothing. Otherwise
/// as `ouro_token_text`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ouro_end_text(
    handle: *mut Ouro,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> Status {
    // SAFETY: as the header asks.
    unsafe {
        handle::with(handle, |body| {
            let mut out = Output::new(text, capacity, len)?;
            let mut stream = body.text.clone();
            let _ = stream.finish(&mut out);
            out.finish(len)?;
            body.text = stream;
            Ok(())
        })
    }
}

/// What was wrong with the last call on this handle, as a sentence that says what was found, what was
/// expected and what to do; empty after a call that went well. Takes what `ouro_open` set `*handle` to,
/// also after an error. Text, capacity and len are as for `ouro_token_text`, but as much of the text
/// as there is room for is written in any case.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ouro_explain(
    handle: *const Ouro,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> Status {
    // SAFETY: as the header asks.
    let result = unsafe {
        Output::new(text, capacity, len).and_then(|mut out| {
            let error = handle::last_error(handle)?;
            let _ = write!(out, "{error}");
            out.finish(len)
        })
    };
    result.map_or_else(|error| error.status(), |()| Status::Ok)
}

/// Text on its way to the caller. Counts on when there is no more room.
struct Output<'a> {
    room: &'a mut [u8],
    len: usize,
}

impl<'a> Output<'a> {
    /// # Safety
    /// As for [`pointer::room`] and [`pointer::write`].
    unsafe fn new(text: *mut c_char, capacity: usize, len: *mut usize) -> Result<Self, Error> {
        // SAFETY: as the caller says.
        unsafe {
            pointer::write(len, 0, "len")?;
            Ok(Self { room: pointer::room(text.cast(), capacity, "text")?, len: 0 })
        }
    }

    /// Tells the length, and whether there was room for it and for the NUL, which is there already.
    ///
    /// # Safety
    /// `len` was checked.
    unsafe fn finish(self, len: *mut usize) -> Result<(), Error> {
        // SAFETY: as the caller says.
        unsafe { pointer::write(len, self.len, "len") }?;
        let needed = self.len.saturating_add(1);
        if needed > self.room.len() {
            return Err(Error::Buffer { needed, found: self.room.len() });
        }
        Ok(())
    }
}

impl fmt::Write for Output<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let end = self.len.saturating_add(character.len_utf8());
            // The last byte stays the NUL that it is, and no character is cut.
            let room = self.room.get_mut(self.len..end.saturating_add(1));
            if let Some(room) = room {
                let mut bytes = [0; 4];
                for (to, from) in room.iter_mut().zip(character.encode_utf8(&mut bytes).bytes()) {
                    *to = from;
                }
            }
            self.len = end;
        }
        Ok(())
    }
}
