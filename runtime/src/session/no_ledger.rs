//! Without the feature `budget`: nothing is bounded, so nothing is counted.

use super::Feed;
use super::state::Standing;
use crate::depth::Reason;
use core::marker::PhantomData;

pub(super) struct Reading;

#[derive(Debug)]
pub(super) struct Ledger<'a>(PhantomData<&'a ()>);

impl Ledger<'_> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }

    pub(super) fn standing(&self) -> Standing {
        Standing::default()
    }

    pub(super) fn resume(&mut self, _: &Standing) {}

    pub(super) fn begin(&mut self, _: Feed) {}

    pub(super) fn begin_loop(&mut self) {}

    pub(super) fn end_loop(&mut self) {}

    pub(super) fn read(&self, _: u64) -> Reading {
        Reading
    }

    pub(super) fn pay(&mut self, _: Reading, _: u64, _: bool) {}

    pub(super) fn fallback(&self) -> Option<usize> {
        None
    }

    pub(super) fn refusal(&mut self) -> Option<Reason> {
        None
    }

    pub(super) fn is_late(&self, _: bool) -> bool {
        false
    }
}
