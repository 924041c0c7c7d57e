//! A session: one conversation with one model, computed step by step.
//!
//! [`Session::feed`] puts positions in flight: a prompt or one generated token. Each
//! [`Session::step`] then does one bounded piece of work (one layer of one loop for all of them)
//! and returns; after the last one the next token's logits are there. Prefill, generation and
//! cancellation are loops around steps. A session holds no store: whoever steps lends it.

#[cfg(feature = "budget")]
mod budget;
mod cost;
mod error;
mod exits;
mod identity;
#[cfg_attr(not(feature = "budget"), path = "no_ledger.rs")]
mod ledger;
mod settings;
mod state;

pub use cost::{Cost, Fetches, Rates, Work};
pub use error::SessionError;
pub use identity::Identity;
pub use settings::{MAX_LOOPS, Settings};
pub use state::{HEADER, RestoreError, Saved, StateError};

use crate::arena::{Arena, ArenaFull};
use crate::depth::{ExitPolicy, Reason};
use crate::forward::{self, Buffers};
use crate::kernels::math::sigmoid;
use crate::kernels::{Backend, Readout, Workers};
use crate::kv::{KvCache, KvShape};
use crate::model::{Model, Visit};
use crate::store::Store;
use ledger::Ledger;

/// What is put in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Feed {
    /// A prompt or its first part: all its positions run all D loops, and the policy decides
    /// which of them answers for the last position.
    Prompt,
    /// More of the prompt that was fed last: as [`Prompt`](Self::Prompt), but the time of its answer runs on
    /// (there is none without a prompt before). Parts before the last need no answer:
    /// [`Session::skip_answer`].
    More,
    /// One generated token: stops at the depth that the policy chooses, within the budget.
    Generated,
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Step {
    /// A layer of a loop, both counted from 1.
    Layer {
        /// The loop.
        loops: usize,
        /// The layer.
        layer: usize,
    },
    /// The end of a loop, counted from 1: the hidden states and the gate can be read.
    Loop {
        /// The loop.
        loops: usize,
    },
    /// Logits of the last position after this loop.
    Head {
        /// The loop.
        loops: usize,
    },
    /// Nothing is in flight any more; [`Session::logits`] holds the answer, unless it was
    /// [skipped](Session::skip_answer).
    Done(Depth),
}

/// The depth of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Depth {
    /// The loop whose logits answer.
    pub loops: usize,
    /// Why not another one.
    pub reason: Reason,
}

/// Work done since the session began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Counters {
    /// Passes through the stack, for however many positions at once.
    pub passes: u64,
    /// Loops of prompt positions.
    pub prompt_loops: u64,
    /// Loops of generated positions.
    pub generated_loops: u64,
    /// Times that the output head was computed.
    pub heads: u64,
    /// Multiplications with accumulation, in matrices and attention.
    pub macs: u64,
}

/// Where the machine stands: what the next step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Layer `layer` of loop `t`, both from 0.
    Layer {
        t: usize,
        layer: usize,
    },
    /// The norm after loop `t`, and the policy if it needs no logits.
    EndLoop {
        t: usize,
    },
    /// The logits after loop `t`, and the policy if it still is to be asked.
    Head {
        t: usize,
        ask: bool,
    },
    /// All loops are done.
    Finish {
        loops: usize,
    },
}

/// One conversation. See the [module documentation](self).
#[derive(Debug)]
pub struct Session<'a> {
    model: &'a Model<'a>,
    settings: Settings,
    kv: KvCache<'a>,
    buffers: Buffers<'a>,
    /// `[vocab]`.
    logits: &'a mut [f32],
    /// Of `logits`.
    readout: Readout,
    /// The last position's hidden state before this loop, `[hidden]`.
    previous: &'a mut [f32],
    /// Ids in flight; the first `in_flight` are valid.
    tokens: &'a mut [u32],
    in_flight: usize,
    /// Ids of the positions in the cache, `[context]`.
    ids: &'a mut [u32],
    feed: Feed,
    phase: Phase,
    /// The last position's `prod(1 - lambda)` so far.
    survival: f32,
    answer: Option<Depth>,
    /// The loop whose logits of the last position are at hand; 0 if none are.
    logits_of_loop: usize,
    ledger: Ledger<'a>,
    counters: Counters,
}

impl<'a> Session<'a> {
    /// Bytes of arena that [`new`](Self::new) takes.
    ///
    /// # Errors
    /// [`SessionError::Setting`], or [`SessionError::Arena`] if no memory could be large enough.
    pub fn arena_bytes(model: &Model<'_>, settings: &Settings) -> Result<usize, SessionError> {
        settings.check()?;
        let mut arena = Arena::measure();
        Parts::carve(&mut arena, model, settings)?;
        Ok(arena.used())
    }

    /// Of [`arena_bytes`](Self::arena_bytes), those of the KV cache.
    ///
    /// # Errors
    /// As [`arena_bytes`](Self::arena_bytes).
    pub fn kv_bytes(model: &Model<'_>, settings: &Settings) -> Result<usize, SessionError> {
        settings.check()?;
        let mut arena = Arena::measure();
        KvCache::carve(&mut arena, settings.kv, Parts::shape(model, settings))?;
        Ok(arena.used())
    }

    /// A session with nothing in its cache.
    ///
    /// # Errors
    /// [`SessionError::Setting`], or [`SessionError::Arena`] with the bytes that are missing.
    pub fn new(
        model: &'a Model<'a>,
        settings: Settings,
        arena: &mut Arena<'a>,
    ) -> Result<Self, SessionError> {
        settings.check()?;
        let Parts { kv, mut buffers, logits, previous, tokens, ids } = Parts::carve(arena, model, &settings)?;
        buffers.set_frequencies(model.config());
        Ok(Self {
            model,
            settings,
            kv,
            buffers,
            logits,
            readout: Readout::default(),
            previous,
            tokens,
            ids,
            in_flight: 0,
            feed: Feed::Prompt,
            phase: Phase::Idle,
            survival: 1.0,
            answer: None,
            logits_of_loop: 0,
            ledger: Ledger::new(),
            counters: Counters::default(),
        })
    }

    /// Chooses the arithmetic of matrix products; without this call, the fastest that the CPU can
    /// run. All but the reference give the same bits.
    pub fn set_backend(&mut self, backend: Backend) {
        self.buffers.kernels.backend = backend;
    }

    /// The arithmetic of matrix products.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.buffers.kernels.backend
    }

    /// Lends more threads than the calling one. No result depends on it.
    pub fn set_workers(&mut self, workers: &'a dyn Workers) {
        self.buffers.kernels.workers = workers;
    }

    /// Puts `tokens` in flight after the positions in the cache. What was in flight before and is
    /// not done is dropped.
    ///
    /// # Errors
    /// Nothing is in flight then: [`SessionError::Prompt`], [`SessionError::Context`],
    /// [`SessionError::Token`], [`SessionError::Generated`].
    pub fn feed(&mut self, tokens: &[u32], feed: Feed) -> Result<(), SessionError> {
        self.phase = Phase::Idle;
        let vocab = self.model.config().vocab;
        if let Some(&token) = tokens.iter().find(|token| **token as usize >= vocab) {
            return Err(SessionError::Token { token, vocab });
        }
        if feed == Feed::Generated && tokens.len() > 1 {
            return Err(SessionError::Generated { found: tokens.len() });
        }
        let context = self.settings.context;
        if tokens.len() > context - self.kv.len() {
            return Err(SessionError::Context { wanted: self.kv.len() + tokens.len(), context });
        }
        let rows = self.settings.rows;
        let Some(in_flight) = self.tokens.get_mut(..tokens.len()).filter(|_| !tokens.is_empty()) else {
            return Err(SessionError::Prompt { found: tokens.len(), rows });
        };
        for (to, from) in in_flight.iter_mut().zip(tokens) {
            *to = *from;
        }
        self.in_flight = tokens.len();
        self.feed = feed;
        self.phase = Phase::Layer { t: 0, layer: 0 };
        self.survival = 1.0;
        self.answer = None;
        self.logits_of_loop = 0;
        self.kv.begin(tokens.len());
        self.ledger.begin(feed);
        Ok(())
    }

    /// For all parts of a prompt but the last, once they are fed: nobody asks for their answer. Neither the
    /// output head is computed then nor a policy asked, [`Step::Done`] names the last loop, and
    /// [`logits`](Self::logits) and [`readout`](Self::readout) stay as they are. The cache is the same. For a
    /// generated token, after a step, or with nothing in flight, this changes nothing. Whether it did.
    pub fn skip_answer(&mut self) -> bool {
        let skips = self.feed != Feed::Generated && self.phase == (Phase::Layer { t: 0, layer: 0 });
        if skips {
            self.answer = Some(Depth { loops: self.settings.max_loops, reason: Reason::Fixed });
        }
        skips
    }

    /// One bounded piece of work on what is in flight.
    ///
    /// # Errors
    /// What was in flight is dropped then; the cache is as it was before it was fed.
    pub fn step<S: Store>(&mut self, store: &mut S, policy: &dyn ExitPolicy) -> Result<Step, SessionError> {
        if let Phase::Layer { t, layer } = self.phase {
            self.meet_deadline(t, layer)?;
        }
        let phase = core::mem::replace(&mut self.phase, Phase::Idle);
        let before = self.ledger.read(store.counters().bytes);
        let step = match phase {
            Phase::Idle => Err(SessionError::NothingInFlight),
            Phase::Layer { t, layer } => self.layer(store, policy, t, layer),
            Phase::EndLoop { t } => Ok(self.end_loop(policy, t)),
            Phase::Head { t, .. } => self.head(store, t),
            Phase::Finish { loops } => self.finish(loops),
        };
        self.ledger.pay(before, store.counters().bytes, matches!(phase, Phase::Head { .. }));
        // What the head took must be paid before its answer is weighed.
        if let (Phase::Head { t, ask }, Ok(_)) = (phase, step) {
            self.after_head(policy, t + 1, ask);
        }
        step
    }

    /// Steps until nothing is in flight.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn run<S: Store>(&mut self, store: &mut S, policy: &dyn ExitPolicy) -> Result<Depth, SessionError> {
        loop {
            if let Step::Done(depth) = self.step(store, policy)? {
                return Ok(depth);
            }
        }
    }

    fn layer<S: Store>(
        &mut self,
        store: &mut S,
        policy: &dyn ExitPolicy,
        t: usize,
        layer: usize,
    ) -> Result<Step, SessionError> {
        let head_follows = self.head_follows(policy, t);
        if layer == 0 {
            self.ledger.begin_loop();
        }
        let Self { model, kv, buffers, .. } = self;
        if (t, layer) == (0, 0) {
            if policy.needs().gate && model.gate().is_none() {
                return Err(SessionError::NoGate);
            }
            let tokens = self.tokens.get(..self.in_flight).unwrap_or_default();
            forward::embed(model, store, buffers, tokens, kv.len())?;
        }
        if layer == 0 {
            let last = buffers.hidden(self.in_flight - 1, model.config());
            for (previous, h) in self.previous.iter_mut().zip(last) {
                *previous = *h;
            }
        }
        forward::layer(model, store, kv, buffers, (t, Visit { layer, head_follows }), self.in_flight)?;
        self.counters.macs += cost::layer_macs(model.config(), kv.len(), self.in_flight);
        let next = layer + 1;
        let more = next < model.config().layers;
        self.phase = if more { Phase::Layer { t, layer: next } } else { Phase::EndLoop { t } };
        Ok(Step::Layer { loops: t + 1, layer: next })
    }

    fn end_loop(&mut self, policy: &dyn ExitPolicy, t: usize) -> Step {
        forward::end_loop(self.model, &mut self.buffers, self.in_flight);
        self.counters.passes += 1;
        let loops = t + 1;
        let counter = match self.feed {
            Feed::Prompt | Feed::More => &mut self.counters.prompt_loops,
            Feed::Generated => &mut self.counters.generated_loops,
        };
        *counter += self.in_flight as u64;
        if let Some(logit) = self.gate_logit(self.in_flight - 1) {
            self.survival *= 1.0 - sigmoid(logit);
        }
        self.ledger.end_loop();
        self.after_loop(policy, t);
        Step::Loop { loops }
    }

    fn head<S: Store>(&mut self, store: &mut S, t: usize) -> Result<Step, SessionError> {
        let loops = t + 1;
        self.readout =
            forward::logits(self.model, store, &mut self.buffers, self.in_flight - 1, self.logits)?;
        self.counters.heads += 1;
        self.counters.macs += cost::head_macs(self.model.config());
        self.logits_of_loop = loops;
        Ok(Step::Head { loops })
    }

    fn finish(&mut self, loops: usize) -> Result<Step, SessionError> {
        let depth = self.answer.take().ok_or(SessionError::Internal)?;
        // Of a prompt, loops after the one that answers are in the cache too; its last position has
        // read all of them.
        let last = self.hidden(self.in_flight - 1);
        let is_finite = self.logits_of_loop == 0 || self.readout.is_finite();
        if !is_finite || !last.iter().all(|h| h.is_finite()) {
            return Err(SessionError::NotANumber);
        }
        self.keep_ids(self.kv.len());
        self.in_flight = 0;
        self.kv.finish(loops);
        Ok(Step::Done(depth))
    }

    /// The next token's logits, `[vocab]`, once [`Step::Done`] was returned. A sampler may change
    /// them.
    pub fn logits(&mut self) -> &mut [f32] {
        self.logits
    }

    /// What is known of the [`logits`](Self::logits) without reading them: the likeliest token, for
    /// one.
    #[must_use]
    pub fn readout(&self) -> Readout {
        self.readout
    }

    /// The hidden state, `[hidden]`, of one of the positions in flight; after [`Step::Loop`] that
    /// loop's.
    #[must_use]
    pub fn hidden(&self, row: usize) -> &[f32] {
        self.buffers.hidden(row, self.model.config())
    }

    /// The gate before its sigmoid for one of the positions in flight, after [`Step::Loop`];
    /// `None` on a model without a gate.
    #[must_use]
    pub fn gate_logit(&self, row: usize) -> Option<f32> {
        forward::gate_logit(self.model, self.hidden(row))
    }

    /// Logits of any of the positions in flight, after [`Step::Loop`], into `out` (`[vocab]`).
    ///
    /// # Errors
    /// The store's.
    pub fn logits_of<S: Store>(
        &mut self,
        store: &mut S,
        row: usize,
        out: &mut [f32],
    ) -> Result<(), SessionError> {
        self.counters.heads += 1;
        self.counters.macs += cost::head_macs(self.model.config());
        forward::logits(self.model, store, &mut self.buffers, row, out)?;
        Ok(())
    }

    /// Positions in the cache.
    #[must_use]
    pub fn position(&self) -> usize {
        self.kv.len()
    }

    /// The model that the session runs.
    #[must_use]
    pub fn model(&self) -> &'a Model<'a> {
        self.model
    }

    /// What the session was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Work done so far, that on tokens which failed halfway included.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Forgets the conversation.
    pub fn clear(&mut self) {
        self.kv.clear();
        self.phase = Phase::Idle;
        self.in_flight = 0;
    }
}

/// What a session keeps in the arena.
struct Parts<'a> {
    kv: KvCache<'a>,
    buffers: Buffers<'a>,
    logits: &'a mut [f32],
    previous: &'a mut [f32],
    tokens: &'a mut [u32],
    ids: &'a mut [u32],
}

impl<'a> Parts<'a> {
    fn shape(model: &Model<'_>, settings: &Settings) -> KvShape {
        let config = model.config();
        KvShape {
            layers: config.layers,
            loops: settings.max_loops,
            positions: settings.context,
            rows: settings.rows,
            heads: config.kv_heads,
            head_dim: config.head_dim,
        }
    }

    fn carve(arena: &mut Arena<'a>, model: &Model<'_>, settings: &Settings) -> Result<Self, ArenaFull> {
        let config = model.config();
        let &Settings { context, rows, .. } = settings;
        Ok(Self {
            kv: KvCache::carve(arena, settings.kv, Self::shape(model, settings))?,
            buffers: Buffers::carve(arena, config, rows)?,
            logits: arena.take(config.vocab)?,
            previous: arena.take(config.hidden)?,
            tokens: arena.take(rows)?,
            ids: arena.take(context)?,
        })
    }
}
