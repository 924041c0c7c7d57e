//! Attention to random K and V, the same in every run. Also for `tests/src/bin/kernel-instructions.rs`.

use crate::cases::Random;
use core::hint::black_box;
use ouro_runtime::arena::{Aligned, Arena};
use ouro_runtime::kernels::{Alone, AttentionSizes, Backend, CachedAttention};
use ouro_runtime::kv::KvType;

/// Types of K and V, and what attention to them is called.
pub(crate) const TYPES: [(KvType, &str); 4] = [
    (KvType::F32, "attention-f32"),
    (KvType::F16, "attention-f16"),
    (KvType::Int8, "attention-int8"),
    (KvType::Int4, "attention-int4"),
];
/// Queries of one position: heads that share those of K and V.
pub(crate) const COUNTED: [usize; 2] = [1, 4];
const MOST_QUERIES: usize = 4;
/// Positions, the one in flight among them: a block of those that are weighed together.
const POSITIONS: usize = 32;
/// Of Ouro.
const HEAD_DIM: usize = 128;
/// K and V in f32, with room for what else a cache holds.
const MOST_BYTES: usize = 2 * POSITIONS * HEAD_DIM * 4 + 4096;

type Queries = [f32; MOST_QUERIES * HEAD_DIM];

/// `work` with a full cache, of which the last position is in flight, and its queries.
fn run<T>(element: KvType, queries: usize, work: impl FnOnce(&CachedAttention<'_>, &mut [f32]) -> T) -> T {
    let mut memory = Aligned([0; MOST_BYTES]);
    let sizes =
        AttentionSizes { element, positions: POSITIONS, kv_heads: 1, group: queries, head_dim: HEAD_DIM };
    let mut attention = CachedAttention::carve(&mut Arena::new(&mut memory.0), sizes).unwrap();
    let mut random = Random(7);
    for _ in 0..POSITIONS {
        let [mut k, mut v] = [[0.0; HEAD_DIM]; 2];
        k.fill_with(|| random.unit());
        v.fill_with(|| random.unit());
        attention.begin(&mut k, &mut v);
    }
    let mut q: Queries = [0.0; _];
    q.fill_with(|| random.unit());
    work(&attention, &mut q[..queries * HEAD_DIM])
}

/// Whether it gives the bits of the definition.
pub(crate) fn check(backend: Backend, element: KvType) -> bool {
    COUNTED.iter().all(|&queries| {
        run(element, queries, |attention, q| {
            let attend = |backend| {
                let (mut q_copy, mut out): (Queries, Queries) = ([0.0; _], [f32::NAN; _]);
                let (q_copy, out_part) = (&mut q_copy[..q.len()], &mut out[..q.len()]);
                q_copy.copy_from_slice(q);
                attention.attend(backend, &Alone, q_copy, out_part);
                out.map(f32::to_bits)
            };
            attend(backend) == attend(Backend::SCALAR)
        })
    })
}

/// Has `measure` count the instructions, and tells the products of numbers in it: one with K and one
/// with V for each value of each query and position.
pub(crate) fn count(
    measure: impl FnOnce(&mut dyn FnMut()) -> u64,
    backend: Backend,
    element: KvType,
    queries: usize,
) -> (u64, usize) {
    let mut out: Queries = [0.0; _];
    let instructions = run(element, queries, |attention, q| {
        let out = &mut out[..q.len()];
        measure(&mut || {
            attention.attend(black_box(backend), &Alone, black_box(&mut *q), black_box(&mut *out));
        })
    });
    (instructions, 2 * POSITIONS * queries * HEAD_DIM)
}
