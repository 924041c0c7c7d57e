//! The memory of a handle: measured beforehand, then carved.
//!
//! ```text
//! | Place | block buffer, checksums, model, tokenizer | ...            | directory of the file |  while opening
//! | Place | block buffer, checksums, model, tokenizer | session, words                         |  afterwards
//! ```

use crate::handle::{self, Body, Ouro, Place};
use crate::pointer;
use crate::settings::{CallerClock, Settings, VerifyChoice};
use crate::source::{CheckedMedium, Medium, Source};
use crate::status::{Error, Status};
use core::ffi::c_void;
use core::ptr;
use core::slice;
use ouro_runtime::arena::{ALIGN, Arena};
use ouro_runtime::gguf::{Array, Gguf};
use ouro_runtime::model::{Model, check_metadata, checksums};
use ouro_runtime::session::Session;
use ouro_runtime::store::{Checked, MIN_TILE, Store, Sums};
use ouro_runtime::text::{Symbol, TableError, TextError, Tokenizer, Utf8Stream};

/// Memory lent to this library must begin at a multiple of this many bytes.
pub const OURO_ALIGN: usize = 16;
const _: () = assert!(OURO_ALIGN == ALIGN && size_of::<Place>().is_multiple_of(ALIGN));

/// What a handle takes, in bytes of RAM, and what the model is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// All of it: the least that `ouro_open` works with.
    pub total: usize,
    /// What `ouro_plan` itself needs to find out: never more than `total`, and free again when it
    /// returns. If it was lent less, this is the only field with a meaning.
    pub scratch: usize,
    /// Of the total: the handle itself.
    pub handle: usize,
    /// Of the total: the buffer that the model's bytes pass through; 0 for a model read in place.
    pub block_buffer: usize,
    /// Of the total: the checksums of the weights, if they are to be compared.
    pub checksums: usize,
    /// Of the total: norms, exit gate and the table of matrices.
    pub model: usize,
    /// Of the total: the tokenizer's index; 0 if the file's tokenizer is not known here.
    pub tokenizer: usize,
    /// Of the total: K and V of older positions.
    pub kv: usize,
    /// Of the total: activations, logits, and the scratch for long words.
    pub activations: usize,
    /// Of the total: what is needed only while opening, beyond what is in use by then.
    pub opening: usize,
    /// Transformer layers of the stack.
    pub layers: u32,
    /// Loops that the model was trained with.
    pub loops: u32,
    /// Token ids are below this.
    pub vocab: u32,
    /// The most positions that the model was trained with.
    pub trained_context: u32,
}

/// Tells how much memory `ouro_open` will need for this model and these settings.
///
/// `memory` (aligned to OURO_ALIGN) is scratch for the time of the call: the memory meant for
/// `ouro_open` is always large enough. Where that is not known yet, begin with NULL and 0: as long as
/// the answer is OURO_STATUS_MEMORY, call again with `plan->scratch` bytes, twice at most.
///
/// Firmware can call this once on the workstation, and set aside `total` bytes; sizes differ between
/// machines of 32 and of 64 bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ouro_plan(
    source: *const Source,
    settings: *const Settings,
    memory: *mut c_void,
    size: usize,
    plan: *mut Plan,
) -> Status {
    let mut found = Plan::default();
    // SAFETY: as the header asks.
    let result = unsafe {
        pointer::write(plan, found, "plan").and_then(|()| {
            let (source, settings) = (pointer::read(source, "source")?, pointer::read(settings, "settings")?);
            if size > 0 {
                pointer::check(memory.cast::<Place>(), 0, "memory")?;
            }
            refuse_overlap(&source, memory, size)?;
            measure(source, &settings, pointer::room(memory.cast(), size, "memory")?, &mut found)
        })
    };
    // SAFETY: as the header asks; a pointer that is no good was the error already.
    let _ = unsafe { pointer::write(plan, found, "plan") };
    result.map_or_else(|error| error.status(), |()| Status::Ok)
}

/// Opens a model in `memory`, which begins at a multiple of OURO_ALIGN and has at least
/// `ouro_plan_t.total` bytes; all of it is the handle's until it is used for something else. There is
/// nothing to close.
///
/// `*handle` is set to the handle, which is `memory` itself. After an error only `ouro_explain` takes
/// it; it is NULL if the memory can't even hold the error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ouro_open(
    source: *const Source,
    settings: *const Settings,
    memory: *mut c_void,
    size: usize,
    handle: *mut *mut Ouro,
) -> Status {
    // SAFETY: as the header asks.
    let begun = unsafe {
        pointer::write(handle, ptr::null_mut(), "handle").and_then(|()| {
            let place = begin(memory, size, source)?;
            pointer::write(handle, place.cast(), "handle")?;
            Ok(place)
        })
    };
    let place = match begun {
        Ok(place) => place,
        Err(error) => return error.status(),
    };
    // SAFETY: as the header asks; `begin` saw that the memory is a place with at least this size.
    unsafe {
        let arguments = || {
            let source: Source = pointer::read(source, "source")?;
            Ok((source, pointer::read(settings, "settings")?))
        };
        let body = arguments().and_then(|(source, settings)| carve(source, &settings, place, size));
        handle::end(place, body)
    }
}

fn refuse_overlap(source: &Source, memory: *const c_void, size: usize) -> Result<(), Error> {
    if source.overlaps(memory.cast(), size) {
        return Err(Error::Argument { name: "source.bytes and memory", status: Status::Overlap });
    }
    Ok(())
}

/// The beginning of the memory, once it is known to be large enough for that, and to have nothing of
/// the model in it.
///
/// # Safety
/// As the header asks of `memory`, `size` and `source`.
unsafe fn begin(memory: *mut c_void, size: usize, source: *const Source) -> Result<*mut Place, Error> {
    let place: *mut Place = memory.cast();
    pointer::check(place, 1, "memory")?;
    pointer::check(memory.cast::<u8>(), size, "memory")?;
    if size < size_of::<Place>() {
        return Err(Error::Memory { needed: size_of::<Place>(), found: size });
    }
    // SAFETY: as the caller says. What is wrong with the source is told once there is a handle.
    if let Ok(source) = unsafe { pointer::read(source, "source") } {
        refuse_overlap(&source, memory, size)?;
    }
    // SAFETY: aligned, and large enough.
    unsafe { handle::begin(place) };
    Ok(place)
}

/// The memory behind the [`Place`], from `used` bytes on.
///
/// # Safety
/// `place` begins memory of `size` bytes, and nobody else uses this part of it.
unsafe fn behind(place: *mut Place, size: usize, used: usize) -> &'static mut [u8] {
    let start = size_of::<Place>().saturating_add(used).min(size);
    // SAFETY: inside the memory; the rest as the caller says. It is initialised first.
    unsafe {
        let from = place.cast::<u8>().add(start);
        from.write_bytes(0, size - start);
        slice::from_raw_parts_mut(from, size - start)
    }
}

/// Opens everything.
///
/// # Safety
/// As the header asks of `source` and `settings`; `place` begins memory of `size` bytes.
unsafe fn carve(source: Source, settings: &Settings, place: *mut Place, size: usize) -> Result<Body, Error> {
    // SAFETY: as the caller says, here and below.
    let memory = unsafe { behind(place, size, 0) };
    let found = memory.len();
    let usable = found - found % ALIGN;
    // SAFETY: as above.
    let directory = unsafe { directory_bytes(source) }?;
    let short = Error::Memory { needed: size_of::<Place>().saturating_add(directory), found: size };
    let front = usable.checked_sub(directory).ok_or(short)?;
    let (front, tail) = memory.split_at_mut_checked(front).ok_or(short)?;

    let mut arena = Arena::new(front);
    let buffer = arena.take(source.buffer_bytes(settings)?)?;
    // SAFETY: as above.
    let mut medium: Medium<'static> = unsafe { source.open(buffer) }?;
    let gguf = Gguf::open(&mut medium, &mut Arena::new(tail))?;
    let mut medium = checked(medium, settings.verify()?, &gguf, &mut arena)?;
    let model = Model::open(&mut medium, &gguf, &mut arena)?;
    let tokenizer = known(Tokenizer::open(&mut medium, &gguf, &mut arena))?;
    let tokenizer = tokenizer.and_then(|tokenizer| within_vocabulary(tokenizer, &model));
    let used = arena.used();

    // SAFETY: the place is ours, and neither part of it has been used before.
    let (model, clock) = unsafe {
        let model_place = &raw mut (*place).model;
        let clock_place = &raw mut (*place).clock;
        model_place.write(core::mem::MaybeUninit::new(model));
        let clock = CallerClock::of(settings);
        let has_clock = clock.is_some();
        if let Some(clock) = clock {
            clock_place.write(core::mem::MaybeUninit::new(clock));
        }
        ((*model_place).assume_init_ref(), has_clock.then(|| (*clock_place).assume_init_ref()))
    };
    // The directory has done its work: what it took is the session's.
    // SAFETY: nothing refers to the memory beyond what the arena gave away.
    let rest = unsafe { behind(place, size, used) };
    let mut arena = Arena::new(rest);
    let mut session = Session::new(model, settings.session(model)?, &mut arena)?;
    if let Some(clock) = clock {
        session.set_clock(clock);
    }
    let symbols = arena.take(settings.word_symbols())?;
    let policy = settings.policy(model)?;
    let ends = ends(tokenizer.as_ref().ok());
    let text = Utf8Stream::new();
    Ok(Body { medium, tokenizer, session, policy, ends, symbols, text, answer: None, skips: false })
}

/// What [`carve`] takes.
///
/// # Safety
/// As the header asks of `source` and `settings`.
unsafe fn measure(
    source: Source,
    settings: &Settings,
    memory: &mut [u8],
    plan: &mut Plan,
) -> Result<(), Error> {
    let found = memory.len();
    let mut arena = Arena::new(memory);
    let mut need = |scratch: usize| {
        plan.scratch = scratch;
        if scratch > found { Err(Error::Memory { needed: scratch, found }) } else { Ok(()) }
    };
    // SAFETY: as the caller says, here and below.
    let directory = unsafe { directory_bytes(source) }?;
    let buffer = source.buffer_bytes(settings)?;
    let block_buffer = padded(buffer);
    need(block_buffer.saturating_add(directory))?;
    let buffer = arena.take(buffer)?;
    // SAFETY: as above.
    let mut medium = unsafe { source.open(buffer) }?;
    let gguf = Gguf::open(&mut medium, &mut arena)?;
    let sums = weights_sums(&mut medium, settings.verify()?, &gguf)?.map_or(0, |array| number_of(&array));
    let checksums = padded(sums.saturating_mul(size_of::<u32>())).saturating_add(padded(sums.div_ceil(8)));
    let model_bytes = Model::arena_bytes(&mut medium, &gguf)?;
    need(block_buffer.saturating_add(directory).saturating_add(model_bytes))?;
    let model = Model::open(&mut medium, &gguf, &mut arena)?;
    let tokenizer = known(Tokenizer::arena_bytes(&mut medium, &gguf))?.unwrap_or(0);
    let tokenizer_kept = known(Tokenizer::kept_bytes(&mut medium, &gguf))?.unwrap_or(0);

    let session_settings = settings.session(&model)?;
    settings.policy(&model)?;
    let session = Session::arena_bytes(&model, &session_settings)?;
    let kv = Session::kv_bytes(&model, &session_settings)?;
    let words = padded(settings.word_symbols().saturating_mul(size_of::<Symbol>()));
    let before_model = size_of::<Place>().saturating_add(block_buffer).saturating_add(checksums);
    let kept = before_model.saturating_add(model_bytes);
    let opening = kept.saturating_add(tokenizer).saturating_add(directory);
    let open = kept.saturating_add(tokenizer_kept).saturating_add(session).saturating_add(words);
    let config = model.config();
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    *plan = Plan {
        total: opening.max(open),
        scratch: plan.scratch,
        handle: size_of::<Place>(),
        block_buffer,
        checksums,
        model: model_bytes,
        tokenizer: tokenizer_kept,
        kv,
        activations: session.saturating_sub(kv).saturating_add(words),
        opening: opening.saturating_sub(open),
        layers: number(config.layers),
        loops: number(config.loops),
        vocab: number(config.vocab),
        trained_context: number(config.context),
    };
    Ok(())
}

/// The medium with what it is to be compared by, metadata having been compared.
fn checked(
    mut medium: Medium<'static>,
    verify: VerifyChoice,
    gguf: &Gguf<'_>,
    arena: &mut Arena<'static>,
) -> Result<CheckedMedium, Error> {
    if verify != VerifyChoice::Never {
        check_metadata(&mut medium, gguf)?;
    }
    let array = weights_sums(&mut medium, verify, gguf)?;
    let sums: &'static mut [u32] = arena.take(array.as_ref().map_or(0, number_of))?;
    let verified = arena.take(sums.len().div_ceil(8))?;
    if let Some(array) = array {
        array.read_u32(&mut medium, sums)?;
    }
    Ok(Checked::new(medium, Sums { offset: gguf.data_offset(), sums: &*sums }, verified))
}

/// The checksums of the weights, if they are to be compared and there are any.
fn weights_sums<S: Store>(
    store: &mut S,
    verify: VerifyChoice,
    gguf: &Gguf<'_>,
) -> Result<Option<Array>, Error> {
    match verify {
        VerifyChoice::Weights => Ok(checksums(store, gguf)?),
        VerifyChoice::Metadata | VerifyChoice::Never => Ok(None),
    }
}

fn number_of(sums: &Array) -> usize {
    usize::try_from(sums.count).unwrap_or(usize::MAX)
}

fn padded(bytes: usize) -> usize {
    bytes.checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX)
}

/// Bytes of the file's directory, counted with a buffer on the stack: there is no other memory yet.
///
/// # Safety
/// As the header asks of `source`.
unsafe fn directory_bytes(source: Source) -> Result<usize, Error> {
    let mut buffer = [0; MIN_TILE];
    // SAFETY: as the caller says.
    let mut medium = unsafe { source.open(&mut buffer) }?;
    Ok(Gguf::arena_bytes(&mut medium)?)
}

/// A tokenizer of an unknown or broken kind is no obstacle to who has ids; anything else is.
fn known<T>(result: Result<T, TextError>) -> Result<Result<T, TextError>, Error> {
    match result {
        Err(error) if !matches!(error, TextError::Table(_)) => Err(error.into()),
        result => Ok(result),
    }
}

/// Every token needs its row of the embedding.
fn within_vocabulary<'a>(tokenizer: Tokenizer<'a>, model: &Model<'_>) -> Result<Tokenizer<'a>, TextError> {
    let (tokens, vocab_size) = (tokenizer.vocab_len().into(), model.config().vocab as u64);
    if tokens > vocab_size {
        Err(TableError::Vocabulary { tokens, vocab_size }.into())
    } else {
        Ok(tokenizer)
    }
}

/// The tokens that end an answer: the file's own, and those of ChatML.
fn ends(tokenizer: Option<&Tokenizer<'_>>) -> [Option<u32>; 3] {
    let special = |text| tokenizer.and_then(|tokenizer| tokenizer.special(text));
    [tokenizer.and_then(Tokenizer::eos), special("<|im_end|>"), special("<|endoftext|>")]
}
