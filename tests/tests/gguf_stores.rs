//! The GGUF reader over stores that fail, or lie: always a typed error, never a panic.

use ouro_runtime::arena::{Aligned, Arena};
use ouro_runtime::gguf::{ElementType, Gguf, GgufError};
use ouro_runtime::store::{MIN_TILE, Span, Store, StoreCounters, StoreError};
use ouro_tests::{GgufBuilder, PagedStore};

fn file() -> Vec<u8> {
    GgufBuilder::new()
        .alignment(64)
        .string("general.architecture", "ouro")
        .strings("tokens", &["a", "b", "c", "a longer one"])
        .f32s("gate", &[0.5; 100])
        .tensor_f32("norm", &[3], &[1.0, 2.0, 3.0])
        .tensor("q", 8, &[32, 2], &[7; 68])
        .build()
}

/// How a store misbehaves, at its load number `at`.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It fails.
    Io,
    /// It gives one byte less than asked for.
    Short,
    /// It gives nothing.
    Nothing,
    /// From then on all bytes are others.
    OtherBytes(u8),
    /// From then on the file is shorter.
    OtherLength(u64),
}

struct Faulty<'a> {
    inner: PagedStore<'a>,
    fault: Fault,
    at: u64,
    loads: u64,
    tile: Vec<u8>,
}

impl<'a> Faulty<'a> {
    fn new(file: &'a [u8], fault: Fault, at: u64) -> Self {
        Self { inner: PagedStore::new(file, MIN_TILE), fault, at, loads: 0, tile: Vec::new() }
    }
}

impl Store for Faulty<'_> {
    fn len(&self) -> u64 {
        match self.fault {
            Fault::OtherLength(len) if self.loads > self.at => len,
            _ => self.inner.len(),
        }
    }

    fn max_tile(&self) -> usize {
        self.inner.max_tile()
    }

    fn load(&mut self, want: Span, next: impl IntoIterator<Item = Span>) -> Result<(), StoreError> {
        let load = self.loads;
        self.loads += 1;
        self.inner.load(want, next)?;
        self.tile = self.inner.tile().to_vec();
        match self.fault {
            Fault::Io if load == self.at => return Err(StoreError::Io { span: want, code: 5 }),
            Fault::Short if load == self.at => drop(self.tile.pop()),
            Fault::Nothing if load == self.at => self.tile.clear(),
            Fault::OtherBytes(mask) if load >= self.at => self.tile.iter_mut().for_each(|byte| *byte ^= mask),
            _ => {}
        }
        Ok(())
    }

    fn current(&self) -> Span {
        self.inner.current()
    }

    fn tile(&self) -> &[u8] {
        &self.tile
    }

    fn counters(&self) -> StoreCounters {
        self.inner.counters()
    }
}

/// Does all that the reader can do.
fn use_everything<S: Store>(store: &mut S) -> Result<(), GgufError> {
    Gguf::arena_bytes(store)?;
    let mut memory = Aligned([0; 4096]);
    let gguf = Gguf::open(store, &mut Arena::new(&mut memory.0))?;
    gguf.u64(store, "general.alignment")?;
    gguf.string(store, "general.architecture")?;
    gguf.tensor(store, "q")?;
    if let Some(tokens) = gguf.array(store, "tokens", ElementType::String)? {
        let mut elements = tokens.elements();
        while elements.next(store)?.is_some() {}
        let mut strings = tokens.strings(store)?;
        while strings.next()?.is_some() {}
    }
    if let Some(gate) = gguf.array(store, "gate", ElementType::F32)? {
        gate.read_f32(store, &mut [0.0; 100])?;
    }
    Ok(())
}

/// How many loads it takes where nothing fails.
fn loads(file: &[u8]) -> u64 {
    let mut store = Faulty::new(file, Fault::Io, u64::MAX);
    use_everything(&mut store).unwrap();
    store.loads
}

#[test]
fn a_failing_store_is_reported_wherever_it_fails() {
    let file = file();
    for at in 0..loads(&file) {
        let error = use_everything(&mut Faulty::new(&file, Fault::Io, at)).unwrap_err();
        assert!(matches!(error, GgufError::Store(StoreError::Io { code: 5, .. })), "load {at}: {error:?}");
    }
}

#[test]
fn a_lying_store_does_no_harm() {
    let file = file();
    let loads = loads(&file);
    assert!(loads > 10, "{loads} loads");
    let bytes = (0..8).map(|bit| Fault::OtherBytes(1 << bit));
    let lengths = (0..file.len() as u64 * 2).step_by(7).map(Fault::OtherLength);
    let faults =
        [Fault::Short, Fault::Nothing, Fault::OtherBytes(0xff)].into_iter().chain(bytes).chain(lengths);
    let mut refused = 0;
    for fault in faults {
        for at in 0..loads {
            refused += usize::from(use_everything(&mut Faulty::new(&file, fault, at)).is_err());
        }
    }
    assert!(refused > 0);
}
