//! One fixed run that shows every bit a model computes, so that two machines can be compared.
//!
//! A prompt and [`GENERATED`] greedy tokens, with shared K/V in int8 and the exit gate where there
//! is one. What is seen of it are the logits of the last position after every loop. Whoever calls
//! hashes them (SHA-256 over f32, little endian): `ouro hash` on the host, firmware on a board.

use crate::depth::{ExitPolicy, FixedDepth, QExit};
use crate::kv::{KvSettings, KvSharing, KvType};
use crate::model::Model;
use crate::sample::argmax;
use crate::session::{Depth, Feed, Session, SessionError, Settings, Step};
use crate::store::Store;

/// Tokens generated after the prompt.
pub const GENERATED: usize = 16;
/// The exit gate's quantile, where there is a gate.
const Q: f32 = 0.5;

/// What the run shows.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Seen<'l> {
    /// Logits of the last position after a loop, `[vocab]`.
    Logits(&'l [f32]),
    /// A token, and the depth of the position that chose it.
    Token(u32, Depth),
}

/// The settings of its session, for a prompt of this many tokens.
#[must_use]
pub fn settings(model: &Model<'_>, prompt: usize) -> Settings {
    let max_loops = model.config().loops;
    let context = prompt.saturating_add(GENERATED);
    let window = max_loops.saturating_sub(1);
    let kv = KvSettings { sharing: KvSharing::Last, element: KvType::Int8, window };
    Settings { context, rows: prompt.max(1), max_loops, min_loops: 1, kv }
}

/// Runs it in a session with these [`settings`] that nothing was fed to. `logits` is `[vocab]`.
///
/// # Errors
/// The session's.
pub fn run<S: Store>(
    session: &mut Session<'_>,
    store: &mut S,
    prompt: &[u32],
    logits: &mut [f32],
    see: &mut dyn FnMut(Seen<'_>),
) -> Result<(), SessionError> {
    let policy: &dyn ExitPolicy = if session.model().gate().is_some() { &QExit(Q) } else { &FixedDepth };
    session.feed(prompt, Feed::Prompt)?;
    let mut last = prompt.len().saturating_sub(1);
    for left in (0..GENERATED).rev() {
        let depth = loop {
            match session.step(store, policy)? {
                Step::Loop { .. } => {
                    session.logits_of(store, last, logits)?;
                    see(Seen::Logits(logits));
                }
                Step::Done(depth) => break depth,
                Step::Layer { .. } | Step::Head { .. } => {}
            }
        };
        let token = argmax(session.logits());
        see(Seen::Token(token, depth));
        if left > 0 {
            session.feed(&[token], Feed::Generated)?;
            last = 0;
        }
    }
    Ok(())
}
