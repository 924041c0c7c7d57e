//! Matrix products per format, back end and number of positions, in multiplications per second;
//! with one position also as bytes of weights beside what a plain read of the same bytes takes.
#![allow(missing_docs)]

#[path = "../../host-tools/src/commands/bench/read.rs"]
mod read;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ouro_quant::Format;
use ouro_runtime::kernels::activations::{GROUP, Group, quantize};
use ouro_runtime::kernels::reference::WeightRows;
use ouro_runtime::kernels::{Alone, Backend, matmul_groups, scalar};
use ouro_tests::Random;
use read::read;
use std::hint::black_box;

/// Columns of a matrix as in Ouro-1.4B.
const COLS: usize = 2048;
/// Bytes of weights that no cache holds, for one position and a few.
const LARGE: usize = 192 << 20;
/// Rows of a matrix that is used again and again, for many positions.
const ROWS: usize = 2048;

fn weights(format: Format, rows: usize) -> Vec<u8> {
    let mut random = Random::new(1);
    let mut bytes: Vec<u8> =
        (0..rows * format.row_bytes(COLS).unwrap()).map(|_| random.bits() as u8).collect();
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        // f16 fields: at the beginning, but Q6_K's is at the end. Any number below 1 will do.
        let end = block.len() - 1;
        for at in [1, 3, end] {
            block[at] = 0x20;
        }
    }
    bytes
}

fn positions(count: usize) -> Vec<Group> {
    let mut random = Random::new(2);
    let x: Vec<f32> = (0..count * COLS).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect();
    let mut groups = vec![bytemuck::Zeroable::zeroed(); x.len() / GROUP];
    quantize(&x, &mut groups);
    groups
}

fn matmul(criterion: &mut Criterion) {
    for &format in Format::ALL.iter().filter(|format| scalar::knows(**format)) {
        let row_bytes = format.row_bytes(COLS).unwrap();
        let all = LARGE / row_bytes;
        let bytes = weights(format, all);
        let mut group = criterion.benchmark_group(format.name());
        group.sample_size(10);

        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("read", |bencher| bencher.iter(|| read(black_box(&bytes))));
        let integer = || Backend::available().filter(|backend| backend.is_integer());
        for backend in integer().filter(|backend| *backend != Backend::SCALAR) {
            let (x, mut out) = (positions(1), vec![0.0; all]);
            let rows = WeightRows { format, bytes: &bytes, row_bytes, first: 0, of: all };
            group.bench_function(BenchmarkId::new(backend.name(), "read by 1"), |bencher| {
                bencher.iter(|| matmul_groups(backend, &Alone, black_box(rows), &x, &mut out));
            });
        }
        for backend in integer() {
            for count in [1, 2, 4, 8, 32, 128] {
                let of = if count <= 8 && backend != Backend::SCALAR { all } else { ROWS };
                group.throughput(Throughput::Elements((of * COLS * count) as u64));
                let (x, mut out) = (positions(count), vec![0.0; count * of]);
                let bytes = &bytes[..of * row_bytes];
                let rows = WeightRows { format, bytes, row_bytes, first: 0, of };
                group.bench_function(BenchmarkId::new(backend.name(), count), |bencher| {
                    bencher.iter(|| matmul_groups(backend, &Alone, black_box(rows), &x, &mut out));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, matmul);
criterion_main!(benches);
