//! Trying again.

use super::{Span, Store, StoreCounters, StoreError};
use core::fmt;

/// A store around a store that repeats loads which fail.
///
/// Only a failing medium is asked again ([`StoreError::is_transient`]), also one that says nothing and
/// hands out too little: a file that is too short stays so.
pub struct Retry<S, W> {
    inner: S,
    /// How often at most a load is repeated.
    retries: u32,
    /// Called before each repetition with its number, from 1: it may wait.
    wait: W,
    retried: u64,
    /// Whether the last load failed: what the inner store has then is too little.
    has_failed: bool,
}

impl<S: fmt::Debug, W> fmt::Debug for Retry<S, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inner, retries, retried, .. } = self;
        let mut fields = f.debug_struct("Retry");
        fields.field("inner", inner).field("retries", retries).field("retried", retried);
        fields.finish_non_exhaustive()
    }
}

impl<S: Store, W: FnMut(u32)> Retry<S, W> {
    /// Repeats a failed load up to `retries` times, and calls `wait` before each time with its
    /// number, from 1.
    #[must_use]
    pub fn new(inner: S, retries: u32, wait: W) -> Self {
        Self { inner, retries, wait, retried: 0, has_failed: false }
    }

    /// The store that is asked.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The store that is asked.
    pub fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Loads all of `want`, or fails.
    fn load_whole(&mut self, want: Span, next: impl IntoIterator<Item = Span>) -> Result<(), StoreError> {
        self.inner.load(want, next)?;
        let found = self.inner.tile().len();
        if found < want.len {
            self.inner.discard();
            return Err(StoreError::Short { span: want, found });
        }
        Ok(())
    }
}

#[deny(clippy::missing_trait_methods)] // what is not forwarded would be switched off
impl<S: Store, W: FnMut(u32)> Store for Retry<S, W> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    fn max_tile(&self) -> usize {
        self.inner.max_tile()
    }

    fn load(&mut self, want: Span, next: impl IntoIterator<Item = Span>) -> Result<(), StoreError> {
        let mut result = self.load_whole(want, next);
        for retry in 1..=self.retries {
            if !result.is_err_and(StoreError::is_transient) {
                break;
            }
            (self.wait)(retry);
            self.retried += 1;
            result = self.load_whole(want, None);
        }
        self.has_failed = result.is_err();
        result
    }

    fn discard(&mut self) {
        self.inner.discard();
    }

    fn current(&self) -> Span {
        if self.has_failed { Span::EMPTY } else { self.inner.current() }
    }

    fn tile(&self) -> &[u8] {
        if self.has_failed { &[] } else { self.inner.tile() }
    }

    fn fetched(&self, span: Span) -> u64 {
        self.inner.fetched(span)
    }

    fn fetched_again(&self, span: Span) -> u64 {
        self.inner.fetched_again(span)
    }

    fn reads_ahead(&self) -> usize {
        self.inner.reads_ahead()
    }

    fn counters(&self) -> StoreCounters {
        let counters = self.inner.counters();
        StoreCounters { retries: counters.retries + self.retried, ..counters }
    }
}
