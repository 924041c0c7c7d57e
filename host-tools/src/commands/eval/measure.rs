//! Asks all questions, on all cores.

use super::Setting;
use super::questions::Question;
use crate::args::{DepthArgs, KvArgs};
use crate::commands::run::end_tokens;
use crate::error::Error;
use crate::generate::{Generator, Stop, StopAt};
use crate::open::{Memory, Opened, session};
use crate::store::HostStore;
use indicatif::ProgressBar;
use ouro_runtime::kernels::Backend;
use ouro_runtime::sample::{Sampler, Sampling};
use ouro_runtime::text::Tokenizer;
use rayon::prelude::*;
use std::path::Path;
use std::time::Duration;

/// What became of one question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// The answer was the right one, character by character.
    pub(super) exact: bool,
    /// Generated tokens, with the one that ended the answer.
    pub(super) tokens: usize,
    /// Loops of all of them.
    pub(super) loops: usize,
    /// From the first token to the last.
    pub(super) decode: Duration,
}

/// Asks the questions of one file.
pub(super) struct Examiner<'e, 'm> {
    pub(super) path: &'e Path,
    pub(super) opened: &'e Opened<'m>,
    pub(super) store: &'e HostStore,
    pub(super) backend: Backend,
    pub(super) tokenizer: &'e Tokenizer<'m>,
    pub(super) kv: &'e KvArgs,
    pub(super) max_new: usize,
    pub(super) questions: &'e [Question],
}

impl Examiner<'_, '_> {
    /// One outcome per question, in their order, however many threads there are.
    ///
    /// # Errors
    /// [`Error`].
    pub(super) fn ask(&self, setting: Setting, bar: &ProgressBar) -> Result<Vec<Outcome>, Error> {
        // Enough pieces for all cores to end together; each has a session of its own.
        let pieces = rayon::current_num_threads() * 8;
        let some = self.questions.len().div_ceil(pieces).max(1);
        let outcomes =
            self.questions.par_chunks(some).map(|questions| self.ask_some(setting, questions, bar));
        let outcomes: Vec<Vec<Outcome>> = outcomes.collect::<Result<_, _>>()?;
        Ok(outcomes.concat())
    }

    fn ask_some(
        &self,
        setting: Setting,
        questions: &[Question],
        bar: &ProgressBar,
    ) -> Result<Vec<Outcome>, Error> {
        let config = self.opened.model.config();
        let rows = questions.iter().map(|question| question.prompt.len()).max().unwrap_or(1);
        let context = self.kv.ctx.unwrap_or_else(|| (rows + self.max_new).min(config.context));
        let depth = DepthArgs { loops: Some(setting.loops), min_loops: 1, exit: Some(setting.exit) };
        let settings = self.kv.settings(&depth, &self.opened.model, context, rows.min(context));
        let mut memory = Memory::default();
        let (mut session, _) = session(&self.opened.model, settings, &mut memory)?;
        session.set_backend(self.backend);
        let mut store = self.store.another().map_err(|error| Error::reading(self.path, &error))?;
        let sampler = Sampler::new(Sampling::default(), 0).map_err(|e| Error::Usage(e.to_string()))?;
        let policy = setting.exit.policy();
        let mut generator = Generator {
            store: &mut store,
            session: &mut session,
            policy: &*policy,
            sampler,
            tokenizer: Some(self.tokenizer),
            history: Vec::new(),
            power: None,
            show_prefill: false,
        };
        let tokens = end_tokens(Some(self.tokenizer));
        let stop_at = StopAt { tokens, texts: Vec::new(), max_new: self.max_new };
        let ask = |question: &Question| {
            generator.clear();
            let answer = generator.answer(&question.prompt, &stop_at, &mut |_, _| Ok(()))?;
            if answer.stop == Stop::Interrupted {
                return Err(Error::Interrupted);
            }
            bar.inc(1);
            Ok(Outcome {
                exact: answer.text.trim() == question.answer,
                tokens: answer.tokens.len(),
                loops: answer.tokens.iter().map(|token| token.depth.loops).sum(),
                decode: answer.decode,
            })
        };
        questions.iter().map(ask).collect()
    }
}
