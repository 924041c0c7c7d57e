//! What `ouro hash` computes, as a WebAssembly module without imports: the host puts a model and a
//! prompt into memory that it has grown, and reads the answer there. `run.mjs` is such a host.

#![no_std]

#[allow(dead_code)] // nobody counts instructions here
#[path = "../../kernels/src/cases.rs"]
mod cases;

use core::fmt::{self, Display, Write};
use core::slice;
use ouro_runtime::arena::Arena;
use ouro_runtime::fingerprint::{self, Seen};
use ouro_runtime::gguf::Gguf;
use ouro_runtime::kernels::Backend;
use ouro_runtime::model::Model;
use ouro_runtime::session::Session;
use ouro_runtime::store::SliceStore;
use sha2::{Digest, Sha256};

/// `bytes` bytes at `start`, a 16-byte boundary, for a model, a prompt, an arena or an answer.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Region {
    start: *mut u8,
    bytes: usize,
}

/// Writes a line into `answer` and gives back its length: the SHA-256 of the logits of
/// [`fingerprint::run`] and the back end's name, or `error:` and what is wrong. `scalar` is 1 for
/// the definition, 0 for the fastest back end.
///
/// # Safety
/// The regions at these addresses exist, do not overlap and are nobody else's for as long as this
/// runs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hash(
    model: &Region,
    prompt: &Region,
    arena: &Region,
    answer: &Region,
    scalar: u32,
) -> usize {
    // SAFETY: as the caller says; any bytes are numbers, and a region begins where they may.
    let (model, prompt, arena, answer) = unsafe {
        (
            slice::from_raw_parts(model.start, model.bytes),
            slice::from_raw_parts(prompt.start.cast::<u32>(), prompt.bytes / 4),
            slice::from_raw_parts_mut(arena.start, arena.bytes),
            slice::from_raw_parts_mut(answer.start, answer.bytes),
        )
    };
    let mut text = Text { bytes: answer, used: 0 };
    // If it failed, the text says why.
    let _ = hashed(model, prompt, &mut Arena::new(arena), scalar != 0, &mut text);
    text.used
}

/// Writes a line for each back end and format into `answer` and gives back the length of all: `same`,
/// or `differ` with the first case in which a bit is not that of the scalar definition.
///
/// # Safety
/// The region exists and is nobody else's for as long as this runs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kernels(answer: &Region) -> usize {
    // SAFETY: as the caller says; any bytes are numbers.
    let bytes = unsafe { slice::from_raw_parts_mut(answer.start, answer.bytes) };
    let mut text = Text { bytes, used: 0 };
    for backend in cases::backends() {
        for format in cases::formats() {
            let _ = match cases::check(backend, format) {
                None => writeln!(text, "same {backend} {format}"),
                Some(case) => writeln!(text, "differ {backend} {format}: {case:?}"),
            };
        }
    }
    text.used
}

/// The text says why.
struct Failed;

fn hashed(
    model: &[u8],
    prompt: &[u32],
    arena: &mut Arena<'_>,
    scalar: bool,
    text: &mut Text<'_>,
) -> Result<(), Failed> {
    let store = &mut SliceStore::new(model);
    let gguf = Gguf::open(store, arena).map_err(|error| text.fail(error))?;
    let model = Model::open(store, &gguf, arena).map_err(|error| text.fail(error))?;
    let logits = arena.take(model.config().vocab).map_err(|error| text.fail(error))?;
    let settings = fingerprint::settings(&model, prompt.len());
    let arena = &mut arena.scratch(); // which does not outlive the model
    let mut session = Session::new(&model, settings, arena).map_err(|error| text.fail(error))?;
    let (mut backend, refused) = Backend::choose();
    if let Some(mismatch) = refused {
        return Err(text.fail(mismatch));
    }
    if scalar {
        backend = Backend::SCALAR;
    }
    session.set_backend(backend);
    let mut digest = Sha256::new();
    let see = &mut |seen: Seen<'_>| {
        if let Seen::Logits(logits) = seen {
            logits.iter().for_each(|logit| digest.update(logit.to_le_bytes()));
        }
    };
    fingerprint::run(&mut session, store, prompt, logits, see).map_err(|error| text.fail(error))?;
    for byte in digest.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    let _ = write!(text, " {backend}");
    Ok(())
}

/// Text in memory of a fixed size.
struct Text<'a> {
    bytes: &'a mut [u8],
    used: usize,
}

impl Text<'_> {
    fn fail(&mut self, error: impl Display) -> Failed {
        let _ = write!(self, "error: {error}");
        Failed
    }
}

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            *self.bytes.get_mut(self.used).ok_or(fmt::Error)? = byte;
            self.used += 1;
        }
        Ok(())
    }
}

#[cfg(target_arch = "wasm32")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
