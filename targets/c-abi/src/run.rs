//! Tokens in, tokens out, a bounded piece of work at a time.

use crate::handle::{self, Body, Ouro};
use crate::pointer;
use crate::status::{Error, Status};
use ouro_runtime::depth::Reason as RuntimeReason;
use ouro_runtime::sample::argmax;
use ouro_runtime::session::{Feed, SessionError, Step};
use ouro_runtime::store::Store;
use ouro_runtime::text::Utf8Stream;

/// What tokens are fed as: values of the argument `feed`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedChoice {
    /// A prompt, or the first part of one: all its tokens run all loops.
    Prompt = 0,
    /// One generated token, which stops where the exit policy or the budget says.
    Generated = 1,
    /// More of the prompt that was fed last: as a prompt, but the time of its answer runs on. Parts before
    /// the last need no answer: `ouro_skip_answer`.
    More = 2,
}

/// What a step did.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// A layer of a loop.
    Layer = 0,
    /// The end of a loop: its norm, and the exit policy.
    Loop = 1,
    /// The output head after a loop.
    Head = 2,
    /// Nothing is in flight any more: `ouro_answer` tells the next token.
    Done = 3,
}

/// How far the tokens in flight are.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// What the step did.
    pub kind: StepKind,
    /// In which loop, counted from 1; when done, the loop that answers.
    pub loops: u32,
    /// In which layer, counted from 1; 0 unless the step was one.
    pub layer: u32,
}

/// Why a token stopped at its depth.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The last loop was reached.
    Fixed = 0,
    /// The exit gate's accumulated probability reached the threshold.
    Gate = 1,
    /// The likeliest token was probable enough.
    Confidence = 2,
    /// The hidden state hardly moved.
    Step = 3,
    /// The budget had no more for another loop.
    Budget = 4,
    /// Earlier tokens used the budget up, so this one ran the fallback depth.
    Fallback = 5,
    /// There was no time for another loop.
    Deadline = 6,
    /// The second likeliest token was far enough behind.
    Margin = 7,
}

/// The next token, and how it came to be.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// The likeliest token; of equals, the lowest id.
    pub id: u32,
    /// The depth at which it was chosen, in loops.
    pub loops: u32,
    /// Why not deeper.
    pub reason: Reason,
    /// 1 if the token ends the answer, 0 if not.
    pub ends: u32,
}

/// What was done since the handle was opened.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// Positions in the cache: tokens of the conversation so far.
    pub position: u64,
    /// Passes through the stack.
    pub passes: u64,
    /// Loops of prompt tokens.
    pub prompt_loops: u64,
    /// Loops of generated tokens.
    pub generated_loops: u64,
    /// Multiplications with accumulation.
    pub macs: u64,
    /// Bytes read from the model, or pointed at where it is read in place.
    pub bytes: u64,
    /// Calls of the read callback.
    pub reads: u64,
}

/// Puts `count` tokens in flight, after those of the conversation so far; `feed` is an `ouro_input`.
/// Nothing is computed yet: `ouro_step` does. What was in flight before and is not done is dropped,
/// and that is how a prompt or a token is given up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ouro_feed(handle: *mut Ouro, ids: *const u32, count: usize, feed: u32) -> Status {
    const PROMPT: u32 = FeedChoice::Prompt as u32;
    const GENERATED: u32 = FeedChoice::Generated as u32;
    const MORE: u32 = FeedChoice::More as u32;
    // SAFETY: as the header asks.
    unsafe {
        handle::with(handle, |body| {
            let ids = pointer::values(ids, count, "ids")?;
            let feed = match feed {
                PROMPT => Feed::Prompt,
                GENERATED => Feed::Generated,
                MORE => Feed::More,
                _ => return Err(Error::Setting { name: "feed", expected: "an ouro_input" }),
            };
            body.session.feed(ids, feed)?;
            body.answer = None;
            body.skips = false;
            if feed == Feed::Prompt {
                body.text = Utf8Stream::new();
            }
            Ok(())
        })
    }
}

/// Says that nobody will ask for the answer to what was just fed. For all parts of a prompt but the last: the
/// output head is not computed for them then, and `ouro_answer` and `ouro_logits` give
/// OURO_STATUS_NOTHING_IN_FLIGHT after them. For a generated token, after a step, or with nothing in flight,
/// this changes nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ouro_skip_answer(handle: *mut Ouro) -> Status {
    // SAFETY: as the header asks.
    unsafe {
        handle::with(handle, |body| {
            body.skips |= body.session.skip_answer();
            Ok(())
        })
    }
}

/// Does one bounded piece of work on what is in flight, one layer of one loop at most, and returns:
/// step until `progress->kind` is OURO_WORK_DONE, and do other things between steps as you like.
///
/// After an error what was in flight is dropped, and the conversation is as it was before it was fed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ouro_step(handle: *mut Ouro, progress: *mut Progress) -> Status {
    // SAFETY: as the header asks.
    unsafe {
        handle::with(handle, |body| {
            pointer::check(progress, 1, "progress")?;
            let Body { medium, session, policy, answer, skips, .. } = body;
            let (kind, loops, layer) = match session.step(medium, policy)? {
                Step::Layer { loops, layer } => (StepKind::Layer, loops, layer),
                Step::Loop { loops } => (StepKind::Loop, loops, 0),
                Step::Head { loops } => (StepKind::Head, loops, 0),
                Step::Done(depth) => {
                    *answer = Some(depth).filter(|_| !*skips);
                    (StepKind::Done, depth.loops, 0)
                }
            };
            pointer::write(
                progress,
                Progress { kind, loops: number(loops), layer: number(layer) },
                "progress",
            )
        })
    }
}

/// Tells the next token, the likeliest one, once a step was done with what was in flight. To go on,
/// feed it as OURO_INPUT_GENERATED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ouro_answer(handle: *mut Ouro, token: *mut Token) -> Status {
    // SAFETY: as the header asks.
    unsafe {
        handle::with(handle, |body| {
            let depth = body.answer.ok_or(Error::NothingInFlight)?;
            let id = argmax(body.session.logits());
            let ends = u32::from(body.ends.contains(&Some(id)));
            let reason = reason(depth.reason)?;
            pointer::write(token, Token { id, loops: number(depth.loops), reason, ends }, "token")
        })
    }
}

/// Tells where the next token's logits are, one for each of `*count` ids, for who wants to choose it
/// otherwise than by the likeliest. They are valid until the next call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ouro_logits(
    handle: *mut Ouro,
    logits: *mut *const f32,
    count: *mut usize,
) -> Status {
    // SAFETY: as the header asks.
    unsafe {
        handle::with(handle, |body| {
            body.answer.ok_or(Error::NothingInFlight)?;
            let found = body.session.logits();
            pointer::write(count, found.len(), "count")?;
            pointer::write(logits, found.as_ptr(), "logits")
        })
    }
}

/// Forgets the conversation, so that another can begin.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ouro_clear(handle: *mut Ouro) -> Status {
    // SAFETY: as the header asks.
    unsafe {
        handle::with(handle, |body| {
            body.session.clear();
            body.answer = None;
            body.skips = false;
            body.text = Utf8Stream::new();
            Ok(())
        })
    }
}

/// Tells what was done so far.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ouro_counters(handle: *mut Ouro, counters: *mut Counters) -> Status {
    // SAFETY: as the header asks.
    unsafe {
        handle::with(handle, |body| {
            let (session, store) = (body.session.counters(), body.medium.counters());
            let found = Counters {
                position: body.session.position() as u64,
                passes: session.passes,
                prompt_loops: session.prompt_loops,
                generated_loops: session.generated_loops,
                macs: session.macs,
                bytes: store.bytes,
                reads: store.requests,
            };
            pointer::write(counters, found, "counters")
        })
    }
}

fn reason(reason: RuntimeReason) -> Result<Reason, Error> {
    Ok(match reason {
        RuntimeReason::Fixed => Reason::Fixed,
        RuntimeReason::Gate => Reason::Gate,
        RuntimeReason::Confidence => Reason::Confidence,
        RuntimeReason::Margin => Reason::Margin,
        RuntimeReason::Step => Reason::Step,
        RuntimeReason::Budget => Reason::Budget,
        RuntimeReason::Fallback => Reason::Fallback,
        RuntimeReason::Deadline => Reason::Deadline,
        // None of the policies that C can choose gives another.
        _ => return Err(SessionError::Internal.into()),
    })
}

/// Loops, layers and the like are small.
fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
