//! Runs a model over texts at full depth, and keeps what exit policies see.

use super::data::Text;
use super::gate::NewGate;
use crate::error::Error;
use crate::interrupt;
use crate::open::{Memory, session, session_error};
use crate::progress;
use crate::store::HostStore;
use indicatif::ProgressBar;
use ouro_runtime::depth::{FixedDepth, LoopState};
use ouro_runtime::kernels::math::sigmoid;
use ouro_runtime::kernels::{Backend, Readout};
use ouro_runtime::model::Model;
use ouro_runtime::session::{Feed, Session, Settings, Step};
use rayon::prelude::*;
use std::path::Path;

/// What a position shows after one loop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Loop {
    /// The token that this loop would answer.
    pub(super) token: u32,
    /// The gate's cumulative exit probability; 0 without a gate.
    pub(super) cdf: f32,
    /// Probability of the likeliest token.
    pub(super) top: f32,
    /// And how far the second is behind.
    pub(super) margin: f32,
    /// Relative change of the hidden state; infinite in the first loop, which no policy goes by.
    pub(super) step: f32,
}

/// Everything seen on some texts.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// `[positions, D]`, D > 1.
    pub(super) loops: Vec<Loop>,
    /// `[positions, D, hidden]` if asked for, else empty.
    pub(super) hidden: Vec<f32>,
}

/// Who records.
pub(super) struct Recorder<'r, 'm> {
    pub(super) path: &'r Path,
    pub(super) model: &'r Model<'m>,
    pub(super) store: &'r HostStore,
    pub(super) backend: Backend,
    /// Whether hidden states are kept.
    pub(super) keep_hidden: bool,
}

impl Recorder<'_, '_> {
    /// Runs all texts, on all cores; the record is in their order.
    ///
    /// # Errors
    /// [`Error`].
    pub(super) fn run(&self, texts: &[Text]) -> Result<Record, Error> {
        interrupt::watch();
        let positions: usize = texts.iter().map(|text| text.ids.len()).sum();
        let bar = progress::bar(positions as u64, "{bar:30} {pos} of {len} positions, {eta} left");
        let some = texts.len().div_ceil(rayon::current_num_threads() * 8).max(1);
        let records = texts.par_chunks(some).map(|texts| self.run_some(texts, &bar));
        let records = records.collect::<Result<Vec<Record>, Error>>();
        bar.finish_and_clear();
        let mut all = Record::default();
        for record in records? {
            all.loops.extend(record.loops);
            all.hidden.extend(record.hidden);
        }
        Ok(all)
    }

    fn run_some(&self, texts: &[Text], bar: &ProgressBar) -> Result<Record, Error> {
        let rows = texts.iter().map(|text| text.ids.len()).max().unwrap_or(1);
        let mut memory = Memory::default();
        let (mut session, _) = session(self.model, Settings::new(self.model, rows, rows), &mut memory)?;
        session.set_backend(self.backend);
        let mut store = self.store.another().map_err(|error| Error::reading(self.path, &error))?;
        let mut record = Record::default();
        for text in texts {
            if interrupt::is_set() {
                return Err(Error::Interrupted);
            }
            self.run_one(text, &mut session, &mut store, &mut record)?;
            bar.inc(text.ids.len() as u64);
        }
        Ok(record)
    }

    fn run_one(
        &self,
        text: &Text,
        session: &mut Session<'_>,
        store: &mut HostStore,
        record: &mut Record,
    ) -> Result<(), Error> {
        let (max_loops, width) = (self.model.config().loops, self.model.config().hidden);
        let empty = Loop { token: 0, cdf: 0.0, top: 0.0, margin: 0.0, step: f32::INFINITY };
        let mut seen = vec![empty; text.scored.len() * max_loops];
        let mut hidden = vec![0.0; if self.keep_hidden { seen.len() * width } else { 0 }];
        let mut previous = vec![0.0; text.scored.len() * width];
        let mut survival = vec![1.0; text.scored.len()];
        let mut logits = vec![0.0; self.model.config().vocab];
        session.clear();
        session.feed(&text.ids, Feed::Prompt).map_err(session_error)?;
        loop {
            let loops = match session.step(store, &FixedDepth).map_err(session_error)? {
                Step::Loop { loops } => loops,
                Step::Done(_) => break,
                Step::Layer { .. } | Step::Head { .. } => continue,
            };
            for (index, row) in text.scored.clone().enumerate() {
                session.logits_of(store, row, &mut logits).map_err(session_error)?;
                let h = session.hidden(row);
                let before = &mut previous[index * width..][..width];
                let readout = Readout::of(&logits);
                let state = LoopState {
                    loops,
                    max_loops,
                    exit_cdf: None,
                    hidden: h,
                    previous: before,
                    logits: &logits,
                    readout,
                };
                let step = if loops > 1 { state.step_difference() } else { f32::INFINITY };
                if let Some(logit) = session.gate_logit(row) {
                    survival[index] *= 1.0 - sigmoid(logit);
                }
                let (top, second) = readout.top_two();
                let at = index * max_loops + loops - 1;
                seen[at] = Loop {
                    token: readout.best(),
                    cdf: 1.0 - survival[index],
                    top,
                    margin: top - second,
                    step,
                };
                if self.keep_hidden {
                    hidden[at * width..][..width].copy_from_slice(h);
                }
                before.copy_from_slice(h);
            }
        }
        record.loops.extend(seen);
        record.hidden.extend(hidden);
        Ok(())
    }
}

impl Record {
    /// Every position's cumulative exit probabilities under another gate.
    pub(super) fn regate(&mut self, max_loops: usize, gate: &NewGate) {
        let width = gate.weight.len();
        let positions = self.loops.chunks_exact_mut(max_loops);
        for (loops, hidden) in positions.zip(self.hidden.chunks_exact(max_loops * width)) {
            let mut survival = 1.0;
            for (seen, h) in loops.iter_mut().zip(hidden.chunks_exact(width)) {
                survival *= 1.0 - gate.lambda(h);
                seen.cdf = 1.0 - survival;
            }
        }
    }
}
