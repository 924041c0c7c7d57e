//! One prompt, its answer, and the fingerprint of the arithmetic, each step of it counted.

use crate::Board;
use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::heap;
use crate::open::{Opened, open, prompt_ids};
use crate::stack;
use alloc::vec::Vec;
use heapless::String;
use ouro_runtime::arena::Arena;
use ouro_runtime::depth::{ExitPolicy, FixedDepth};
use ouro_runtime::fingerprint::{self, Seen};
use ouro_runtime::kernels::{Backend, Mismatch};
use ouro_runtime::model::{Config, Model};
use ouro_runtime::sample::argmax;
use ouro_runtime::session::{Counters, Depth, Feed, Session, Settings, Step};
use ouro_runtime::store::{Store, StoreCounters};
use ouro_runtime::text::{Tokenizer, Utf8Stream};
use sha2::{Digest, Sha256};

/// The most bytes of an answer's text.
const TEXT: usize = 512;

/// An answer, and what it took.
#[derive(Default)]
pub(crate) struct Answer {
    pub(crate) text: String<TEXT>,
    /// As many as there may be were reserved at set-up.
    pub(crate) tokens: Vec<(u32, Depth)>,
    /// Up to the first token.
    pub(crate) prefill: Work,
    /// From there on.
    pub(crate) decode: Work,
    /// The most instructions of one generated token.
    pub(crate) worst_token: u64,
    pub(crate) fetched: StoreCounters,
}

/// Work done in a part of a run.
#[derive(Clone, Copy, Default)]
pub(crate) struct Work {
    pub(crate) instructions: u64,
    /// Products of a weight with an activation.
    pub(crate) products: u64,
}

/// RAM that the run was given.
#[derive(Clone, Copy)]
pub(crate) struct Ram {
    /// Directory, model and tokenizer.
    pub(crate) model: usize,
    /// The session with its KV cache.
    pub(crate) session: usize,
    /// The KV cache alone.
    pub(crate) kv: usize,
}

/// Everything that the report says.
pub(crate) struct Finished {
    pub(crate) answer: Answer,
    pub(crate) prompt: &'static [u32],
    pub(crate) backend: &'static str,
    /// A kernel that computes wrong on this core, and so is not used.
    pub(crate) refused: Option<Mismatch>,
    pub(crate) sha256: [u8; 32],
    pub(crate) ram: Ram,
}

/// Sets everything up, closes the heap, answers, and computes the fingerprint.
pub(crate) fn run<S: Store>(
    board: &mut dyn Board,
    store: &mut S,
    arguments: &Arguments,
) -> Result<Finished, Failure> {
    let Opened { model, tokenizer, arena_bytes } = open(store)?;
    let prompt = prompt_ids(&tokenizer, &arguments.prompt)?;
    let max_new = arguments.max_new.max(1);
    let mut settings = Settings::new(&model, prompt.len() + max_new, prompt.len());
    settings.kv.sharing = arguments.kv.unwrap_or(settings.kv.sharing);
    settings.kv.element = arguments.kv_type.unwrap_or(settings.kv.element);
    let answer_bytes = Session::arena_bytes(&model, &settings)?;
    let fingerprint_settings = fingerprint::settings(&model, prompt.len());
    let fingerprint_bytes = Session::arena_bytes(&model, &fingerprint_settings)?;
    // One after the other, in the same memory.
    let memory = heap::take(answer_bytes.max(fingerprint_bytes))?;
    let logits =
        Arena::new(heap::take(model.config().vocab * size_of::<f32>())?).take(model.config().vocab)?;
    let tokens = heap::reserve(max_new)?;
    heap::close();
    if arguments.late {
        let _ = heap::take(1);
    }

    let lent = answer_bytes.saturating_sub(arguments.short);
    let mut session =
        Session::new(&model, settings, &mut Arena::new(memory.get_mut(..lent).unwrap_or_default()))?;
    let backend = session.backend().name();
    let refused = Backend::refused();
    if let Some(mismatch) = refused {
        defmt::warn!("{}", mismatch);
    }
    let file_policy = model.exit_default().copied();
    let policy: &dyn ExitPolicy = match arguments.policy.as_ref().or(file_policy.as_ref()) {
        Some(policy) => policy,
        None => &FixedDepth,
    };
    let mut answer = Answer { tokens, ..Answer::default() };
    converse(board, store, &mut session, &tokenizer, policy, prompt, &mut answer)?;
    defmt::info!("answer of {} tokens: {}", answer.tokens.len(), answer.text.as_str());

    let mut session = Session::new(&model, fingerprint_settings, &mut Arena::new(memory))?;
    let mut digest = Sha256::new();
    fingerprint::run(&mut session, store, prompt, logits, &mut |seen| match seen {
        Seen::Logits(logits) => logits.iter().for_each(|logit| digest.update(logit.to_le_bytes())),
        Seen::Token(id, depth) => defmt::debug!("fingerprint: token {} after {} loops", id, depth.loops),
    })?;
    let ram = Ram { model: arena_bytes, session: answer_bytes, kv: Session::kv_bytes(&model, &settings)? };
    Ok(Finished { answer, prompt, backend, refused, sha256: digest.finalize().into(), ram })
}

fn converse<S: Store>(
    board: &mut dyn Board,
    store: &mut S,
    session: &mut Session<'_>,
    tokenizer: &Tokenizer<'_>,
    policy: &dyn ExitPolicy,
    prompt: &[u32],
    answer: &mut Answer,
) -> Result<(), Failure> {
    let ends = ["<|im_end|>", "<|endoftext|>"].map(|text| tokenizer.special(text));
    let ends = |id| tokenizer.eos() == Some(id) || ends.contains(&Some(id));
    let mut stream = Utf8Stream::new();
    let fetched_before = store.counters();
    session.feed(prompt, Feed::Prompt)?;
    loop {
        let (depth, instructions) = next_token(board, store, session, policy)?;
        stack::check()?;
        let products = products(session.model(), session.counters());
        if answer.tokens.is_empty() {
            answer.prefill = Work { instructions, products };
        } else {
            answer.decode.instructions += instructions;
            answer.decode.products = products - answer.prefill.products;
            answer.worst_token = answer.worst_token.max(instructions);
        }
        let id = argmax(session.logits());
        defmt::debug!("token {} after {} loops: {}", id, depth.loops, depth.reason);
        answer.tokens.push((id, depth));
        if ends(id) {
            break;
        }
        if id < tokenizer.vocab_len() {
            // Text beyond the room is left out; the tokens are all there.
            let _ = stream.push(tokenizer.token_bytes(store, id)?, &mut answer.text);
        }
        if answer.tokens.len() == answer.tokens.capacity() {
            break;
        }
        session.feed(&[id], Feed::Generated)?;
    }
    let _ = stream.finish(&mut answer.text);
    let after = store.counters();
    answer.fetched = StoreCounters {
        tiles: after.tiles - fetched_before.tiles,
        bytes: after.bytes - fetched_before.bytes,
        ..after
    };
    Ok(())
}

/// Steps until the logits are there; also gives the instructions that it took.
fn next_token<S: Store>(
    board: &mut dyn Board,
    store: &mut S,
    session: &mut Session<'_>,
    policy: &dyn ExitPolicy,
) -> Result<(Depth, u64), Failure> {
    let before = board.instructions();
    loop {
        let step = session.step(store, policy)?;
        let now = board.instructions();
        if let Step::Done(depth) = step {
            return Ok((depth, now - before));
        }
    }
}

/// Products that the counted work takes, attention left out.
fn products(model: &Model<'_>, counters: Counters) -> u64 {
    let Config { layers, hidden, ffn, vocab, .. } = *model.config();
    let (q, kv) = (model.config().q_width(), model.config().kv_width());
    let stack = layers * hidden * (2 * q + 2 * kv + 3 * ffn);
    (counters.prompt_loops + counters.generated_loops) * stack as u64
        + counters.heads * (hidden * vocab) as u64
}
