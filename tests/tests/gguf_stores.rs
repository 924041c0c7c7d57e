//! The GGUF reader over stores that fail, or lie: always a typed error, never a panic.

use ouro_runtime::arena::{Aligned, Arena};
use ouro_runtime::gguf::{ElementType, Gguf, GgufError};
use ouro_runtime::store::{Fault, Faulty, MIN_TILE, Span, Store, StoreError};
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

/// A store with a small block buffer, in which this goes wrong.
fn faulty(
    file: &[u8],
    fault: impl FnMut(u64) -> Option<Fault>,
) -> Faulty<PagedStore<'_>, impl FnMut(u64, Span) -> Option<Fault>, Vec<u8>> {
    let mut fault = fault;
    Faulty::new(PagedStore::new(file, MIN_TILE), move |load, _| fault(load), vec![0; MIN_TILE])
}

/// Does all that the reader can do.
fn use_everything<S: Store>(store: &mut S) -> Result<(), GgufError> {
    Gguf::arena_bytes(store)?;
    let mut memory = Aligned([0; 4096]);
    let gguf = Gguf::open(store, &mut Arena::new(&mut memory.0))?;
    use_contents(store, &gguf)
}

fn use_contents<S: Store>(store: &mut S, gguf: &Gguf<'_>) -> Result<(), GgufError> {
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
    let mut store = faulty(file, |_| None);
    use_everything(&mut store).unwrap();
    store.loads()
}

#[test]
fn a_failing_store_is_reported_wherever_it_fails() {
    let file = file();
    for at in 0..loads(&file) {
        let mut store = faulty(&file, |load| (load == at).then_some(Fault::Error(5)));
        let error = use_everything(&mut store).unwrap_err();
        assert!(matches!(error, GgufError::Store(StoreError::Io { code: 5, .. })), "load {at}: {error:?}");
    }
}

#[test]
fn a_lying_store_does_no_harm() {
    let file = file();
    let loads = loads(&file);
    assert!(loads > 10, "{loads} loads");
    let mut refused = 0;
    for at in 0..loads {
        for missing in [1, usize::MAX] {
            let mut store = faulty(&file, |load| (load == at).then_some(Fault::Short(missing)));
            refused += usize::from(use_everything(&mut store).is_err());
        }
        // From then on a byte of each tile is another one.
        for (byte, bit) in (0..16).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
            let mut store =
                faulty(&file, |load| (load >= at).then_some(Fault::Flip { byte, mask: 1 << bit }));
            refused += usize::from(use_everything(&mut store).is_err());
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_file_of_another_length_after_a_while_does_no_harm() {
    let file = file();
    let mut whole = PagedStore::new(&file, MIN_TILE);
    let mut longer = file.clone();
    longer.resize(2 * file.len(), 0);
    let mut refused = 0;
    for len in 0..longer.len() {
        let mut other = PagedStore::new(&longer[..len], MIN_TILE);
        let mut memory = Aligned([0; 4096]);
        refused += usize::from(Gguf::open(&mut other, &mut Arena::new(&mut memory.0)).is_err());
        let gguf = Gguf::open(&mut whole, &mut Arena::new(&mut memory.0)).unwrap();
        refused += usize::from(use_contents(&mut other, &gguf).is_err());
    }
    assert!(refused > file.len());
}
