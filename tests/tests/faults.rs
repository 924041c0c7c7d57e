//! Media that fail, lie or rot: a typed error that names the place, and never another text.

use ouro::store::FileStore;
use ouro_runtime::arena::Arena;
use ouro_runtime::depth::{ExitPolicy, FixedDepth, LoopState, Needs, Reason};
use ouro_runtime::gguf::Gguf;
use ouro_runtime::kv::{KvSharing, KvType};
use ouro_runtime::model::{Model, ModelError, check_metadata, checksums};
use ouro_runtime::session::{Feed, Session, SessionError, Settings};
use ouro_runtime::store::{Checked, Fault, Faulty, MIN_TILE, MemoryStore, Retry};
use ouro_runtime::store::{SliceStore, Span, Store, StoreError, Sums};
use ouro_tests::convert::quantize;
use ouro_tests::harness::{golden, greedy, open, pinned, session};
use ouro_tests::{GgufBuilder, PagedStore};
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const PROMPT: [u32; 3] = [5, 9, 30];

/// A small model with checksums, as `ouro quantize` writes it. Many of its matrices are multiples of
/// a page, so that the next one follows without a gap.
fn file() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.gguf");
    quantize(&golden("mha/mha-f32.gguf"), &path, &["--type", "f32"]).unwrap();
    (folder, path)
}

fn settings(model: &Model<'_>) -> Settings {
    let mut settings = Settings::new(model, 16, 4);
    settings.kv.sharing = KvSharing::Last;
    settings
}

/// Three tokens, each tried until it works. Gives them with the errors on the way.
fn stubborn<S: Store>(session: &mut Session<'_>, store: &mut S) -> (Vec<u32>, Vec<SessionError>) {
    let (mut tokens, mut errors) = (Vec::new(), Vec::new());
    let mut next = (PROMPT.to_vec(), Feed::Prompt);
    while tokens.len() < 3 {
        session.feed(&next.0, next.1).unwrap();
        match session.run(store, &FixedDepth) {
            Ok(_) => {
                let token = ouro_runtime::sample::argmax(session.logits());
                tokens.push(token);
                next = (vec![token], Feed::Generated);
            }
            Err(error) => errors.push(error),
        }
    }
    (tokens, errors)
}

fn text(file: &[u8], span: Span) -> &str {
    std::str::from_utf8(&file[span.offset as usize..][..span.len]).unwrap()
}

/// What the sums in a file say.
fn sums(store: &mut MemoryStore<Vec<u8>>, gguf: &Gguf<'_>) -> Sums<Vec<u32>> {
    let array = checksums(store, gguf).unwrap().expect("quantize writes them");
    let mut sums = vec![0; array.count as usize];
    array.read_u32(store, &mut sums).unwrap();
    Sums { offset: gguf.data_offset(), sums }
}

/// What the store said, if the error names the tensor at its place in the file.
fn named(file: &[u8], gguf: &Gguf<'_>, error: SessionError) -> StoreError {
    let SessionError::Weights { matrix, error } = error else { panic!("{error:?}") };
    let holds = |offset, len| (offset..offset + len).contains(&error.offset());
    let at = gguf.tensors().iter().find(|tensor| holds(tensor.offset, tensor.len));
    let name = at.map(|tensor| text(file, tensor.name()));
    assert!(name.is_none_or(|name| name == matrix.to_string()), "{name:?}, {matrix}: {error}");
    error
}

/// Every read of a run goes wrong once, each in turn and in each way.
#[test]
fn every_fault_is_an_error_and_never_another_text() {
    let (_folder, path) = file();
    let mut memory = MemoryStore::new(fs::read(path).unwrap());
    let (gguf, model) = open(&mut memory);
    let sums = sums(&mut memory, &gguf);
    let (expected, none) = stubborn(&mut session(model, settings(model)), &mut memory);
    assert_eq!(none, []);
    const TILE: usize = 50_000;
    for fault in [Fault::Error(5), Fault::Short(1), Fault::Short(TILE), Fault::Flip { byte: 4097, mask: 4 }] {
        for at in 0.. {
            let faults = |load, _| (load == at).then_some(fault);
            let inner = Faulty::new(memory.clone(), faults, vec![0; TILE]);
            // Checked always: a bit may flip at any read, not only at the first.
            let mut store = Checked::new(inner, sums.clone(), Vec::new());
            let (tokens, errors) = stubborn(&mut session(model, settings(model)), &mut store);
            assert_eq!(tokens, expected, "{fault:?} at load {at}: {errors:?}");
            if store.inner().injected() == 0 {
                assert!(at > 40, "{at} loads");
                break;
            }
            let [error] = errors[..] else { panic!("{fault:?} at load {at}: {errors:?}") };
            let error = named(memory.bytes(), &gguf, error);
            match fault {
                Fault::Error(code) => {
                    assert!(matches!(error, StoreError::Io { code: found, .. } if found == code));
                }
                Fault::Short(_) | Fault::Flip { .. } => {
                    assert!(matches!(error, StoreError::Corrupt { span } if span.len <= 4096), "{error}");
                }
            }
        }
    }
}

/// At every load of a run in turn the medium goes away, under all that the host puts around it: every try is
/// an error that names the place, until the medium is back, and then the tokens are those of any other run.
#[test]
fn a_medium_that_goes_away_and_comes_back() {
    const ENODEV: i32 = 19;
    const RETRIES: u32 = 3;
    const TRIES: u64 = 2;
    let (_folder, path) = file();
    let mut memory = MemoryStore::new(fs::read(path).unwrap());
    let (gguf, model) = open(&mut memory);
    let sums = sums(&mut memory, &gguf);
    for sharing in KvSharing::ALL {
        let mut settings = settings(model);
        settings.kv.sharing = sharing;
        let (expected, none) = stubborn(&mut session(model, settings), &mut memory);
        assert_eq!(none, []);
        for at in 0.. {
            let away = at..at + TRIES * u64::from(1 + RETRIES);
            let faults = |load, _| away.contains(&load).then_some(Fault::Error(ENODEV));
            let faulty = Faulty::new(memory.clone(), faults, vec![0; 50_000]);
            let verified = vec![0; sums.sums.len().div_ceil(8)];
            let checked = Checked::new(faulty, sums.clone(), verified);
            let mut store = pinned(model, Retry::new(checked, RETRIES, |_| ()));
            let (tokens, errors) = stubborn(&mut session(model, settings), &mut store);
            assert_eq!(tokens, expected, "{sharing:?}, away from load {at}: {errors:?}");
            if store.inner().inner().inner().injected() == 0 {
                assert!(at > 30, "{at} loads");
                break;
            }
            assert_eq!(errors.len() as u64, TRIES, "{sharing:?}, away from load {at}: {errors:?}");
            for error in errors {
                let error = named(memory.bytes(), &gguf, error);
                assert!(matches!(error, StoreError::Io { code: ENODEV, .. }), "{error}");
            }
        }
    }
}

/// Whatever byte before the weights is another one, the file is refused, if by nothing else then by the
/// checksum, unless it is a letter of the checksum's own key: a file without one is as good as ever.
#[test]
fn any_change_of_the_metadata_is_noticed() {
    fn check(mut store: impl Store) -> Result<u64, ModelError> {
        let mut memory = vec![0u128; Gguf::arena_bytes(&mut store)?.div_ceil(16)];
        let gguf = Gguf::open(&mut store, &mut Arena::new(bytemuck::cast_slice_mut(&mut memory)))?;
        check_metadata(&mut store, &gguf).map(|()| gguf.data_offset())
    }
    let (_folder, path) = file();
    let mut bytes = fs::read(path).unwrap();
    let header = check(SliceStore::new(&bytes)).unwrap();
    assert_eq!(check(PagedStore::new(&bytes, MIN_TILE)), Ok(header), "by whatever tiles");
    let key = b"ouro.checksum.metadata";
    let own = bytes.windows(key.len()).position(|window| window == key).unwrap();
    let mut by_sum = 0;
    for at in (0..header as usize).step_by(5).filter(|at| !(own..own + key.len()).contains(at)) {
        bytes[at] ^= 0x10;
        let error = check(SliceStore::new(&bytes)).expect_err(&format!("byte {at}"));
        by_sum += u64::from(error == ModelError::MetadataChecksum);
        bytes[at] ^= 0x10;
    }
    assert!(by_sum > header / 20, "{by_sum} of a fifth of {header} bytes");
    bytes.truncate(header as usize + 100);
    assert!(matches!(check(SliceStore::new(&bytes)), Err(ModelError::Gguf(_))));
    for (key, value) in [("ouro.checksum.metadata", false), ("ouro.checksum.other", true)] {
        let file = GgufBuilder::new().u32(key, 7).build();
        assert_eq!(check(SliceStore::new(&file)).is_ok(), value, "{key}");
    }
}

/// Without checksums a store that gives too little is still noticed.
#[test]
fn too_little_is_an_error_without_checksums_too() {
    let mut memory = MemoryStore::new(fs::read(golden("mha/mha-Q8_0.gguf")).unwrap());
    let (_, model) = open(&mut memory);
    let (expected, _) = stubborn(&mut session(model, settings(model)), &mut memory);
    for missing in [1, 7000, usize::MAX] {
        for at in 0.. {
            let faults = |load, _| (load == at).then_some(Fault::Short(missing));
            let mut store = Faulty::new(memory.clone(), faults, vec![0; 20_000]);
            let (tokens, errors) = stubborn(&mut session(model, settings(model)), &mut store);
            assert_eq!(tokens, expected, "load {at}");
            if store.injected() == 0 {
                break;
            }
            assert_eq!(errors.len(), 1, "{missing} bytes missing at load {at}");
        }
    }
}

#[test]
fn retries_hide_what_fails_for_a_moment() {
    let mut memory = MemoryStore::new(fs::read(golden("mha/mha-Q8_0.gguf")).unwrap());
    let (_, model) = open(&mut memory);
    let expected = greedy(&mut session(model, settings(model)), &mut memory, &FixedDepth, &PROMPT, 3);
    let row = [(1, 1), (2, 2), (3, 2)];
    let faults = [Fault::Error(110), Fault::Short(1), Fault::Short(usize::MAX)];
    for ((in_a_row, retries), fault) in row.into_iter().flat_map(|row| faults.map(|fault| (row, fault))) {
        // Load 10, and its repetitions.
        let faults = |load, _| (10..10 + in_a_row).contains(&load).then_some(fault);
        let faulty = Faulty::new(memory.clone(), faults, vec![0; 20_000]);
        let mut waits = Vec::new();
        let mut store = Retry::new(faulty, retries, |retry| waits.push(retry));
        let found = greedy(&mut session(model, settings(model)), &mut store, &FixedDepth, &PROMPT, 3);
        let repeated = store.counters().retries;
        let left = (store.current(), store.tile().len());
        assert_eq!(repeated, u64::from(retries));
        assert_eq!(waits, (1..=retries).collect::<Vec<_>>());
        if in_a_row <= u64::from(retries) {
            assert_eq!(found, expected);
        } else {
            let SessionError::Weights { error, .. } = found.unwrap_err() else { panic!("{fault:?}") };
            assert_eq!(left, (Span::EMPTY, 0), "{fault:?}");
            match fault {
                Fault::Error(_) => assert!(matches!(error, StoreError::Io { code: 110, .. }), "{error}"),
                _ => assert!(matches!(error, StoreError::Short { .. }), "{error}"),
            }
        }
    }
    // What will not change is not asked for again.
    let mut store = Retry::new(memory, 5, |_| panic!("waits"));
    let beyond = Span { offset: store.len(), len: 1 };
    assert!(matches!(store.load(beyond, None), Err(StoreError::OutOfRange { .. })));
}

struct AtOnce;

impl ExitPolicy for AtOnce {
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    fn exit(&self, _: &LoopState<'_>) -> Option<Reason> {
        Some(Reason::Other("at once"))
    }
}

/// A prompt runs all its loops, whichever of them answers, and later tokens read what they leave.
#[test]
fn what_overflows_after_the_answer_is_noticed() {
    let mut memory = MemoryStore::new(fs::read(golden("mha/mha-f32.gguf")).unwrap());
    let (gguf, model) = open(&mut memory);
    let values =
        gguf.tensors().iter().find(|tensor| text(memory.bytes(), tensor.name()) == "blk.0.attn_v.weight");
    let values = values.unwrap().offset;
    for skips in [false, true] {
        let mut seen = 0;
        // The exponent of a weight, when it is read for the third loop.
        let faults = |_, span: Span| {
            let byte = values.checked_sub(span.offset).filter(|byte| *byte < span.len as u64)? as usize + 3;
            seen += 1;
            (seen == 3).then_some(Fault::Flip { byte, mask: 0x40 })
        };
        let mut store = Faulty::new(memory.clone(), faults, vec![0; 20_000]);
        let mut settings = settings(model);
        settings.kv.element = KvType::F16;
        let mut session = session(model, settings);
        session.feed(&PROMPT, Feed::Prompt).unwrap();
        if skips {
            session.skip_answer();
        }
        let found = session.run(&mut store, &AtOnce);
        assert_eq!((found, store.injected()), (Err(SessionError::NotANumber), 1), "skips: {skips}");
        // Nothing of it is in the cache.
        assert_eq!(session.position(), 0);
    }
}

/// A second look at the same medium, not at the bytes that were wrong.
#[test]
fn a_bit_that_flipped_on_its_way_is_read_again() {
    let (_folder, path) = file();
    let good = fs::read(&path).unwrap();
    let mut memory = MemoryStore::new(good.clone());
    let (gguf, _) = open(&mut memory);
    let sums = sums(&mut memory, &gguf);
    let at = good.len() - 5000;
    let small = Span { offset: at as u64, len: 10 };
    let tile = Span { offset: gguf.data_offset(), len: good.len() - gguf.data_offset() as usize };
    for (want, next) in [(small, None), (tile, None), (tile, Some(small))] {
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        let write = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            // So that it passes for the file that was opened.
            OpenOptions::new().write(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        let mut bad = good.clone();
        bad[at] ^= 8;
        write(&bad);
        let file = FileStore::open(&path, good.len()).unwrap();
        let checked = Checked::new(file, sums.clone(), Vec::new());
        let mut store = Retry::new(checked, 1, |_| write(&good));
        store.load(want, next).unwrap();
        assert_eq!(store.tile(), &good[want.offset as usize..][..want.len]);
        assert_eq!(store.counters().retries, 1);
    }
}

/// What happens to a file while it is in use.
#[test]
fn a_file_that_changes_under_a_run() {
    let cut = |path: &PathBuf| OpenOptions::new().write(true).open(path).unwrap().set_len(9000).unwrap();
    let overwrite = |path: &PathBuf| {
        let mut file = OpenOptions::new().write(true).open(path).unwrap();
        file.seek(SeekFrom::End(-100)).unwrap();
        file.write_all(&[7; 50]).unwrap();
        // Within one tick of a coarse clock the time of the change might not differ.
        file.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
    };
    let replace = |path: &PathBuf| {
        let other = path.with_extension("new");
        fs::write(&other, b"something else").unwrap();
        fs::rename(other, path).unwrap();
    };
    let remove = |path: &PathBuf| fs::remove_file(path).unwrap();
    // Whether the run can go on: the file that was opened is still there.
    type Change<'c> = &'c dyn Fn(&PathBuf);
    let cases: [(&str, Change<'_>, bool); 4] = [
        ("cut", &cut, false),
        ("overwritten", &overwrite, false),
        ("replaced", &replace, true),
        ("removed", &remove, true),
    ];
    for (name, change, goes_on) in cases {
        let (_folder, path) = file();
        let mut store = FileStore::open(&path, 20_000).unwrap();
        let (gguf, model) = open(&mut store);
        store.weights_begin(gguf.data_offset());
        let mut session = session(model, settings(model));
        let (expected, none) = stubborn(&mut session, &mut store);
        assert_eq!(none, []);
        session.clear();
        change(&path);
        // Before the weights lies what the tokenizer reads for each token.
        let vocabulary = Span { offset: gguf.data_offset() - 4000, len: 16 };
        let of_vocabulary = store.load(vocabulary, None);
        match of_vocabulary {
            Ok(()) => assert!(goes_on, "{name}"),
            Err(error) => {
                assert!(!goes_on && error == StoreError::Changed { span: vocabulary }, "{name}: {error}");
            }
        }
        session.feed(&PROMPT, Feed::Prompt).unwrap();
        match session.run(&mut store, &FixedDepth) {
            Ok(_) => {
                assert!(goes_on, "{name}");
                session.clear();
                assert_eq!(stubborn(&mut session, &mut store), (expected, vec![]), "{name}");
            }
            Err(SessionError::Weights { error: StoreError::Changed { .. }, .. }) => {
                assert!(!goes_on, "{name}");
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
}
