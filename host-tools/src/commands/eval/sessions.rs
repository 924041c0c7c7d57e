//! Sessions that have nothing to do with each other, and the weights that they read.

use super::Args;
use crate::compute::Compute;
use crate::error::Error;
use crate::open::Opened;
use crate::store::{HostStore, StoreKind};
use ouro_runtime::kernels::Alone;
use ouro_runtime::session::Settings;
use rayon::ThreadPool;
use rayon::prelude::*;

/// Who computes, and with what.
pub(super) struct Sessions<'e> {
    args: &'e Args,
    store: HostStore,
    threads: Threads,
}

/// What threads are for.
enum Threads {
    /// All weights are in memory: a session for each thread.
    Sessions(Compute, ThreadPool),
    /// Weights come from a file: one session after another, so that each tile is fetched once for all
    /// threads, and pinned once.
    Kernels(Compute),
}

impl<'e> Sessions<'e> {
    pub(super) fn new(args: &'e Args) -> Result<Self, Error> {
        let store = args.model.open_within(args.ram.ram)?;
        let threads = match args.model.kind(args.ram.ram)? {
            StoreKind::Memory => {
                let (backend, pool) = args.compute.sessions()?;
                Threads::Sessions(Compute { backend, workers: &Alone }, pool)
            }
            StoreKind::File => Threads::Kernels(args.compute.start()?),
        };
        Ok(Self { args, store, threads })
    }

    /// What the file is read through, before the first session.
    pub(super) fn store(&mut self) -> &mut HostStore {
        &mut self.store
    }

    /// Divides memory for `count` sessions at a time, none of them larger than these settings say.
    ///
    /// # Errors
    /// As [`RamArgs::divide`](crate::ram::RamArgs::divide).
    pub(super) fn divide(
        &mut self,
        opened: &Opened<'_>,
        settings: &Settings,
        count: usize,
    ) -> Result<(), Error> {
        self.args.ram.divide(&self.args.model, &mut self.store, opened, (settings, count))?;
        Ok(())
    }

    /// What `work` makes of the items, in their order; it gets some of them at a time.
    ///
    /// # Errors
    /// Those of `work`, or if the system allows no more open files.
    pub(super) fn map<T: Sync, R: Send>(
        &mut self,
        items: &[T],
        work: impl Fn(Compute, &mut HostStore, &[T]) -> Result<Vec<R>, Error> + Sync,
    ) -> Result<Vec<R>, Error> {
        let (compute, pool) = match &self.threads {
            Threads::Kernels(compute) => return work(*compute, &mut self.store, items),
            Threads::Sessions(compute, pool) => (*compute, pool),
        };
        // Enough pieces for all cores to end together.
        let some = items.len().div_ceil(pool.current_num_threads() * 8).max(1);
        let store = &self.store;
        let work = |items: &[T]| {
            let path = &self.args.model.model;
            let mut store = store.another().map_err(|error| Error::reading(path, &error))?;
            work(compute, &mut store, items)
        };
        let found = pool.install(|| items.par_chunks(some).map(work).collect::<Result<Vec<_>, Error>>())?;
        Ok(found.into_iter().flatten().collect())
    }
}
