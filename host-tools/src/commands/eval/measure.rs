//! Asks all questions.

use super::Setting;
use super::questions::Question;
use super::sessions::Sessions;
use crate::args::{DepthArgs, KvArgs};
use crate::commands::run::end_tokens;
use crate::compute::Compute;
use crate::error::Error;
use crate::generate::{Generator, Stop, StopAt};
use crate::open::{Memory, session};
use crate::store::HostStore;
use indicatif::ProgressBar;
use ouro_runtime::model::Model;
use ouro_runtime::sample::{Sampler, Sampling};
use ouro_runtime::session::Settings;
use ouro_runtime::text::Tokenizer;
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
    pub(super) model: &'e Model<'m>,
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
    pub(super) fn ask(
        &self,
        setting: Setting,
        sessions: &mut Sessions<'_>,
        bar: &ProgressBar,
    ) -> Result<Vec<Outcome>, Error> {
        sessions.map(self.questions, |compute, store, questions| {
            self.ask_some(setting, (compute, store), questions, bar)
        })
    }

    /// Of a session for these questions.
    pub(super) fn settings(&self, setting: Setting, questions: &[Question]) -> Settings {
        let rows = questions.iter().map(|question| question.prompt.len()).max().unwrap_or(1);
        let longest = self.model.config().context;
        let context = self.kv.ctx.unwrap_or_else(|| (rows + self.max_new).min(longest));
        let depth = DepthArgs { loops: Some(setting.loops), min_loops: 1, exit: Some(setting.exit) };
        self.kv.settings(&depth, self.model, context, rows.min(context))
    }

    fn ask_some(
        &self,
        setting: Setting,
        (compute, store): (Compute, &mut HostStore),
        questions: &[Question],
        bar: &ProgressBar,
    ) -> Result<Vec<Outcome>, Error> {
        let mut memory = Memory::default();
        let (mut session, _) = session(self.model, self.settings(setting, questions), &mut memory)?;
        compute.lend(&mut session);
        let sampler = Sampler::new(Sampling::default(), 0).map_err(|e| Error::Usage(e.to_string()))?;
        let policy = setting.exit.policy();
        let mut generator = Generator {
            store,
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
