//! What budgets and the worst case count: bytes as stores really move them, work as the tensors have
//! weights, energy as the kernel tells it.

use embedded_storage::nor_flash::{ErrorType, NorFlashErrorKind, ReadNorFlash, check_read};
use ouro::budget::Rapl;
use ouro::store::{FileStore, HostStore};
use ouro_runtime::depth::{Bucket, Budget, ExitPolicy, FixedDepth, Needs, QExit, Reason};
use ouro_runtime::model::Model;
use ouro_runtime::session::{Depth, Feed, SessionError, Settings};
use ouro_runtime::store::{Faulty, FlashStore, MemoryStore, Span, Store};
use ouro_tests::PagedStore;
use ouro_tests::harness::{Loaded, StopAt, golden, load, open, pinned, session};

/// A chip that reads whole pages.
struct Chip(Vec<u8>);

impl ErrorType for Chip {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Chip {
    const READ_SIZE: usize = 512;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len())?;
        bytes.copy_from_slice(&self.0[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.len()
    }
}

/// Generates with the least byte budget, which is the one that its refusal names, and with a policy
/// that wants as much as it can get.
fn least_byte_budget<S: Store>(model: &'static Model<'static>, store: &mut S, medium: &str) {
    let settings = Settings::new(model, 80, 8);
    for fallback in [1, 3] {
        let mut session = session(model, settings);
        let of = |rate: u64| Bucket { rate, burst: rate / 2, resume: rate / 8 };
        let budget = |rate| Budget { bytes: Some(of(rate)), fallback, ..Budget::UNLIMITED };
        let Err(SessionError::ByteRate { needed, .. }) = session.set_budget(budget(1), store) else {
            panic!("{medium}: a byte is enough")
        };
        assert!(session.set_budget(budget(needed - 1), store).is_err());
        session.set_budget(budget(needed), store).unwrap();
        // A gate is asked when it is not known that it ends the token: a tile is read ahead in vain.
        let policy = QExit(0.999);
        session.feed(&[175, 462, 33, 245], Feed::Prompt).unwrap();
        session.run(store, &policy).unwrap();
        let (mut seen, mut most) = (Vec::new(), 0);
        for token in 0..60 {
            let worst = session.worst_case(store, 0, 1, policy.needs());
            let before = store.counters().bytes;
            session.feed(&[token], Feed::Generated).unwrap();
            let depth = session.run(store, &policy).unwrap();
            let fetched = store.counters().bytes - before;
            // Tiles that were read ahead in the token before may be counted in this one.
            let tile = store.fetched(Span { offset: 0, len: store.max_tile().min(store.len() as usize) });
            assert!(
                fetched <= worst.bytes + tile * store.reads_ahead() as u64,
                "{medium}: {fetched} bytes, {worst:?}"
            );
            let left = session.budget_left().bytes.unwrap();
            assert!(left >= 0, "{medium}: {left} bytes left after token {token}, {depth:?}");
            most += fetched;
            assert!(most <= budget(needed).bytes.unwrap().burst + (u64::from(token) + 1) * needed);
            seen.push(depth.reason);
        }
        let exhausted = seen.iter().filter(|reason| **reason == Reason::Budget).count();
        let longest = seen.chunk_by(|a, b| a == b).filter(|run| run[0] == Reason::Fallback).map(<[_]>::len);
        let longest = longest.max().unwrap_or_default();
        assert!(exhausted >= 2 && longest > 0, "{medium}, fallback {fallback}: {seen:?}");
    }
}

#[test]
fn the_least_byte_budget_is_enough_whatever_a_store_moves() {
    let path = golden("lively/lively-gate-f32.gguf");
    let file = std::fs::read(&path).unwrap();
    let mut memory = MemoryStore::new(file.clone());
    let (_, model) = open(&mut memory);
    least_byte_budget(model, &mut memory, "memory");
    least_byte_budget(model, &mut PagedStore::new(&file, 40_000), "a block buffer");
    let mut chip = file.clone();
    chip.resize(file.len().next_multiple_of(512), 0);
    let mut buffer = vec![0; 40_000];
    let mut flash = FlashStore::new(Chip(chip), 0, file.len() as u64, &mut buffer).unwrap();
    least_byte_budget(model, &mut flash, "flash");
    let open = || FileStore::open(&path, 40_000).unwrap();
    let mut files = open();
    files.weights_begin(0);
    least_byte_budget(model, &mut files, "a file");
    least_byte_budget(model, &mut HostStore::from(open()), "the host's");
    least_byte_budget(model, &mut pinned(model, open()), "a file with pins");
}

/// A prompt that is longer than the activations have rows for reads all weights for each of its parts.
#[test]
fn the_worst_case_of_a_prompt_in_parts() {
    let file = std::fs::read(golden("lively/lively-gate-f32.gguf")).unwrap();
    let mut memory = MemoryStore::new(file.clone());
    let (_, model) = open(&mut memory);
    worst_of_prompts(model, &mut memory);
    worst_of_prompts(model, &mut pinned(model, PagedStore::new(&file, 20_000)));
}

fn worst_of_prompts<S: Store>(model: &'static Model<'static>, memory: &mut S) {
    let mut session = session(model, Settings::new(model, 40, 8));
    for (prompt, feeds) in [(8, 1), (9, 2), (20, 3)] {
        session.clear();
        let worst = session.worst_case(memory, prompt, 0, FixedDepth.needs());
        let (before, bytes) = (session.counters().macs, memory.counters().bytes);
        for part in vec![7; prompt].chunks(8) {
            session.feed(part, Feed::Prompt).unwrap();
            session.run(memory, &FixedDepth).unwrap();
        }
        let (macs, bytes) = (session.counters().macs - before, memory.counters().bytes - bytes);
        assert_eq!((worst.heads, worst.bytes), (feeds, bytes), "{prompt} tokens");
        assert_eq!(worst.macs, macs, "{prompt} tokens");
    }
}

/// Counted over the tensors in the file: every weight of the stack once per position and loop, scores
/// and values over all positions that a query reads, and the head where its logits are read.
#[test]
fn work_is_that_of_the_tensors() {
    let Loaded { mut store, gguf, model } = load(&golden("lively/lively-gate-f32.gguf"));
    let mut session = session(model, Settings::new(model, 40, 12));
    let config = *model.config();
    let (mut stack, mut head) = (0, 0);
    for tensor in gguf.tensors() {
        let weights = tensor.dims[0] * tensor.dims[1];
        store.load(tensor.name(), None).unwrap();
        match store.tile() {
            b"output.weight" => head = weights,
            name if name.starts_with(b"blk.") && tensor.n_dims == 2 => stack += weights,
            _ => {}
        }
    }
    assert!(stack > 0 && head > 0);
    let (layers, loops, width) =
        (config.layers as u64, config.loops as u64, (config.heads * config.head_dim) as u64);
    let reads = |query: u64| 2 * width * query * layers;
    let worst = session.worst_case(&store, 12, 3, Needs::NOTHING);
    let prompt = loops * (12 * stack + (1..=12).map(reads).sum::<u64>()) + head;
    session.feed(&[7; 12], Feed::Prompt).unwrap();
    session.run(&mut store, &FixedDepth).unwrap();
    assert_eq!(session.counters().macs, prompt);
    let mut expected = prompt;
    for (query, depth) in [(13, 1), (14, 3), (15, loops)] {
        session.feed(&[7], Feed::Generated).unwrap();
        session.run(&mut store, &StopAt(depth as usize)).unwrap();
        expected += depth * (stack + reads(query)) + head;
        assert_eq!(session.counters().macs, expected);
    }
    let most = prompt + 3 * (loops * (stack + reads(15)) + head);
    assert_eq!((worst.loops, worst.heads, worst.macs), (15 * loops, 4, most));
    // Fetched once for all positions of a prompt; of the embedding one row for each position.
    let row = 4 * config.hidden as u64;
    assert!(worst.bytes >= 4 * (4 * loops * stack + 4 * head) + 15 * row, "{worst:?}");
    assert!(store.counters().bytes >= worst.bytes / 2, "not far from what was fetched: {worst:?}");
}

/// The processor's counter goes on with every tile; two packages, one of which wraps.
#[test]
fn energy_as_the_kernel_counts_it() {
    let sysfs = tempfile::tempdir().unwrap();
    let zones = ["intel-rapl:0", "intel-rapl:1"].map(|zone| sysfs.path().join("class/powercap").join(zone));
    for zone in &zones {
        std::fs::create_dir_all(zone).unwrap();
        std::fs::write(zone.join("name"), "package-0\n").unwrap();
        std::fs::write(zone.join("max_energy_range_uj"), "100\n").unwrap();
        std::fs::write(zone.join("energy_uj"), "0\n").unwrap();
    }
    let Loaded { mut store, model, .. } = load(&golden("lively/lively-gate-f32.gguf"));
    // Ten microjoules a tile: a layer is one, the head is one, an embedding is one.
    let mut loads = 0;
    let tick = |_, _| {
        loads += 1;
        std::fs::write(zones[loads % 2].join("energy_uj"), format!("{}\n", loads.div_ceil(2) * 10 % 100))
            .unwrap();
        None
    };
    let layers = model.config().layers as u64;
    let meter: &'static Rapl = Box::leak(Box::new(Rapl::open(sysfs.path()).unwrap()));
    let mut session = session(model, Settings::new(model, 32, 8));
    session.set_energy_meter(meter);
    // Two loops, an embedding and a head are paid, and one loop more is saved up.
    let per_loop = 10 * layers;
    let bucket = Bucket { rate: 2 * per_loop + 20, burst: per_loop, resume: per_loop };
    let budget = Budget { energy: Some(bucket), ..Budget::UNLIMITED };
    session.set_budget(budget, &store).unwrap();
    session.feed(&[175, 462, 33], Feed::Prompt).unwrap();
    session.run(&mut store, &FixedDepth).unwrap();
    let mut store = Faulty::new(store, tick, vec![0; 800_000]);
    let mut depths = Vec::new();
    for token in [7, 8, 9, 10] {
        session.feed(&[token], Feed::Generated).unwrap();
        let Depth { loops, reason } = session.run(&mut store, &FixedDepth).unwrap();
        depths.push((loops, reason.name(), session.budget_left().energy.unwrap()));
    }
    let full = per_loop as i64;
    let expected = [(3, "budget", 0), (1, "fallback", full), (3, "budget", 0), (1, "fallback", full)];
    assert_eq!(depths, expected);
}
