//! The tests.

use super::machine::{LEAST_TIME, product_rate, read_rate};
use crate::compute::Compute;
use crate::error::Error;
use crate::interrupt;
use crate::open::session_error;
use crate::plan::measure_disk;
use crate::store::HostStore;
use ouro_runtime::depth::FixedDepth;
use ouro_runtime::sample::SplitMix64;
use ouro_runtime::session::{Feed, Session};
use ouro_runtime::store::{Span, Store};
use serde::Serialize;
use std::fmt;
use std::time::{Duration, Instant};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Batch,
    Prompt,
    Generate,
}

/// A kind of work and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) kind: Kind,
    pub(super) tokens: usize,
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Batch => "batch",
            Kind::Prompt => "prompt",
            Kind::Generate => "generate",
        };
        write!(f, "{kind} {}", self.tokens)
    }
}

/// Work done, and the time it took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    pub(super) tokens: usize,
    /// Passes of a prompt, or tokens of an answer.
    pub(super) feeds: usize,
    /// Multiplications with accumulation.
    pub(super) macs: u64,
    /// Bytes of weights that were read, or where they are in a file, fetched.
    pub(super) bytes: u64,
    pub(super) time: Duration,
}

/// A test, and the machine's own rates right before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) work: Work,
    /// Bytes per second.
    pub(super) read: f64,
    /// Products per second.
    pub(super) peak: f64,
}

/// What tests run with.
pub(super) struct Bench<'b, 's> {
    pub(super) session: &'b mut Session<'s>,
    pub(super) store: &'b mut HostStore,
    pub(super) compute: Compute,
    /// Positions in the cache before tokens are generated.
    pub(super) after: usize,
}

impl Bench<'_, '_> {
    /// # Errors
    /// [`Error`], also when the user has seen enough.
    pub(super) fn sample(&mut self, test: Test) -> Result<Sample, Error> {
        let read = match measure_disk(self.store, self.session.model())? {
            Some(rate) => rate,
            None => {
                let whole = Span { offset: 0, len: usize::try_from(self.store.len()).unwrap_or(0) };
                self.store.load(whole, None).map_err(anyhow::Error::new)?;
                read_rate(self.compute, self.store.tile())
            }
        };
        let peak = product_rate(self.compute);
        let mut work = Work::default();
        while work.time < LEAST_TIME {
            let more = self.run(test, self.after)?;
            work.tokens += more.tokens;
            work.feeds += more.feeds;
            work.macs += more.macs;
            work.bytes += more.bytes;
            work.time += more.time;
        }
        Ok(Sample { work, read, peak })
    }

    /// Warms caches and clocks, for which the KV cache need not be long.
    ///
    /// # Errors
    /// [`Error`], also when the user has seen enough.
    pub(super) fn warm(&mut self, test: Test) -> Result<(), Error> {
        self.run(test, 1).map(drop)
    }

    /// Runs a test once, from an empty cache; tokens are generated after so many.
    fn run(&mut self, test: Test, after: usize) -> Result<Work, Error> {
        let vocab = self.session.model().config().vocab as u64;
        let mut random = SplitMix64::new(0);
        let mut ids =
            |count: usize| -> Vec<u32> { (0..count).map(|_| (random.bits() % vocab) as u32).collect() };
        self.session.clear();
        let mut work = Work::default();
        match test.kind {
            Kind::Batch | Kind::Prompt => self.feed(&ids(test.tokens), Feed::Prompt, &mut work)?,
            Kind::Generate => {
                for before in ids(after).chunks(self.session.settings().rows) {
                    self.feed(before, Feed::Prompt, &mut Work::default())?;
                }
                for id in ids(test.tokens) {
                    self.feed(&[id], Feed::Generated, &mut work)?;
                }
            }
        }
        Ok(work)
    }

    fn feed(&mut self, ids: &[u32], feed: Feed, work: &mut Work) -> Result<(), Error> {
        if interrupt::is_set() {
            return Err(Error::Interrupted);
        }
        let (macs, bytes) = (self.session.counters().macs, self.store.counters().bytes);
        let began = Instant::now();
        self.session.feed(ids, feed).map_err(session_error)?;
        self.session.run(self.store, &FixedDepth).map_err(session_error)?;
        work.time += began.elapsed();
        work.tokens += ids.len();
        work.feeds += 1;
        work.macs += self.session.counters().macs - macs;
        work.bytes += self.store.counters().bytes - bytes;
        Ok(())
    }
}
