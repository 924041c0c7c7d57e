//! Well-formed GGUF files that are no model: each is wrong in one way, and the error names it.

use ouro_runtime::arena::Arena;
use ouro_runtime::gguf::Gguf;
use ouro_runtime::model::{Model, ModelError};
use ouro_runtime::store::{MIN_TILE, SliceStore, Store};
use ouro_tests::model_draft::{Draft, HIDDEN, draft};
use ouro_tests::{GgufBuilder, PagedStore, value_type};

fn open<S: Store>(store: &mut S) -> Result<(), ModelError> {
    let bytes = Gguf::arena_bytes(store)?;
    let mut memory = vec![0u128; bytes.div_ceil(16)];
    let gguf = Gguf::open(store, &mut Arena::new(bytemuck::cast_slice_mut(&mut memory)))?;
    let bytes = Model::arena_bytes(store, &gguf)?;
    assert!(bytes < 1 << 16, "{bytes} bytes of arena for a tiny file");
    let mut memory = vec![0u128; bytes.div_ceil(16)];
    Model::open(store, &gguf, &mut Arena::new(bytemuck::cast_slice_mut(&mut memory))).map(drop)
}

#[test]
fn each_fault_is_named() {
    type Case = (&'static str, Draft, fn(&ModelError) -> bool, &'static [&'static str]);
    let llama = || {
        draft()
            .unset("num_loops")
            .without("blk.0.post_attention_norm")
            .without("blk.0.post_ffw_norm")
            .with(|draft| (draft.architecture, draft.gate, draft.gate_bias) = ("llama", vec![], None))
    };
    use ModelError::*;
    let cases: Vec<Case> = vec![
        (
            "other architecture",
            draft().with(|d| d.architecture = "mamba"),
            |e| matches!(e, UnknownArchitecture { .. }),
            &["mamba", "ouro", "llama"],
        ),
        (
            "long architecture",
            draft().with(|d| {
                d.architecture = "ouroouroouroouroouroouroouroouroouroouroouroouroouroouroouroouroouro";
            }),
            |e| matches!(e, UnknownArchitecture { .. }),
            &["ouro", "llama"],
        ),
        (
            "no block count",
            draft().unset("block_count"),
            |e| matches!(e, MissingKey { .. }),
            &["ouro.block_count"],
        ),
        ("no loops", draft().unset("num_loops"), |e| matches!(e, MissingKey { .. }), &["ouro.num_loops"]),
        (
            "no context",
            draft().unset("context_length"),
            |e| matches!(e, MissingKey { .. }),
            &["ouro.context_length"],
        ),
        (
            "no heads",
            draft().unset("attention.head_count"),
            |e| matches!(e, MissingKey { .. }),
            &["attention.head_count"],
        ),
        (
            "T = 0",
            draft().set("num_loops", 0),
            |e| matches!(e, OutOfRange { .. }),
            &["num_loops", "0", "1 to 255"],
        ),
        ("T = 256", draft().set("num_loops", 256), |e| matches!(e, OutOfRange { .. }), &["256"]),
        ("no layers", draft().set("block_count", 0), |e| matches!(e, OutOfRange { .. }), &["block_count"]),
        (
            "too many layers",
            draft().set("block_count", u32::MAX),
            |e| matches!(e, OutOfRange { .. }),
            &["4294967295"],
        ),
        (
            "layers that are a lie",
            draft().set("block_count", 4096),
            |e| matches!(e, MissingTensor { .. }),
            &["blk.1.attn_norm.weight"],
        ),
        (
            "more heads than values",
            draft().set("attention.head_count", 16).set("attention.head_count_kv", 16),
            |e| matches!(e, Contradiction { .. }),
            &["attention.head_count", "embedding_length"],
        ),
        (
            "heads too wide together",
            draft()
                .set("attention.head_count", 65537)
                .set("attention.head_count_kv", 1)
                .set("attention.key_length", 65536),
            |e| matches!(e, Contradiction { .. }),
            &["1048576"],
        ),
        (
            "a layer that is not there",
            draft().set("block_count", 2),
            |e| matches!(e, MissingTensor { .. }),
            &["blk.1."],
        ),
        (
            "no query heads",
            draft().set("attention.head_count", 0),
            |e| matches!(e, OutOfRange { .. }),
            &["attention.head_count"],
        ),
        (
            "KV heads do not divide",
            draft().set("attention.head_count", 4).set("attention.head_count_kv", 3),
            |e| matches!(e, Contradiction { .. }),
            &["head_count_kv", "divide"],
        ),
        (
            "odd heads",
            draft().set("attention.key_length", 3),
            |e| matches!(e, Contradiction { .. }),
            &["key_length", "even"],
        ),
        (
            "heads that do not add up",
            draft().set("attention.head_count", 3).set("attention.head_count_kv", 3),
            |e| matches!(e, Contradiction { .. }),
            &["expected"],
        ),
        (
            "values of another width",
            draft().set("attention.value_length", 6),
            |e| matches!(e, Contradiction { .. }),
            &["value_length"],
        ),
        (
            "partial rope",
            draft().set("rope.dimension_count", 2),
            |e| matches!(e, Contradiction { .. }),
            &["rope.dimension_count"],
        ),
        (
            "embedding of another width",
            draft().set("embedding_length", 16),
            |e| matches!(e, Contradiction { .. }),
            &["embedding_length", "token_embd"],
        ),
        (
            "another vocabulary",
            draft().set("vocab_size", 11),
            |e| matches!(e, Contradiction { .. }),
            &["vocab_size"],
        ),
        (
            "huge width",
            draft().set("feed_forward_length", 1 << 21),
            |e| matches!(e, OutOfRange { .. }),
            &["2097152", "1048576"],
        ),
        (
            "another FFN width",
            draft().set("feed_forward_length", 16),
            |e| matches!(e, Shape { .. }),
            &["ffn_", "12", "16"],
        ),
        (
            "theta is 0",
            draft().with(|d| d.theta = 0.0),
            |e| matches!(e, NotPositive { .. }),
            &["rope.freq_base"],
        ),
        (
            "theta is NaN",
            draft().with(|d| d.theta = f32::NAN),
            |e| matches!(e, NotPositive { .. }),
            &["rope.freq_base"],
        ),
        (
            "norm between loops skipped",
            draft().with(|d| d.extra = |f| f.bool("ouro.skip_loop_final_norm", true)),
            |e| matches!(e, SkipsLoopNorm),
            &["skip_loop_final_norm", "true", "false"],
        ),
        (
            "stretched positions",
            draft().with(|d| d.extra = |f| f.string("ouro.rope.scaling.type", "yarn")),
            |e| matches!(e, RopeScaling),
            &["rope.scaling"],
        ),
        (
            "a string for a number",
            draft().unset("num_loops").with(|d| d.extra = |f| f.string("ouro.num_loops", "4")),
            |e| matches!(e, Gguf(_)),
            &["num_loops", "string"],
        ),
        (
            "no embedding",
            draft().without("token_embd"),
            |e| matches!(e, MissingTensor { .. }),
            &["token_embd.weight"],
        ),
        (
            "no output norm",
            draft().without("output_norm"),
            |e| matches!(e, MissingTensor { .. }),
            &["output_norm.weight"],
        ),
        (
            "no K",
            draft().without("blk.0.attn_k"),
            |e| matches!(e, MissingTensor { .. }),
            &["blk.0.attn_k.weight"],
        ),
        (
            "no post norm",
            draft().without("blk.0.post_ffw_norm"),
            |e| matches!(e, MissingTensor { .. }),
            &["post_ffw_norm"],
        ),
        (
            "post norms in a llama",
            llama().shape("blk.0.post_ffw_norm", &[HIDDEN]),
            |e| matches!(e, UnknownTensor { .. }),
            &["blk.0.post_ffw_norm.weight"],
        ),
        (
            "a bias",
            draft().shape("blk.0.attn_q.bias", &[8]),
            |e| matches!(e, UnknownTensor { .. }),
            &["attn_q.bias"],
        ),
        (
            "one layer too many",
            draft().shape("blk.1.attn_norm", &[HIDDEN]),
            |e| matches!(e, UnknownTensor { .. }),
            &["blk.1.attn_norm"],
        ),
        (
            "transposed Q",
            draft().shape("blk.0.attn_q", &[4, 16]),
            |e| matches!(e, Shape { .. }),
            &["[4, 16]", "[8, 8]"],
        ),
        (
            "three dimensions",
            draft().shape("blk.0.attn_q", &[8, 4, 2]),
            |e| matches!(e, Shape { .. }),
            &["blk.0.attn_q", "[8, 4, 2, 1]"],
        ),
        (
            "short norm",
            draft().shape("blk.0.attn_norm", &[4]),
            |e| matches!(e, Shape { .. }),
            &["attn_norm", "4", "8"],
        ),
        (
            "head of another vocabulary",
            draft().shape("output", &[HIDDEN, 9]),
            |e| matches!(e, Shape { .. }),
            &["output.weight"],
        ),
        (
            "integers for weights",
            draft().with(|d| d.type_of = Some(("blk.0.attn_v", 26))),
            |e| matches!(e, Type { .. }),
            &["blk.0.attn_v", "26", "Q4_0"],
        ),
        (
            "NaN in a norm",
            draft().with(|d| d.poison = Some(("blk.0.ffn_norm", f32::NAN))),
            |e| matches!(e, NotFinite { .. }),
            &["blk.0.ffn_norm"],
        ),
        (
            "infinity in the last norm",
            draft().with(|d| d.poison = Some(("output_norm", f32::INFINITY))),
            |e| matches!(e, NotFinite { .. }),
            &["output_norm"],
        ),
        (
            "short gate",
            draft().with(|d| d.gate.truncate(3)),
            |e| matches!(e, Shape { .. }),
            &["exit_gate.weight", "3", "8"],
        ),
        (
            "gate without bias",
            draft().with(|d| d.gate_bias = None),
            |e| matches!(e, MissingKey { .. }),
            &["exit_gate.bias"],
        ),
        (
            "NaN in the gate",
            draft().with(|d| d.gate[1] = f32::NAN),
            |e| matches!(e, NotFinite { .. }),
            &["exit_gate.weight"],
        ),
        (
            "infinite bias",
            draft().with(|d| d.gate_bias = Some(f32::INFINITY)),
            |e| matches!(e, NotFinite { .. }),
            &["exit_gate"],
        ),
        (
            "threshold above 1",
            draft().with(|d| d.extra = |f| f.f32("ouro.exit_gate.threshold", 1.5)),
            |e| matches!(e, Contradiction { .. }),
            &["threshold", "0 to 1"],
        ),
        (
            "exit policy of another program",
            draft().with(|d| d.extra = |f| f.string("ouro.exit.policy", "confident")),
            |e| matches!(e, UnknownExitPolicy { .. }),
            &["ouro.exit.policy", "confident", "confidence", "ouro calibrate"],
        ),
        (
            "exit policy as a number",
            draft().with(|d| d.extra = |f| f.u32("ouro.exit.policy", 1)),
            |e| matches!(e, Gguf(_)),
            &["ouro.exit.policy"],
        ),
        (
            "exit policy without a threshold",
            draft().with(|d| d.extra = |f| f.string("ouro.exit.policy", "step")),
            |e| matches!(e, MissingKey { .. }),
            &["ouro.exit.threshold"],
        ),
        (
            "exit threshold above 1",
            draft().with(|d| {
                d.extra = |f| f.string("ouro.exit.policy", "margin").f32("ouro.exit.threshold", 1.5);
            }),
            |e| matches!(e, Contradiction { .. }),
            &["ouro.exit.threshold", "0 to 1"],
        ),
        (
            "exit threshold that is no number",
            draft().with(|d| {
                d.extra = |f| f.string("ouro.exit.policy", "q").f32("ouro.exit.threshold", f32::NAN);
            }),
            |e| matches!(e, Contradiction { .. }),
            &["ouro.exit.threshold", "0 to 1"],
        ),
        (
            "exit by a gate that is not there",
            draft().with(|d| {
                (d.gate, d.gate_bias) = (vec![], None);
                d.extra = |f| f.string("ouro.exit.policy", "q").f32("ouro.exit.threshold", 0.5);
            }),
            |e| matches!(e, Contradiction { .. }),
            &["ouro.exit.policy", "no exit gate"],
        ),
        (
            "KV sharing of another program",
            draft().with(|d| d.extra = |f| f.string("ouro.kv.sharing", "")),
            |e| matches!(e, UnknownKvSharing { .. }),
            &["ouro.kv.sharing", "per-loop, last, averaged"],
        ),
        (
            "gate of integers",
            draft().with(|d| {
                (d.gate, d.extra) =
                    (vec![], |f: GgufBuilder| f.array("ouro.exit_gate.weight", value_type::I32, 8, &[0; 32]));
            }),
            |e| matches!(e, Gguf(_)),
            &["exit_gate.weight"],
        ),
    ];
    open(&mut SliceStore::new(&draft().build())).expect("the draft itself is fine");
    open(&mut SliceStore::new(&llama().build())).expect("and so is a llama");
    for (name, draft, expected, says) in cases {
        let file = draft.build();
        let error = open(&mut SliceStore::new(&file)).expect_err(name);
        assert!(expected(&error), "{name}: {error:?}");
        let text = error.to_string();
        for word in says {
            assert!(text.contains(word), "{name}: \"{word}\" is not in \"{text}\"");
        }
        assert_eq!(open(&mut PagedStore::new(&file, MIN_TILE)).unwrap_err(), error, "{name}, by pages");
    }
}

/// The seed of the fuzz target `model`; written with `OURO_BLESS=1`.
#[test]
fn the_fuzz_seed_is_this_model() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/model/draft.gguf");
    if std::env::var_os("OURO_BLESS").is_some() {
        std::fs::create_dir_all(std::path::Path::new(path).parent().unwrap()).unwrap();
        std::fs::write(path, draft().build()).unwrap();
    }
    assert!(std::fs::read(path).unwrap() == draft().build());
}
