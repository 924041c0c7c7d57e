//! What a session promises beyond right numbers: bits that do not depend on how positions share
//! a pass or where weights come from, work that is not done in vain, and errors that harm nothing.

use ouro_runtime::depth::{ExitPolicy, FixedDepth, LoopState, Margin, Needs, QExit, Reason};
use ouro_runtime::depth::{StepDifference, TopProbability};
use ouro_runtime::kv::{KvSettings, KvSharing, KvType};
use ouro_runtime::session::{Feed, Session, SessionError, Settings};
use ouro_runtime::store::{Fault, Faulty, MIN_TILE, Store, StoreError};
use ouro_tests::PagedStore;
use ouro_tests::harness::{Loaded, golden, greedy, load, session};

const LIVELY: &str = "lively/lively-gate-f32.gguf";
const PROMPT: [u32; 12] = [175, 462, 33, 245, 459, 222, 73, 404, 493, 503, 476, 191];

fn settings(sharing: KvSharing, element: KvType, window: usize) -> Settings {
    let kv = KvSettings { sharing, element, window };
    Settings { context: 64, rows: 16, max_loops: 4, min_loops: 1, kv }
}

fn lively() -> Loaded {
    load(&golden(LIVELY))
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn sharing_a_pass_changes_no_bit() {
    let Loaded { mut store, model, .. } = lively();
    for element in [KvType::F32, KvType::F16, KvType::Int8, KvType::Int4] {
        let settings = settings(KvSharing::PerLoop, element, 0);
        let mut together = session(model, settings);
        together.feed(&PROMPT, Feed::Prompt).unwrap();
        together.run(&mut store, &FixedDepth).unwrap();
        for parts in [1, 5] {
            let mut apart = session(model, settings);
            for part in PROMPT.chunks(parts) {
                apart.feed(part, Feed::Prompt).unwrap();
                apart.run(&mut store, &FixedDepth).unwrap();
            }
            assert_eq!(bits(apart.logits()), bits(together.logits()), "{element:?}, {parts} at a time");
        }
    }
}

#[test]
fn every_store_gives_the_same_tokens() {
    let Loaded { mut store, model, .. } = lively();
    let file = std::fs::read(golden(LIVELY)).unwrap();
    let settings = settings(KvSharing::Last, KvType::F16, 3);
    let expected = greedy(&mut session(model, settings), &mut store, &QExit(0.4), &PROMPT, 24).unwrap();
    // A row of the widest matrix has 160 * 4 bytes; the whole file has about 740 KB.
    for buffer in [640, 4096, 100_000, file.len()] {
        let mut paged = PagedStore::new(&file, buffer);
        let turn = greedy(&mut session(model, settings), &mut paged, &QExit(0.4), &PROMPT, 24).unwrap();
        assert_eq!(turn, expected, "block buffer of {buffer} bytes");
    }
    let mut small = PagedStore::new(&file, MIN_TILE);
    let error = greedy(&mut session(model, settings), &mut small, &FixedDepth, &PROMPT, 1).unwrap_err();
    assert!(
        matches!(error, SessionError::Weights { error: StoreError::TooLarge { max: MIN_TILE, .. }, .. }),
        "{error:?}"
    );
}

#[test]
fn smaller_kv_types_stay_near() {
    // Half a unit in the last place, relative to a head's largest value, is 2^-11 in f16 and 1/254
    // in int8, 1/14 in int4. `lively` amplifies what is wrong with K and V through four loops; 20
    // times is much.
    let Loaded { mut store, model, .. } = lively();
    let mut logits = |sharing, element| {
        let mut session = session(model, settings(sharing, element, 3));
        session.feed(&PROMPT, Feed::Prompt).unwrap();
        session.run(&mut store, &FixedDepth).unwrap();
        for token in [7, 300, 12] {
            session.feed(&[token], Feed::Generated).unwrap();
            session.run(&mut store, &FixedDepth).unwrap();
        }
        session.logits().to_vec()
    };
    for sharing in [KvSharing::PerLoop, KvSharing::Last, KvSharing::Averaged] {
        let exact = logits(sharing, KvType::F32);
        let norm = |values: &[f32]| values.iter().map(|x| x * x).sum::<f32>().sqrt();
        for (element, bound) in
            [(KvType::F16, 20.0 / 2048.0), (KvType::Int8, 20.0 / 254.0), (KvType::Int4, 20.0 / 14.0)]
        {
            let near = logits(sharing, element);
            let difference: Vec<f32> = exact.iter().zip(&near).map(|(a, b)| a - b).collect();
            let relative = norm(&difference) / norm(&exact);
            println!("{sharing:?} {element:?}: relative error {relative:.1e}");
            assert!(relative > 0.0 && relative < bound, "{sharing:?} {element:?}: {relative}");
        }
    }
}

#[test]
fn loops_not_needed_are_neither_computed_nor_fetched() {
    let Loaded { mut store, model, .. } = lively();
    let mut cost = |policy: &dyn ExitPolicy| {
        let mut session = session(model, settings(KvSharing::Last, KvType::F32, 3));
        let before = store.counters().bytes;
        let turn = greedy(&mut session, &mut store, policy, &PROMPT, 24).unwrap();
        let counters = session.counters();
        // The first token comes from the prompt, which runs all its loops.
        let generated: usize = turn.depths.iter().skip(1).sum();
        assert_eq!(counters.generated_loops, generated as u64);
        assert_eq!(counters.prompt_loops, 4 * PROMPT.len() as u64);
        assert_eq!(counters.passes, 4 + generated as u64);
        (counters, store.counters().bytes - before)
    };
    let (fixed, fixed_bytes) = cost(&FixedDepth);
    let (early, early_bytes) = cost(&QExit(0.2));
    assert_eq!((fixed.passes, fixed.heads, early.heads), (4 + 23 * 4, 24, 24));
    let stack: u64 = fixed_bytes / fixed.passes;
    let saved = fixed.passes - early.passes;
    assert!(saved > 40, "{saved} passes saved");
    // Heads and embeddings are the same in both, so what is saved is whole passes of the stack.
    assert_eq!((fixed_bytes - early_bytes) % saved, 0);
    assert!((fixed_bytes - early_bytes) / saved <= stack);
}

#[test]
fn policies_within_their_bounds() {
    let Loaded { mut store, model, .. } = lively();
    let mut run = |policy: &dyn ExitPolicy, min_loops, max_loops| {
        let settings =
            Settings { min_loops, max_loops, ..settings(KvSharing::Last, KvType::F32, max_loops - 1) };
        greedy(&mut session(model, settings), &mut store, policy, &PROMPT, 24).unwrap()
    };
    let cases: [(&dyn ExitPolicy, &str); 4] = [
        (&QExit(0.4), "gate"),
        (&TopProbability(0.05), "confidence"),
        (&Margin(0.02), "margin"),
        (&StepDifference(0.9), "step"),
    ];
    for (policy, reason) in cases {
        let free = run(policy, 1, 4);
        assert!(free.reasons.contains(&reason), "{reason}: {:?}", free.reasons);
        for (depth, reason) in free.depths.iter().zip(&free.reasons) {
            assert_eq!(*depth == 4, *reason == "fixed", "depth {depth} for reason {reason}");
        }
        assert!(run(policy, 3, 4).depths.iter().all(|depth| (3..=4).contains(depth)), "{reason}");
        assert!(run(policy, 2, 2).depths.iter().all(|depth| *depth == 2), "{reason}");
        assert!(run(policy, 1, 6).depths.iter().all(|depth| (1..=6).contains(depth)), "{reason}");
    }
}

/// A policy from outside the crate.
struct SecondLoop;

impl ExitPolicy for SecondLoop {
    fn needs(&self) -> Needs {
        Needs { gate: false, logits: true }
    }

    fn exit(&self, state: &LoopState<'_>) -> Option<Reason> {
        assert_eq!((state.logits.len(), state.hidden.len(), state.previous.len()), (512, 64, 64));
        (state.loops == 2).then_some(Reason::Other("second"))
    }
}

#[test]
fn a_policy_of_ones_own() {
    let Loaded { mut store, model, .. } = lively();
    let settings = settings(KvSharing::Last, KvType::F32, 3);
    let turn = greedy(&mut session(model, settings), &mut store, &SecondLoop, &PROMPT, 8).unwrap();
    assert_eq!((turn.depths, turn.reasons), (vec![2; 8], vec!["second"; 8]));
}

/// Feeds until it works; gives the number of failures.
fn stubborn<S: Store>(session: &mut Session<'_>, store: &mut S, tokens: &[u32], feed: Feed) -> usize {
    for failures in 0.. {
        session.feed(tokens, feed).unwrap();
        match session.run(store, &QExit(0.4)) {
            Ok(_) => return failures,
            Err(error) => {
                assert!(
                    matches!(error, SessionError::Weights { error: StoreError::Io { .. }, .. }),
                    "{error}"
                );
            }
        }
    }
    unreachable!()
}

#[test]
fn any_failed_read_is_survived() {
    let Loaded { store, model, .. } = lively();
    for sharing in [KvSharing::PerLoop, KvSharing::Last, KvSharing::Averaged] {
        let run = |fails_at| {
            let faults = |load, _| (load == fails_at).then_some(Fault::Error(5));
            let mut store = Faulty::new(store.clone(), faults, vec![0; 800_000]);
            let mut session = session(model, settings(sharing, KvType::Int8, 3));
            let mut failures = stubborn(&mut session, &mut store, &PROMPT, Feed::Prompt);
            for token in [7, 300, 12] {
                failures += stubborn(&mut session, &mut store, &[token], Feed::Generated);
            }
            (bits(session.logits()), failures)
        };
        let (expected, none) = run(u64::MAX);
        assert_eq!(none, 0);
        let mut failed = 0;
        for fails_at in 0.. {
            let (logits, failures) = run(fails_at);
            assert_eq!(logits, expected, "{sharing:?}, load {fails_at} failed");
            if failures == 0 {
                break;
            }
            failed += failures;
        }
        assert!(failed > 20, "{failed} failures");
    }
}

#[test]
fn refusals_name_the_sizes_and_leave_the_session_usable() {
    let Loaded { mut store, model, .. } = lively();
    let settings = Settings { context: 20, ..settings(KvSharing::Last, KvType::F16, 3) };
    let mut session = session(model, settings);
    let long = [1; 17];
    assert_eq!(session.feed(&long, Feed::Prompt), Err(SessionError::Prompt { found: 17, rows: 16 }));
    assert_eq!(session.feed(&[], Feed::Prompt), Err(SessionError::Prompt { found: 0, rows: 16 }));
    assert_eq!(session.feed(&[1, 512], Feed::Prompt), Err(SessionError::Token { token: 512, vocab: 512 }));
    assert_eq!(session.feed(&[1, 2], Feed::Generated), Err(SessionError::Generated { found: 2 }));
    assert_eq!(session.step(&mut store, &FixedDepth), Err(SessionError::NothingInFlight));
    session.feed(&PROMPT, Feed::Prompt).unwrap();
    session.run(&mut store, &FixedDepth).unwrap();
    assert_eq!(session.feed(&[1; 9], Feed::Prompt), Err(SessionError::Context { wanted: 21, context: 20 }));
    session.feed(&[1; 8], Feed::Prompt).unwrap();
    session.run(&mut store, &FixedDepth).unwrap();
    assert_eq!(session.position(), 20);

    let without_gate = load(&golden("mha/mha-f32.gguf"));
    let mut session = self::session(without_gate.model, settings);
    session.feed(&[1], Feed::Prompt).unwrap();
    let mut store = without_gate.store;
    assert_eq!(session.step(&mut store, &QExit(0.5)), Err(SessionError::NoGate));
}

#[test]
fn senseless_settings_are_refused() {
    let Loaded { model, .. } = lively();
    let sane = settings(KvSharing::Last, KvType::F16, 3);
    for (setting, settings) in [
        ("loops", Settings { max_loops: 0, ..sane }),
        ("loops", Settings { max_loops: 256, ..sane }),
        ("minimum loops", Settings { min_loops: 5, ..sane }),
        ("minimum loops", Settings { min_loops: 0, ..sane }),
        ("context", Settings { context: 0, ..sane }),
        ("context", Settings { rows: 0, ..sane }),
        ("context", Settings { rows: 65, ..sane }),
    ] {
        match Session::arena_bytes(model, &settings) {
            Err(SessionError::Setting { setting: found, .. }) => assert_eq!(found, setting),
            other => panic!("{setting}: {other:?}"),
        }
    }
    let huge = Settings { context: usize::MAX / 8, ..sane };
    assert!(matches!(Session::arena_bytes(model, &huge), Err(SessionError::Arena(_))));
}

#[test]
fn a_window_larger_than_the_context_is_the_context() {
    let Loaded { mut store, model, .. } = lively();
    let mut run = |window| {
        let settings = Settings { context: 20, ..settings(KvSharing::Last, KvType::F16, window) };
        let mut session = session(model, settings);
        greedy(&mut session, &mut store, &QExit(0.4), &PROMPT, 8).unwrap();
        (Session::arena_bytes(model, &settings), bits(session.logits()))
    };
    assert!(run(20) == run(21) && run(20) == run(usize::MAX) && run(20) != run(2));
}

#[test]
fn an_arena_one_byte_too_small() {
    let Loaded { model, .. } = lively();
    let settings = settings(KvSharing::Averaged, KvType::Int8, 3);
    let bytes = Session::arena_bytes(model, &settings).unwrap();
    let mut arena = ouro_tests::harness::arena(bytes);
    let mut rest = arena.scratch();
    rest.take::<u8>(1).unwrap();
    let error = Session::new(model, settings, &mut rest).map(drop).unwrap_err();
    assert!(matches!(error, SessionError::Arena(_)), "{error}");
}
