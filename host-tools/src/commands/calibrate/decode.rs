//! What exit policies do in runs. Along the data every position is read at full depth, and with every
//! loop's K/V; in a run early exits change what later tokens read, and old positions share one K/V.

use super::data::Text;
use super::fit::Outcome;
use crate::args::{DepthArgs, KvArgs};
use crate::error::Error;
use crate::interrupt;
use crate::open::{Memory, session, session_error};
use crate::store::HostStore;
use ouro_runtime::depth::{ExitPolicy, FixedDepth};
use ouro_runtime::kernels::Backend;
use ouro_runtime::model::Model;
use ouro_runtime::session::{Feed, Session};
use rayon::prelude::*;
use std::path::Path;

/// More tokens than the right answer has, before an answer that does not end is cut.
const SPARE_TOKENS: usize = 8;

/// Decodes texts as `ouro run` does.
pub(super) struct Decoder<'d, 'm> {
    pub(super) path: &'d Path,
    pub(super) model: &'d Model<'m>,
    pub(super) store: &'d HostStore,
    pub(super) backend: Backend,
    pub(super) kv: KvArgs,
    /// Tokens that end an answer.
    pub(super) end_tokens: Vec<u32>,
}

/// Makes a policy for each thread: one may remember the token it was last asked about.
pub(super) type MakePolicy<'p> = dyn Fn() -> Box<dyn ExitPolicy + 'p> + Sync + 'p;

/// What a position chose.
#[derive(Clone, Copy, Debug)]
struct Choice {
    id: u32,
    loops: usize,
}

/// What full depth chooses, text by text: the measure of every policy.
pub(super) struct FullDepth(Vec<Vec<u32>>);

impl FullDepth {
    /// Tokens in all.
    pub(super) fn tokens(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }
}

impl Decoder<'_, '_> {
    /// Runs all texts at full depth.
    ///
    /// # Errors
    /// [`Error`].
    pub(super) fn full_depth(&self, texts: &[Text]) -> Result<FullDepth, Error> {
        let texts: Vec<(&Text, Option<&[u32]>)> = texts.iter().map(|text| (text, None)).collect();
        let choices = self.run(&texts, &|| Box::new(FixedDepth))?;
        Ok(FullDepth(
            choices.iter().map(|choices| choices.iter().map(|choice| choice.id).collect()).collect(),
        ))
    }

    /// Runs all texts under a policy, each along its own tokens, or where it is an answer, along those
    /// of full depth: as long as a policy chooses the same, that is what a run does.
    ///
    /// # Errors
    /// [`Error`].
    pub(super) fn outcome(
        &self,
        texts: &[Text],
        full: &FullDepth,
        policy: &MakePolicy<'_>,
    ) -> Result<Outcome, Error> {
        let guided: Vec<(&Text, Option<&[u32]>)> =
            texts.iter().zip(full.0.iter().map(|ids| Some(ids.as_slice()))).collect();
        let choices = self.run(&guided, policy)?;
        let choices = choices.iter().flatten();
        let agreeing = choices.clone().zip(full.0.iter().flatten()).filter(|(choice, id)| choice.id == **id);
        let tokens = full.tokens().max(1) as f64;
        Ok(Outcome {
            agreement: agreeing.count() as f64 / tokens,
            mean_depth: choices.map(|choice| choice.loops).sum::<usize>() as f64 / tokens,
        })
    }

    /// The choices of all texts, in their order, on all cores.
    fn run(
        &self,
        texts: &[(&Text, Option<&[u32]>)],
        policy: &MakePolicy<'_>,
    ) -> Result<Vec<Vec<Choice>>, Error> {
        let some = texts.len().div_ceil(rayon::current_num_threads() * 8).max(1);
        let choices = texts.par_chunks(some).map(|texts| self.run_some(texts, &*policy()));
        Ok(choices.collect::<Result<Vec<_>, Error>>()?.concat())
    }

    fn run_some(
        &self,
        texts: &[(&Text, Option<&[u32]>)],
        policy: &dyn ExitPolicy,
    ) -> Result<Vec<Vec<Choice>>, Error> {
        let rows = texts.iter().map(|(text, _)| text.prompt).max().unwrap_or(1);
        let longest = texts.iter().map(|(text, _)| text.ids.len() + SPARE_TOKENS).max().unwrap_or(1);
        let context = longest.min(self.model.config().context);
        let depth = DepthArgs { loops: None, min_loops: 1, exit: None };
        let mut memory = Memory::default();
        let settings = self.kv.settings(&depth, self.model, context, rows);
        let (mut session, _) = session(self.model, settings, &mut memory)?;
        session.set_backend(self.backend);
        let mut store = self.store.another().map_err(|error| Error::reading(self.path, &error))?;
        texts.iter().map(|(text, full)| self.run_one(text, *full, policy, &mut session, &mut store)).collect()
    }

    fn run_one(
        &self,
        text: &Text,
        full: Option<&[u32]>,
        policy: &dyn ExitPolicy,
        session: &mut Session<'_>,
        store: &mut HostStore,
    ) -> Result<Vec<Choice>, Error> {
        let (prompt, rest) = text.ids.split_at(text.prompt);
        let mut choices = Vec::new();
        session.clear();
        session.feed(prompt, Feed::Prompt).map_err(session_error)?;
        loop {
            if interrupt::is_set() {
                return Err(Error::Interrupted);
            }
            let loops = session.run(store, policy).map_err(session_error)?.loops;
            let id = session.readout().best();
            let nth = choices.len();
            choices.push(Choice { id, loops });
            let next = match full {
                _ if !text.is_answered => rest.get(nth).copied(),
                Some(full) => full.get(nth).copied().filter(|_| nth + 1 < full.len()),
                None => {
                    let is_over = self.end_tokens.contains(&id) || nth == rest.len() + SPARE_TOKENS;
                    let is_full = session.position() == session.settings().context;
                    (!is_over && !is_full).then_some(id)
                }
            };
            let Some(next) = next else { return Ok(choices) };
            session.feed(&[next], Feed::Generated).map_err(session_error)?;
        }
    }
}
