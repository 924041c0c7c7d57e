//! Saved caches: what is restored goes on with the same bits, and what can't be is refused by name.

use ouro_runtime::depth::{
    Bucket, Budget, ExitPolicy, FixedDepth, LOOP, Left, QExit, Reason, TopProbability,
};
use ouro_runtime::kernels::Backend;
use ouro_runtime::kv::{KvSettings, KvSharing, KvType};
use ouro_runtime::session::{Feed, Identity, RestoreError, Session, Settings, StateError};
use ouro_runtime::store::MemoryStore;
use ouro_tests::PagedStore;
use ouro_tests::harness::{Loaded, golden, load, open, session};
use ouro_tests::model_draft::{Draft, draft};

const LIVELY: &str = "lively/lively-gate-f32.gguf";
const PROMPT: [u32; 12] = [175, 462, 33, 245, 459, 222, 73, 404, 493, 503, 476, 191];
const IDENTITY: Identity = Identity { model: 1, tokenizer: 2 };
const TYPES: [KvType; 4] = [KvType::F32, KvType::F16, KvType::Int8, KvType::Int4];

fn settings(sharing: KvSharing, element: KvType, window: usize, context: usize) -> Settings {
    let kv = KvSettings { sharing, element, window };
    Settings { context, rows: 12, max_loops: 4, min_loops: 1, kv }
}

fn save(session: &mut Session<'_>, note: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let saved: Result<(), ()> = session.save(&IDENTITY, note, |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    });
    saved.unwrap();
    bytes
}

/// The bytes ended too soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ended;

fn restore(
    session: &mut Session<'_>,
    identity: Identity,
    bytes: &[u8],
) -> Result<Vec<u8>, RestoreError<Ended>> {
    let mut left = bytes;
    let mut note = [0; 16];
    let len = session.restore(&identity, &mut note, |piece| {
        let (now, later) = left.split_at_checked(piece.len()).ok_or(Ended)?;
        piece.copy_from_slice(now);
        left = later;
        Ok(())
    })?;
    assert!(left.is_empty(), "all of it is needed");
    Ok(note[..len].to_vec())
}

/// Feeds some tokens, and gives the logits and the depth after each.
fn go_on(session: &mut Session<'_>, store: &mut MemoryStore<Vec<u8>>) -> Vec<(Vec<u32>, usize)> {
    let feeds: [(&[u32], Feed); 6] = [
        (&[7], Feed::Generated),
        (&[300], Feed::Generated),
        (&[5, 6, 7, 8, 9], Feed::Prompt),
        (&[12], Feed::Generated),
        (&[13], Feed::Generated),
        (&[14], Feed::Generated),
    ];
    let after = |(tokens, feed): (&[u32], Feed)| {
        session.feed(tokens, feed).unwrap();
        let depth = session.run(store, &QExit(0.4)).unwrap();
        (session.logits().iter().map(|logit| logit.to_bits()).collect(), depth.loops)
    };
    feeds.map(after).to_vec()
}

#[test]
fn what_is_restored_goes_on_with_the_same_bits() {
    let Loaded { mut store, model, .. } = load(&golden(LIVELY));
    let windows = TYPES.into_iter().flat_map(|element| [0, 3, 20, 100].map(|window| (element, window)));
    let all = windows.flat_map(|kv| [Backend::REFERENCE, Backend::SCALAR].map(|backend| (kv, backend)));
    for sharing in KvSharing::ALL {
        for ((element, window), backend) in all.clone() {
            let session = |settings| {
                let mut session = session(model, settings);
                session.set_backend(backend);
                session
            };
            let mut first = session(settings(sharing, element, window, 40));
            first.feed(&PROMPT, Feed::Prompt).unwrap();
            first.run(&mut store, &FixedDepth).unwrap();
            go_on(&mut first, &mut store);
            let saved = save(&mut first, b"a note");
            let expected = go_on(&mut first, &mut store);
            // In a larger cache, and in one that was in use.
            for context in [40, 64] {
                let mut second = session(settings(sharing, element, window, context));
                second.feed(&PROMPT[..5], Feed::Prompt).unwrap();
                second.run(&mut store, &FixedDepth).unwrap();
                assert_eq!(restore(&mut second, IDENTITY, &saved).unwrap(), b"a note");
                assert_eq!((second.position(), &second.ids()[..12]), (22, &PROMPT[..]));
                assert_eq!(&second.ids()[12..], [7, 300, 5, 6, 7, 8, 9, 12, 13, 14]);
                assert_eq!(save(&mut second, b"a note"), saved, "the same bytes");
                let found = go_on(&mut second, &mut store);
                assert_eq!(
                    found, expected,
                    "{sharing:?} {element:?}, window {window}, context {context}, {backend:?}"
                );
            }
        }
    }
}

#[test]
fn an_empty_cache_is_a_state_too() {
    let Loaded { model, .. } = load(&golden(LIVELY));
    let settings = settings(KvSharing::Last, KvType::F16, 3, 20);
    let saved = save(&mut session(model, settings), b"");
    let mut other = session(model, settings);
    assert_eq!(restore(&mut other, IDENTITY, &saved), Ok(Vec::new()));
    assert_eq!(other.position(), 0);
}

/// A session over a tiny model, with a few positions in its cache.
fn tiny(sharing: KvSharing, store: &mut MemoryStore<Vec<u8>>) -> Session<'static> {
    let (_, model) = open(store);
    let kv = KvSettings { sharing, element: KvType::Int8, window: 1 };
    let mut session = session(model, Settings { context: 6, rows: 4, max_loops: 2, min_loops: 1, kv });
    session.feed(&[1, 2, 3], Feed::Prompt).unwrap();
    session.run(store, &FixedDepth).unwrap();
    session
}

#[test]
fn every_truncation_and_every_changed_byte_is_refused() {
    for sharing in KvSharing::ALL {
        let mut store = MemoryStore::new(Draft { seed: Some(3), ..draft() }.build());
        let mut session = tiny(sharing, &mut store);
        let saved = save(&mut session, b"note");
        for len in 0..saved.len() {
            let error = restore(&mut session, IDENTITY, &saved[..len]);
            assert_eq!(error, Err(RestoreError::Source(Ended)), "{len} bytes");
        }
        for at in 0..saved.len() {
            for change in [1, 0x80, 0xFF] {
                let mut bytes = saved.clone();
                bytes[at] ^= change;
                let error = restore(&mut session, IDENTITY, &bytes).expect_err("refused");
                // A longer note reads past the end.
                let ended = RestoreError::Source(Ended);
                assert!(matches!(error, RestoreError::State(_)) || error == ended, "{at}: {error:?}");
                assert_eq!(session.position(), 0);
            }
        }
        restore(&mut session, IDENTITY, &saved).unwrap();
        session.feed(&[4], Feed::Generated).unwrap();
        session.run(&mut store, &FixedDepth).unwrap();
    }
}

#[test]
fn what_is_foreign_is_refused_by_name() {
    let Loaded { mut store, model, .. } = load(&golden(LIVELY));
    let here = settings(KvSharing::Last, KvType::F16, 3, 20);
    let mut from = session(model, here);
    from.feed(&PROMPT, Feed::Prompt).unwrap();
    from.run(&mut store, &FixedDepth).unwrap();
    let saved = save(&mut from, b"a note of nineteen.");
    let with = |kv: KvSettings| Settings { kv, ..here };
    let cases = [
        (here, Identity { model: 9, ..IDENTITY }, "another model"),
        (here, Identity { tokenizer: 9, ..IDENTITY }, "another tokenizer"),
        (with(KvSettings { sharing: KvSharing::Averaged, ..here.kv }), IDENTITY, "K/V sharing last"),
        (with(KvSettings { element: KvType::Int8, ..here.kv }), IDENTITY, "bits of a K or V 16"),
        (with(KvSettings { window: 2, ..here.kv }), IDENTITY, "KV window 3, but here it is 2"),
        (Settings { max_loops: 3, ..here }, IDENTITY, "largest depth 4, but here it is 3"),
        (Settings { context: 11, rows: 11, ..here }, IDENTITY, "12 positions were saved"),
        (here, IDENTITY, "the note has 19 bytes, but there is room for 16"),
    ];
    for (settings, identity, words) in cases {
        let error = restore(&mut session(model, settings), identity, &saved).unwrap_err();
        let RestoreError::State(error) = error else { panic!("{error:?}") };
        assert!(error.to_string().contains(words), "{words:?} expected in {error}");
    }
    let mut integers = session(model, here);
    integers.set_backend(Backend::SCALAR);
    let error = restore(&mut integers, IDENTITY, &saved).unwrap_err();
    let setting = "integer arithmetic (0 no, 1 yes)";
    assert_eq!(error, RestoreError::State(StateError::Setting { setting, found: 0, expected: 1 }));
    let error = restore(&mut integers, IDENTITY, &std::fs::read(golden(LIVELY)).unwrap()).unwrap_err();
    assert_eq!(error, RestoreError::State(StateError::NotAState));
}

#[test]
fn models_and_tokenizers_are_told_apart() {
    let identity = |bytes: Vec<u8>| {
        let mut store = MemoryStore::new(bytes.clone());
        let (gguf, model) = open(&mut store);
        let identity = Identity::of(&mut store, &gguf, model).unwrap();
        let mut paged = PagedStore::new(&bytes, 600);
        assert_eq!(Identity::of(&mut paged, &gguf, model).unwrap(), identity, "any store tells the same");
        identity
    };
    let seeded = |seed| Draft { seed: Some(seed), ..draft() };
    let one = identity(seeded(1).build());
    assert_eq!(identity(seeded(1).build()), one);
    assert_ne!(identity(seeded(2).build()).model, one.model, "other weights");
    assert_ne!(identity(Draft { theta: 20_000.0, ..seeded(1) }.build()).model, one.model, "other angles");
    let poisoned = Draft { poison: Some(("blk.0.ffn_up", 7.0)), ..seeded(1) };
    assert_ne!(identity(poisoned.build()).model, one.model, "one weight in the middle of a tensor");
    let tokens = |file: ouro_tests::GgufBuilder| file.string("tokenizer.ggml.pre", "smollm");
    let other = identity(Draft { extra: tokens, ..seeded(1) }.build());
    assert_eq!((other.model, other.tokenizer == one.tokenizer), (one.model, false));
}

/// Of a budget the buckets, and whether it is in fallback, go on as they stood; of another budget nothing.
#[test]
fn what_was_left_of_the_same_budget_is_left() {
    let Loaded { mut store, model, .. } = load(&golden(LIVELY));
    let loops = Bucket { rate: 2 * LOOP, burst: 4 * LOOP, resume: 3 * LOOP };
    let bytes = Bucket { rate: 1 << 40, burst: 1 << 41, resume: 1 << 40 };
    let budget = Budget { loops: Some(loops), bytes: Some(bytes), ..Budget::UNLIMITED };
    let begun = |budget, store: &MemoryStore<Vec<u8>>| {
        let mut session = session(model, settings(KvSharing::Last, KvType::F16, 3, 40));
        session.set_budget(budget, store).unwrap();
        session
    };
    let next = |session: &mut Session<'_>, store: &mut MemoryStore<Vec<u8>>, tokens: usize| {
        let token = |id| {
            session.feed(&[id], Feed::Generated).unwrap();
            let depth = session.run(store, &FixedDepth).unwrap();
            (depth.loops, depth.reason, session.budget_left(), session.is_in_fallback())
        };
        (0..tokens as u32).map(token).collect::<Vec<_>>()
    };
    // By hand: 4 are saved up, every token adds 2 and wants 4; the third finds 2.
    let by_hand: [(usize, Reason); 8] = [
        (4, Reason::Fixed),
        (4, Reason::Fixed),
        (2, Reason::Budget),
        (1, Reason::Fallback),
        (1, Reason::Fallback),
        (1, Reason::Fallback),
        (4, Reason::Fixed),
        (3, Reason::Budget),
    ];
    for before in 0..by_hand.len() {
        let mut first = begun(budget, &store);
        first.feed(&PROMPT, Feed::Prompt).unwrap();
        first.run(&mut store, &FixedDepth).unwrap();
        next(&mut first, &mut store, before);
        let saved = save(&mut first, b"");
        let expected = next(&mut first, &mut store, 10);
        let depths: Vec<_> = expected.iter().map(|(loops, reason, ..)| (*loops, *reason)).collect();
        assert_eq!(depths[..by_hand.len() - before], by_hand[before..]);
        // In a session whose own budget was used.
        let mut second = begun(budget, &store);
        next(&mut second, &mut store, 7 - before);
        restore(&mut second, IDENTITY, &saved).unwrap();
        assert_eq!(save(&mut second, b""), saved, "the same bytes");
        assert_eq!(next(&mut second, &mut store, 10), expected, "after {before} tokens");

        // What heat does to the rate is another thing than what was asked for.
        first.set_loop_rate(LOOP).unwrap();
        let cooler = save(&mut first, b"");
        let left = first.budget_left();
        let mut cool = begun(budget, &store);
        restore(&mut cool, IDENTITY, &cooler).unwrap();
        assert_eq!(cool.budget_left(), left, "after {before} tokens");

        let wider = Budget { loops: Some(Bucket { burst: 5 * LOOP, ..loops }), ..budget };
        let mut other = begun(wider, &store);
        restore(&mut other, IDENTITY, &saved).unwrap();
        let full = Left { loops: Some(5000), bytes: Some(1 << 41), ..Left::default() };
        assert_eq!((other.budget_left(), other.is_in_fallback()), (full, false), "another budget is full");
        let mut without = session(model, settings(KvSharing::Last, KvType::F16, 3, 40));
        restore(&mut without, IDENTITY, &saved).unwrap();
        assert_eq!(without.budget_left(), Left::default());
    }
}

/// Parts of a prompt whose answer is skipped leave the same cache behind, and no head is computed.
#[test]
fn a_skipped_answer_changes_nothing_later() {
    let Loaded { mut store, model, .. } = load(&golden(LIVELY));
    let policies: [&dyn ExitPolicy; 3] = [&FixedDepth, &QExit(0.4), &TopProbability(0.05)];
    for (sharing, policy) in
        KvSharing::ALL.iter().flat_map(|sharing| policies.map(|policy| (*sharing, policy)))
    {
        let window = if sharing == KvSharing::PerLoop { 0 } else { 3 };
        let mut read = |skips: bool| {
            let mut session = session(model, settings(sharing, KvType::F16, window, 64));
            for (part, feed) in [(&PROMPT[..5], Feed::Prompt), (&PROMPT[5..10], Feed::More)] {
                session.feed(part, feed).unwrap();
                if skips {
                    session.skip_answer();
                }
                let depth = session.run(&mut store, policy).unwrap();
                assert!(!skips || (depth.loops, depth.reason) == (4, Reason::Fixed), "{depth:?}");
            }
            let heads = session.counters().heads;
            session.feed(&PROMPT[10..], Feed::More).unwrap();
            let answer = session.run(&mut store, policy).unwrap();
            let saved = save(&mut session, b"");
            session.feed(&[7], Feed::Generated).unwrap();
            session.skip_answer();
            let next = session.run(&mut store, policy).unwrap();
            let logits: Vec<_> = session.logits().iter().map(|logit| logit.to_bits()).collect();
            (heads, (answer, saved, next, logits))
        };
        let ((asked, expected), (skipped, found)) = (read(false), read(true));
        assert!(asked >= 2 && skipped == 0, "{sharing:?}: {asked} heads, {skipped}");
        assert!(found == expected, "{sharing:?}");
    }
}
