//! Attention of one position to those in the cache, with the heads of Ouro-1.4B, per type of K and V,
//! number of positions and back end: in bytes of K and V, beside a plain read of as many.
#![allow(missing_docs)]

#[path = "../../host-tools/src/commands/bench/read.rs"]
mod read;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ouro_runtime::arena::Arena;
use ouro_runtime::kernels::{Alone, AttentionSizes, Backend, CachedAttention};
use ouro_runtime::kv::KvType;
use ouro_tests::Random;
use read::read;
use std::hint::black_box;

/// Heads of Ouro-1.4B, each with K and V of its own.
const HEADS: usize = 16;
const HEAD_DIM: usize = 128;

/// Bytes of K and V of a position, with their scales.
fn position_bytes(element: KvType) -> usize {
    let scale = if matches!(element, KvType::Int8 | KvType::Int4) { size_of::<f32>() } else { 0 };
    2 * HEADS * (HEAD_DIM * element.bits() as usize / 8 + scale)
}

fn vector(random: &mut Random) -> Vec<f32> {
    (0..HEADS * HEAD_DIM).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect()
}

/// A full cache, the last position in flight.
fn cache<'a>(arena: &mut Arena<'a>, element: KvType, positions: usize) -> CachedAttention<'a> {
    let sizes = AttentionSizes { element, positions, kv_heads: HEADS, group: 1, head_dim: HEAD_DIM };
    let mut attention = CachedAttention::carve(arena, sizes).unwrap();
    let mut random = Random::new(1);
    for _ in 0..positions {
        attention.begin(&mut vector(&mut random), &mut vector(&mut random));
    }
    attention
}

fn attention(criterion: &mut Criterion) {
    for (element, name) in
        [(KvType::F32, "f32"), (KvType::F16, "f16"), (KvType::Int8, "int8"), (KvType::Int4, "int4")]
    {
        let mut group = criterion.benchmark_group(format!("attention-{name}"));
        group.sample_size(10);
        for positions in [1024, 8192] {
            let bytes = positions * position_bytes(element);
            group.throughput(Throughput::Bytes(bytes as u64));
            let plain = vec![1; bytes];
            group.bench_function(BenchmarkId::new("read", positions), |bencher| {
                bencher.iter(|| read(black_box(&plain)));
            });
            // Besides, a cache holds a byte for a position and two vectors of a head.
            let mut memory = vec![0u128; (bytes + positions).div_ceil(16) + 256];
            let arena = &mut Arena::new(bytemuck::cast_slice_mut(&mut memory));
            let attention = cache(arena, element, positions);
            let (q, mut out) = (vector(&mut Random::new(2)), vec![0.0; HEADS * HEAD_DIM]);
            for backend in Backend::available().filter(|backend| backend.is_integer()) {
                group.bench_function(BenchmarkId::new(backend.name(), positions), |bencher| {
                    bencher.iter(|| attention.attend(backend, &Alone, black_box(&mut q.clone()), &mut out));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, attention);
criterion_main!(benches);
