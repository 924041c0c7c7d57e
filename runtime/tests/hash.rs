//! Whole models: one SHA-256 of all logits of one run, for every back end of this CPU and any
//! number of threads, on any machine. It is what `ouro hash` prints.

use ouro_runtime::arena::Arena;
use ouro_runtime::fingerprint::{self, Seen};
use ouro_runtime::gguf::Gguf;
use ouro_runtime::kernels::{Backend, SmallestPiece, Workers};
use ouro_runtime::model::Model;
use ouro_runtime::session::Session;
use ouro_runtime::store::MemoryStore;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

/// What a machine computed when this was written; it changes only with the definition of the
/// numerics.
const HASHES: &str = include_str!("../../tests/data/hashes.txt");
const PROMPT: [u32; 7] = [175, 462, 33, 245, 459, 222, 73];

/// Each piece on its own thread, the last one first, and however small it is.
#[derive(Debug)]
struct Threads(usize);

impl Workers for Threads {
    fn count(&self) -> usize {
        self.0
    }

    fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for piece in (0..pieces).rev() {
                scope.spawn(move || work(piece));
            }
        });
    }

    fn smallest_piece(&self) -> SmallestPiece {
        SmallestPiece { matrix: 1, attention: 1, groups: 1, silu: 1 }
    }
}

/// Memory for an arena that lives as long as the test.
fn arena(bytes: usize) -> Arena<'static> {
    let chunks = vec![0u128; bytes.div_ceil(size_of::<u128>())];
    Arena::new(bytemuck::cast_slice_mut(chunks.leak()))
}

fn hash(path: &Path, backend: Backend, workers: &'static dyn Workers) -> String {
    let store = &mut MemoryStore::new(fs::read(path).unwrap());
    let bytes = Gguf::arena_bytes(store).unwrap();
    let gguf = Gguf::open(store, &mut arena(bytes)).unwrap();
    let bytes = Model::arena_bytes(store, &gguf).unwrap();
    let model = Model::open(store, &gguf, &mut arena(bytes)).unwrap();
    let settings = fingerprint::settings(&model, PROMPT.len());
    let bytes = Session::arena_bytes(&model, &settings).unwrap();
    let mut arena = arena(bytes);
    let mut session = Session::new(&model, settings, &mut arena).unwrap();
    session.set_backend(backend);
    session.set_workers(workers);
    let mut digest = Sha256::new();
    let mut logits = vec![0.0; model.config().vocab];
    fingerprint::run(&mut session, store, &PROMPT, &mut logits, &mut |seen| {
        if let Seen::Logits(logits) = seen {
            logits.iter().for_each(|logit| digest.update(logit.to_le_bytes()));
        }
    })
    .unwrap();
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn one_hash_for_every_back_end_and_any_number_of_threads() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let threads: [&Threads; 4] = [&Threads(1), &Threads(2), &Threads(3), &Threads(7)];
    assert!(!HASHES.is_empty());
    for (model, expected) in HASHES.lines().map(|line| line.split_once(' ').unwrap()) {
        let path = repository.join(model);
        for backend in Backend::available().filter(|backend| backend.is_integer()) {
            assert_eq!(hash(&path, backend, threads[0]), expected, "{model}, {backend}");
        }
        for threads in &threads[1..] {
            assert_eq!(hash(&path, Backend::fastest(), *threads), expected, "{model}, {threads:?}");
        }
        println!("{model}: {expected}");
    }
}
