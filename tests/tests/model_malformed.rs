//! Well-formed GGUF files that are no model: each is wrong in one way, and the error names it.

use ouro_runtime::arena::Arena;
use ouro_runtime::gguf::Gguf;
use ouro_runtime::model::{Model, ModelError, checksums};
use ouro_runtime::store::{MIN_TILE, SliceStore, Store};
use ouro_tests::model_draft::{Draft, HIDDEN, draft};
use ouro_tests::{GgufBuilder, PagedStore, assert_helpful, check_model, soon, value_type};
use std::path::Path;
use std::{env, fs};

fn open<S: Store>(store: &mut S) -> Result<(), ModelError> {
    let bytes = Gguf::arena_bytes(store)?;
    let mut memory = vec![0u128; bytes.div_ceil(16)];
    let gguf = Gguf::open(store, &mut Arena::new(bytemuck::cast_slice_mut(&mut memory)))?;
    checksums(store, &gguf)?;
    let bytes = Model::arena_bytes(store, &gguf)?;
    assert!(bytes < 1 << 16, "{bytes} bytes of arena for a tiny file");
    let mut memory = vec![0u128; bytes.div_ceil(16)];
    Model::open(store, &gguf, &mut Arena::new(bytemuck::cast_slice_mut(&mut memory))).map(drop)
}

fn llama() -> Draft {
    draft()
        .unset("num_loops")
        .without("blk.0.post_attention_norm")
        .without("blk.0.post_ffw_norm")
        .with(|draft| (draft.architecture, draft.gate, draft.gate_bias) = ("llama", vec![], None))
}

/// A second layer like the first.
fn two_layers() -> Draft {
    let layer = draft()
        .tensors
        .into_iter()
        .filter_map(|(name, dims)| Some((format!("blk.1.{}", name.strip_prefix("blk.0.")?), dims)));
    draft().set("block_count", 2).with(|draft| draft.tensors.extend(layer))
}

#[test]
fn each_fault_is_named() {
    /// A name, a draft, its error, and what the message says: what was found and what was expected.
    type Case = (&'static str, Draft, fn(&ModelError) -> bool, &'static [&'static str]);
    use ModelError::*;
    let cases: Vec<Case> = vec![
        (
            "other architecture",
            draft().with(|d| d.architecture = "mamba"),
            |e| matches!(e, UnknownArchitecture { .. }),
            &["mamba", "expected \"ouro\" or \"llama\""],
        ),
        (
            "long architecture",
            draft().with(|d| {
                d.architecture = "ouroouroouroouroouroouroouroouroouroouroouroouroouroouroouroouroouro";
            }),
            |e| matches!(e, UnknownArchitecture { .. }),
            &["ouro", "expected \"ouro\" or \"llama\""],
        ),
        (
            "no block count",
            draft().unset("block_count"),
            |e| matches!(e, MissingKey { .. }),
            &["ouro.block_count", "expected in such a file"],
        ),
        (
            "no loops",
            draft().unset("num_loops"),
            |e| matches!(e, MissingKey { .. }),
            &["ouro.num_loops", "expected in such a file"],
        ),
        (
            "no context",
            draft().unset("context_length"),
            |e| matches!(e, MissingKey { .. }),
            &["ouro.context_length", "expected in such a file"],
        ),
        (
            "no heads",
            draft().unset("attention.head_count"),
            |e| matches!(e, MissingKey { .. }),
            &["attention.head_count", "expected in such a file"],
        ),
        (
            "T = 0",
            draft().set("num_loops", 0),
            |e| matches!(e, OutOfRange { .. }),
            &["num_loops\" is 0", "expected 1 to 255"],
        ),
        (
            "T = 256",
            draft().set("num_loops", 256),
            |e| matches!(e, OutOfRange { .. }),
            &["num_loops\" is 256", "expected 1 to 255"],
        ),
        (
            "no layers",
            draft().set("block_count", 0),
            |e| matches!(e, OutOfRange { .. }),
            &["block_count\" is 0", "expected 1 to 4096"],
        ),
        (
            "too many layers",
            draft().set("block_count", u32::MAX),
            |e| matches!(e, OutOfRange { .. }),
            &["4294967295", "expected 1 to 4096"],
        ),
        (
            "layers that are a lie",
            draft().set("block_count", 4096),
            |e| matches!(e, MissingTensor { .. }),
            &["blk.1.attn_norm.weight", "expected in such a model"],
        ),
        (
            "more heads than values",
            draft().set("attention.head_count", 16).set("attention.head_count_kv", 16),
            |e| matches!(e, Contradiction { .. }),
            &[
                "attention.head_count\" is 16, and embedding_length is 8",
                "expected the first to divide the second, or attention.key_length to be given",
            ],
        ),
        (
            "heads too wide together",
            draft()
                .set("attention.head_count", 65537)
                .set("attention.head_count_kv", 1)
                .set("attention.key_length", 65536),
            |e| matches!(e, Contradiction { .. }),
            &[
                "\"attention.key_length\" is 65536, and attention.head_count is 65537",
                "expected a product of at most 1048576",
            ],
        ),
        (
            "a layer that is not there",
            draft().set("block_count", 2),
            |e| matches!(e, MissingTensor { .. }),
            &["blk.1.", "expected in such a model"],
        ),
        (
            "no query heads",
            draft().set("attention.head_count", 0),
            |e| matches!(e, OutOfRange { .. }),
            &["attention.head_count\" is 0", "expected 1 to 1048576"],
        ),
        (
            "KV heads do not divide",
            draft().set("attention.head_count", 4).set("attention.head_count_kv", 3),
            |e| matches!(e, Contradiction { .. }),
            &[
                "head_count_kv\" is 3, and attention.head_count is 4",
                "expected the first to divide the second",
            ],
        ),
        (
            "odd heads",
            draft().set("attention.key_length", 3),
            |e| matches!(e, Contradiction { .. }),
            &["key_length\" is 3", "expected heads of an even width"],
        ),
        (
            "heads that do not add up",
            draft().set("attention.head_count", 3).set("attention.head_count_kv", 3),
            |e| matches!(e, Contradiction { .. }),
            &[
                "attention.head_count\" is 3",
                "embedding_length is 8",
                "expected the first to divide the second",
            ],
        ),
        (
            "values of another width",
            draft().set("attention.value_length", 6),
            |e| matches!(e, Contradiction { .. }),
            &["value_length\" is 6, and the width of a head is 4", "expected the same"],
        ),
        (
            "partial rope",
            draft().set("rope.dimension_count", 2),
            |e| matches!(e, Contradiction { .. }),
            &["rope.dimension_count\" is 2, and the width of a head is 4", "expected the same"],
        ),
        (
            "embedding of another width",
            draft().set("embedding_length", 16),
            |e| matches!(e, Contradiction { .. }),
            &["embedding_length\" is 16, and the row length of token_embd.weight is 8", "expected the same"],
        ),
        (
            "another vocabulary",
            draft().set("vocab_size", 11),
            |e| matches!(e, Contradiction { .. }),
            &["vocab_size\" is 11, and the number of rows of token_embd.weight is 10", "expected the same"],
        ),
        (
            "huge width",
            draft().set("feed_forward_length", 1 << 21),
            |e| matches!(e, OutOfRange { .. }),
            &["2097152", "expected 1 to 1048576"],
        ),
        (
            "another FFN width",
            draft().set("feed_forward_length", 16),
            |e| matches!(e, Shape { .. }),
            &["ffn_", "12", "expected [8, 16] from the metadata"],
        ),
        (
            "theta is 0",
            draft().with(|d| d.theta = 0.0),
            |e| matches!(e, NotPositive { .. }),
            &["rope.freq_base\" is 0.000000", "expected a finite number above 0"],
        ),
        (
            "theta is NaN",
            draft().with(|d| d.theta = f32::NAN),
            |e| matches!(e, NotPositive { .. }),
            &["rope.freq_base\" is NaN", "expected a finite number above 0"],
        ),
        (
            "norm between loops skipped",
            draft().with(|d| d.extra = |f| f.bool("ouro.skip_loop_final_norm", true)),
            |e| matches!(e, SkipsLoopNorm),
            &["skip_loop_final_norm", "true", "expected false"],
        ),
        (
            "stretched positions",
            draft().with(|d| d.extra = |f| f.string("ouro.rope.scaling.type", "yarn")),
            |e| matches!(e, RopeScaling { .. }),
            &["rope.scaling.type is \"yarn\"", "expected \"none\""],
        ),
        (
            "a string for a number",
            draft().unset("num_loops").with(|d| d.extra = |f| f.string("ouro.num_loops", "4")),
            |e| matches!(e, Gguf(_)),
            &["num_loops", "string", "expected an integer"],
        ),
        (
            "no embedding",
            draft().without("token_embd"),
            |e| matches!(e, MissingTensor { .. }),
            &["token_embd.weight", "expected in such a model"],
        ),
        (
            "no output norm",
            draft().without("output_norm"),
            |e| matches!(e, MissingTensor { .. }),
            &["output_norm.weight", "expected in such a model"],
        ),
        (
            "no K",
            draft().without("blk.0.attn_k"),
            |e| matches!(e, MissingTensor { .. }),
            &["blk.0.attn_k.weight", "expected in such a model"],
        ),
        (
            "no post norm",
            draft().without("blk.0.post_ffw_norm"),
            |e| matches!(e, MissingTensor { .. }),
            &["post_ffw_norm", "expected in such a model"],
        ),
        (
            "post norms in a llama",
            llama().shape("blk.0.post_ffw_norm", &[HIDDEN]),
            |e| matches!(e, UnknownTensor { .. }),
            &["blk.0.post_ffw_norm.weight", "expected none but its own"],
        ),
        (
            "a bias",
            draft().shape("blk.0.attn_q.bias", &[8]),
            |e| matches!(e, UnknownTensor { .. }),
            &["attn_q.bias", "expected none but its own"],
        ),
        (
            "one layer too many",
            draft().shape("blk.1.attn_norm", &[HIDDEN]),
            |e| matches!(e, UnknownTensor { .. }),
            &["blk.1.attn_norm", "expected none but its own"],
        ),
        (
            "transposed Q",
            draft().shape("blk.0.attn_q", &[4, 16]),
            |e| matches!(e, Shape { .. }),
            &["[4, 16]", "expected [8, 8] from the metadata"],
        ),
        (
            "three dimensions",
            draft().shape("blk.0.attn_q", &[8, 4, 2]),
            |e| matches!(e, Shape { .. }),
            &["blk.0.attn_q", "[8, 4, 2, 1]", "expected [8, 8] from the metadata"],
        ),
        (
            "short norm",
            draft().shape("blk.0.attn_norm", &[4]),
            |e| matches!(e, Shape { .. }),
            &["attn_norm", "[4, 1]", "expected [8, 1] from the metadata"],
        ),
        (
            "head of another vocabulary",
            draft().shape("output", &[HIDDEN, 9]),
            |e| matches!(e, Shape { .. }),
            &["output.weight", "expected [8, 10] from the metadata"],
        ),
        (
            "integers for weights",
            draft().with(|d| d.type_of = Some(("blk.0.attn_v", 26))),
            |e| matches!(e, Type { .. }),
            &["blk.0.attn_v", "26", "expected one of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0"],
        ),
        (
            "NaN in a norm",
            draft().with(|d| d.poison = Some(("blk.0.ffn_norm", f32::NAN))),
            |e| matches!(e, NotFinite { .. }),
            &["blk.0.ffn_norm", "expected finite numbers"],
        ),
        (
            "infinity in the last norm",
            draft().with(|d| d.poison = Some(("output_norm", f32::INFINITY))),
            |e| matches!(e, NotFinite { .. }),
            &["output_norm", "expected finite numbers"],
        ),
        (
            "short gate",
            draft().with(|d| d.gate.truncate(3)),
            |e| matches!(e, Shape { .. }),
            &["exit_gate.weight", "[3, 1]", "expected [8, 1] from the metadata"],
        ),
        (
            "gate without bias",
            draft().with(|d| d.gate_bias = None),
            |e| matches!(e, MissingKey { .. }),
            &["exit_gate.bias", "expected in such a file"],
        ),
        (
            "NaN in the gate",
            draft().with(|d| d.gate[1] = f32::NAN),
            |e| matches!(e, NotFinite { .. }),
            &["exit_gate.weight", "expected finite numbers"],
        ),
        (
            "infinite bias",
            draft().with(|d| d.gate_bias = Some(f32::INFINITY)),
            |e| matches!(e, NotFinite { .. }),
            &["exit_gate", "expected finite numbers"],
        ),
        (
            "threshold above 1",
            draft().with(|d| d.extra = |f| f.f32("ouro.exit_gate.threshold", 1.5)),
            |e| matches!(e, Threshold { .. }),
            &["ouro.exit_gate.threshold\" is 1.500000", "expected a number from 0 to 1"],
        ),
        (
            "threshold a little below 0",
            draft().with(|d| d.extra = |f| f.f32("ouro.exit_gate.threshold", -1e-9)),
            |e| matches!(e, Threshold { .. }),
            &["ouro.exit_gate.threshold\" is between -10^-6 and 0", "expected a number from 0 to 1"],
        ),
        (
            "exit policy of another program",
            draft().with(|d| d.extra = |f| f.string("ouro.exit.policy", "confident")),
            |e| matches!(e, UnknownExitPolicy { .. }),
            &[
                "ouro.exit.policy",
                "confident",
                "ouro calibrate",
                "expected one of fixed, q, confidence, margin, step",
            ],
        ),
        (
            "exit policy as a number",
            draft().with(|d| d.extra = |f| f.u32("ouro.exit.policy", 1)),
            |e| matches!(e, Gguf(_)),
            &["ouro.exit.policy", "expected string"],
        ),
        (
            "exit policy without a threshold",
            draft().with(|d| d.extra = |f| f.string("ouro.exit.policy", "step")),
            |e| matches!(e, MissingKey { .. }),
            &["ouro.exit.threshold", "expected in such a file"],
        ),
        (
            "exit threshold above 1",
            draft().with(|d| {
                d.extra = |f| f.string("ouro.exit.policy", "margin").f32("ouro.exit.threshold", 1.5);
            }),
            |e| matches!(e, Threshold { .. }),
            &["ouro.exit.threshold\" is 1.500000", "expected a number from 0 to 1"],
        ),
        (
            "exit threshold that is no number",
            draft().with(|d| {
                d.extra = |f| f.string("ouro.exit.policy", "q").f32("ouro.exit.threshold", f32::NAN);
            }),
            |e| matches!(e, Threshold { .. }),
            &["ouro.exit.threshold\" is NaN", "expected a number from 0 to 1"],
        ),
        (
            "exit by a gate that is not there",
            draft().with(|d| {
                (d.gate, d.gate_bias) = (vec![], None);
                d.extra = |f| f.string("ouro.exit.policy", "q").f32("ouro.exit.threshold", 0.5);
            }),
            |e| matches!(e, ExitNeedsGate),
            &["ouro.exit.policy", "no exit gate", "expected one or another policy"],
        ),
        (
            "KV sharing of another program",
            draft().with(|d| d.extra = |f| f.string("ouro.kv.sharing", "")),
            |e| matches!(e, UnknownKvSharing { .. }),
            &["ouro.kv.sharing", "expected one of per-loop, last, averaged"],
        ),
        (
            "checksums of a larger file",
            draft().with(|d| d.extra = |f| f.array("ouro.checksum.xxh3_4096", value_type::U32, 3, &[0; 12])),
            |e| matches!(e, Checksums { .. }),
            &["has 3 elements", "expected 2, one for each 4096 bytes"],
        ),
        (
            "gate of integers",
            draft().with(|d| {
                (d.gate, d.extra) =
                    (vec![], |f: GgufBuilder| f.array("ouro.exit_gate.weight", value_type::I32, 8, &[0; 32]));
            }),
            |e| matches!(e, Gguf(_)),
            &["exit_gate.weight", "expected an array of f32"],
        ),
    ];
    open(&mut SliceStore::new(&draft().build())).expect("the draft itself is fine");
    open(&mut SliceStore::new(&llama().build())).expect("and so is a llama");
    for (name, draft, expected, says) in cases {
        let file = draft.build();
        let error = soon(name, || open(&mut SliceStore::new(&file))).expect_err(name);
        assert!(expected(&error), "{name}: {error:?}");
        assert_helpful(name, &error.to_string(), says);
        let paged = soon(name, || open(&mut PagedStore::new(&file, MIN_TILE))).expect_err(name);
        // Not as values: a NaN that was found is equal to none.
        assert_eq!(format!("{paged:?}"), format!("{error:?}"), "{name}, by pages");
    }
}

/// What the fuzzer starts from; whether it runs.
fn seeds() -> Vec<(&'static str, Draft, bool)> {
    let drawn = |draft: Draft| draft.with(|draft| draft.seed = Some(1));
    let asking = |file: GgufBuilder| {
        let file = file.string("ouro.exit.policy", "q").f32("ouro.exit.threshold", 0.5);
        file.string("ouro.kv.sharing", "averaged").f32("ouro.exit_gate.threshold", 0.75)
    };
    vec![
        ("draft.gguf", draft(), true),
        ("llama.gguf", drawn(llama()), true),
        ("tied.gguf", drawn(draft().without("output")), true),
        ("two-layers.gguf", drawn(two_layers()), true),
        ("half-precision.gguf", drawn(draft()).with(|draft| draft.type_of = Some(("blk.0.ffn", 1))), true),
        ("asks-for-an-exit.gguf", drawn(draft()).with(|draft| draft.extra = asking), true),
        ("one-loop.gguf", drawn(draft().set("num_loops", 1)), true),
        ("layer-missing.gguf", draft().set("block_count", 2), false),
    ]
}

/// Writes the seeds anew where `OURO_BLESS` is set.
#[test]
fn seeds_are_as_committed() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/model");
    for (name, draft, runs) in seeds() {
        let (path, file) = (corpus.join(name), draft.build());
        if env::var_os("OURO_BLESS").is_some() {
            fs::write(&path, &file).unwrap();
        }
        assert!(fs::read(&path).unwrap() == file, "{name} differs; set OURO_BLESS=1 to write it");
        assert_eq!(soon(name, || check_model(&file)).map(drop).is_ok(), runs, "{name}");
    }
}
