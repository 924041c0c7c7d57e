//! Models for tests: opened from a file, never closed.

use ouro_runtime::arena::Arena;
use ouro_runtime::depth::{ExitPolicy, LoopState, Needs, Reason};
use ouro_runtime::gguf::Gguf;
use ouro_runtime::kernels::Backend;
use ouro_runtime::model::Model;
use ouro_runtime::sample::argmax;
use ouro_runtime::session::{Feed, Session, SessionError, Settings, Step};
use ouro_runtime::store::{MemoryStore, Pin, Pinned, Span, Store};
use std::path::{Path, PathBuf};

/// A file of the golden data.
#[must_use]
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

/// Memory for an arena that lives as long as the test.
#[must_use]
pub fn arena(bytes: usize) -> Arena<'static> {
    let chunks = vec![0u128; bytes.div_ceil(size_of::<u128>())];
    Arena::new(bytemuck::cast_slice_mut(chunks.leak()))
}

/// An opened model and its store.
pub struct Loaded {
    /// The file in memory.
    pub store: MemoryStore<Vec<u8>>,
    /// Its directory.
    pub gguf: Gguf<'static>,
    /// The checked model.
    pub model: &'static Model<'static>,
}

/// Opens a model file.
#[must_use]
pub fn load(path: &Path) -> Loaded {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut store = MemoryStore::new(bytes);
    let (gguf, model) = open(&mut store);
    Loaded { store, gguf, model }
}

/// Opens a model in any store.
pub fn open<S: Store>(store: &mut S) -> (Gguf<'static>, &'static Model<'static>) {
    let bytes = Gguf::arena_bytes(store).unwrap();
    let gguf = Gguf::open(store, &mut arena(bytes)).unwrap();
    let bytes = Model::arena_bytes(store, &gguf).unwrap();
    let mut arena = arena(bytes);
    let model = Model::open(store, &gguf, &mut arena).unwrap();
    assert_eq!(arena.used(), bytes, "the arena is known to the byte");
    (gguf, Box::leak(Box::new(model)))
}

/// A store that keeps every other tile of the stack and of the head, once it was read.
///
/// # Panics
/// If that is next to nothing.
#[must_use]
pub fn pinned<S: Store>(model: &Model<'_>, store: S) -> Pinned<S, Vec<Pin>, Vec<u8>> {
    let max = store.max_tile();
    let tiles = model.stack_tiles(max).chain(model.head_tiles(max)).map(|tile| tile.span);
    let mut pins: Vec<Span> = tiles.step_by(2).collect();
    pins.sort_by_key(|pin| pin.offset);
    let room = pins.iter().map(|pin| pin.len).sum();
    assert!(room > 10_000 && pins.len() > 2, "{pins:?}");
    Pinned::new(store, pins.into_iter().map(Pin::new).collect(), vec![0; room])
}

/// A session in memory of its own that computes in f32, as the golden data were.
#[must_use]
pub fn session(model: &'static Model<'static>, settings: Settings) -> Session<'static> {
    let bytes = Session::arena_bytes(model, &settings).unwrap();
    let mut arena = arena(bytes);
    let mut session = Session::new(model, settings, &mut arena).unwrap();
    assert_eq!(arena.used(), bytes, "the arena is known to the byte");
    session.set_backend(Backend::REFERENCE);
    session
}

/// Tokens and depths of one turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Generated ids.
    pub tokens: Vec<u32>,
    /// The depth of each.
    pub depths: Vec<usize>,
    /// Why it was no deeper.
    pub reasons: Vec<&'static str>,
}

/// `count` greedy tokens after `prompt`.
pub fn greedy<S: Store>(
    session: &mut Session<'_>,
    store: &mut S,
    policy: &dyn ExitPolicy,
    prompt: &[u32],
    count: usize,
) -> Result<Turn, SessionError> {
    let mut turn = Turn::default();
    session.feed(prompt, Feed::Prompt)?;
    loop {
        let depth = session.run(store, policy)?;
        let token = argmax(session.logits());
        turn.tokens.push(token);
        turn.depths.push(depth.loops);
        turn.reasons.push(depth.reason.name());
        if turn.tokens.len() == count {
            return Ok(turn);
        }
        session.feed(&[token], Feed::Generated)?;
    }
}

/// Stops at one depth, whatever the state.
#[derive(Clone, Copy, Debug)]
pub struct StopAt(
    /// Loops.
    pub usize,
);

impl ExitPolicy for StopAt {
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    fn exit(&self, state: &LoopState<'_>) -> Option<Reason> {
        (state.loops >= self.0).then_some(Reason::Other("told to"))
    }
}

/// What every loop computes for every position of a prompt.
#[derive(Debug, Default)]
pub struct Trace {
    /// `[T, S, hidden]`.
    pub hidden: Vec<f32>,
    /// `[T, S]`; empty without a gate.
    pub gate_logits: Vec<f32>,
    /// `[T, S, vocab]`.
    pub logits: Vec<f32>,
}

/// Runs a whole prompt through all loops.
pub fn trace<S: Store>(
    session: &mut Session<'_>,
    store: &mut S,
    policy: &dyn ExitPolicy,
    prompt: &[u32],
    vocab: usize,
) -> Result<Trace, SessionError> {
    let mut trace = Trace::default();
    let mut logits = vec![0.0; vocab];
    session.feed(prompt, Feed::Prompt)?;
    loop {
        match session.step(store, policy)? {
            Step::Loop { .. } => {
                for row in 0..prompt.len() {
                    trace.hidden.extend_from_slice(session.hidden(row));
                    trace.gate_logits.extend(session.gate_logit(row));
                    session.logits_of(store, row, &mut logits)?;
                    trace.logits.extend_from_slice(&logits);
                }
            }
            Step::Done(_) => return Ok(trace),
            Step::Layer { .. } | Step::Head { .. } => {}
        }
    }
}
