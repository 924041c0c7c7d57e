//! Decoding and encoding of every block format, in values per second.
#![allow(missing_docs)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ouro_quant::{Format, decode, encode};
use std::hint::black_box;

/// Values of a few rows: more than the first cache holds, less than the second.
const VALUES: usize = 64 * 1024;

/// Values like those of weights: between -1 and 1, most of them small.
fn weights() -> Vec<f32> {
    let mut state = 1u32;
    (0..VALUES)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let uniform = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
            uniform * uniform * uniform
        })
        .collect()
}

fn formats(criterion: &mut Criterion) {
    let values = weights();
    let mut out = vec![0.0; VALUES];
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(VALUES as u64));
    for &format in Format::ALL {
        let mut bytes = vec![0; format.row_bytes(VALUES).unwrap()];
        if format.can_encode() {
            encode(format, &values, None, &mut bytes).unwrap();
        }
        group.bench_function(BenchmarkId::from_parameter(format.name()), |bencher| {
            bencher.iter(|| decode(format, black_box(&bytes), black_box(&mut out)));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(VALUES as u64));
    for &format in Format::ALL.iter().filter(|format| format.can_encode()) {
        let mut bytes = vec![0; format.row_bytes(VALUES).unwrap()];
        group.bench_function(BenchmarkId::from_parameter(format.name()), |bencher| {
            bencher.iter(|| encode(format, black_box(&values), None, black_box(&mut bytes)));
        });
    }
    group.finish();
}

criterion_group!(benches, formats);
criterion_main!(benches);
