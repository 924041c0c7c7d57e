//! What computes: the back end of the kernels, and the threads.

mod pool;

use crate::error::Error;
use clap::builder::PossibleValuesParser;
use ouro_runtime::kernels::{Alone, Backend, NoBackend, Workers};
use ouro_runtime::session::Session;
use pool::Pool;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::thread::available_parallelism;

/// Options for what computes.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Computing")]
pub struct ComputeArgs {
    /// How matrices are multiplied: reference is f32 throughout; all others quantize activations
    /// to eight bits and give the same bits as each other; auto is the fastest of this CPU
    #[arg(long, value_name = "NAME", default_value = AUTO, value_parser = names())]
    pub backend: String,
    /// Threads; no result depends on it [default: as many as there are cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

/// Any back end; the fastest.
pub(crate) const AUTO: &str = "auto";

/// What `--backend` can be.
pub(crate) fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(std::iter::once(AUTO).chain(Backend::NAMES.iter().copied()))
}

/// What the options ask for. The threads live as long as the process.
#[derive(Clone, Copy, Debug)]
pub struct Compute {
    /// The back end.
    pub backend: Backend,
    /// The threads.
    pub workers: &'static dyn Workers,
}

impl ComputeArgs {
    /// Finds the back end and starts the threads.
    ///
    /// # Errors
    /// [`Error::Usage`] if this CPU cannot run the back end.
    pub fn start(&self) -> Result<Compute, Error> {
        let threads = self.threads();
        let workers: &'static dyn Workers = match threads {
            1 => &Alone,
            _ => Box::leak(Box::new(Pool::new(threads)?)),
        };
        Ok(Compute { backend: self.backend()?, workers })
    }

    /// The same for many sessions that have nothing to do with each other: the back end, and threads
    /// to run a session each.
    ///
    /// # Errors
    /// [`Error::Usage`] if this CPU cannot run the back end.
    pub fn sessions(&self) -> Result<(Backend, ThreadPool), Error> {
        let pool = ThreadPoolBuilder::new().num_threads(self.threads()).build();
        Ok((self.backend()?, pool.map_err(|error| Error::Other(error.into()))?))
    }

    /// How many threads there will be.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.map_or_else(|| available_parallelism().map_or(1, usize::from), usize::from)
    }

    /// The back end.
    ///
    /// # Errors
    /// [`Error::Usage`] if this CPU cannot run it, or computes wrong with it.
    pub fn backend(&self) -> Result<Backend, Error> {
        if self.backend == AUTO {
            let (backend, refused) = Backend::choose();
            if let Some(mismatch) = refused {
                eprintln!("warning: {mismatch}; {backend} computes instead");
            }
            return Ok(backend);
        }
        Backend::named(&self.backend).map_err(|error: NoBackend| {
            let here: Vec<_> = Backend::available().map(Backend::name).collect();
            let text = format!("--backend {}: {error}; there are {} here", self.backend, here.join(", "));
            Error::Usage(text)
        })
    }
}

impl Compute {
    /// Has a session compute with these.
    pub fn lend(self, session: &mut Session<'_>) {
        session.set_backend(self.backend);
        session.set_workers(self.workers);
    }
}
