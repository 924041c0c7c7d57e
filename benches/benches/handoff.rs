//! From which size on a second thread pays: one product, attention of one position, quantizing or SiLU, on one
//! thread and divided between two whatever its size, in turns, so that what else the machine does slows both. At the
//! end the median ratio for each size, as a table: above 1, two are faster.
#![allow(missing_docs)]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ouro::compute::ComputeArgs;
use ouro_quant::Format;
use ouro_runtime::arena::Arena;
use ouro_runtime::kernels::activations::{GROUP, Group, quantize, quantize_with};
use ouro_runtime::kernels::reference::WeightRows;
use ouro_runtime::kernels::{
    Alone, AttentionSizes, Backend, CachedAttention, SmallestPiece, Workers, matmul_groups, swiglu,
};
use ouro_runtime::kv::KvType;
use ouro_tests::Random;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// Columns of all matrices.
const COLS: usize = 256;
/// Products of a matrix, as powers of two.
const MATRIX: RangeInclusive<u32> = 12..=20;
/// Products of attention of a position.
const ATTENTION: RangeInclusive<u32> = 12..=19;
/// Weights that are used in turn: as many as the built-in model has, which a core's own cache holds, and
/// more than it holds.
const RINGS: [(&str, usize); 2] = [("L2", 512 << 10), ("L3", 32 << 20)];
/// Values that are quantized, or go through SiLU.
const VALUES: RangeInclusive<u32> = 10..=17;
/// How long one thread works before it is two's turn, about.
const TURN: Duration = Duration::from_micros(200);

/// Threads that share whatever there is to do.
#[derive(Debug)]
struct Always(&'static dyn Workers);

impl Workers for Always {
    fn count(&self) -> usize {
        self.0.count()
    }

    fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        self.0.run(pieces, work);
    }

    fn smallest_piece(&self) -> SmallestPiece {
        SmallestPiece { matrix: 1, attention: 1, groups: 1, silu: 1 }
    }
}

/// The threads of `ouro --threads 2`.
fn two() -> Always {
    let args = ComputeArgs { backend: "auto".into(), threads: Some(2) };
    Always(args.start().unwrap().workers)
}

fn back_ends() -> impl Iterator<Item = Backend> {
    Backend::available().filter(|backend| backend.is_integer() && *backend != Backend::SCALAR)
}

fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect()
}

/// Ratios per line of the table, then per size.
#[derive(Default)]
struct Table(BTreeMap<String, BTreeMap<u32, f64>>);

impl Table {
    /// Times `work` by two threads; keeps how much longer one takes.
    fn row(
        &mut self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        (name, log): (String, u32),
        two: &Always,
        mut work: impl FnMut(&dyn Workers),
    ) {
        let mut ratios = Vec::new();
        let mut time = |workers: &dyn Workers, count: u64| {
            let begun = Instant::now();
            (0..count).for_each(|_| work(workers));
            begun.elapsed()
        };
        let once = time(&Alone, 100).max(Duration::from_nanos(100)) / 100;
        let turn = (TURN.as_nanos() / once.as_nanos().max(1)).max(1) as u64;
        group.throughput(Throughput::Elements(1 << log));
        group.bench_function(BenchmarkId::new(&name, format!("2^{log}")), |bencher| {
            bencher.iter_custom(|count| {
                let (mut all, mut left) = (Duration::ZERO, count);
                while left > 0 {
                    let turn = turn.min(left);
                    let alone = time(&Alone, turn);
                    let shared = time(two, turn);
                    ratios.push(alone.as_secs_f64() / shared.as_secs_f64());
                    all += shared;
                    left -= turn;
                }
                all
            });
        });
        ratios.sort_by(f64::total_cmp);
        if let Some(median) = ratios.get(ratios.len() / 2) {
            self.0.entry(name).or_default().insert(log, *median);
        }
    }

    fn print(&self, logs: RangeInclusive<u32>) {
        println!("| |{}", logs.clone().map(|log| format!(" 2^{log} |")).collect::<String>());
        println!("|---|{}", logs.clone().map(|_| "--:|").collect::<String>());
        for (name, ratios) in &self.0 {
            let cells = logs.clone().map(|log| match ratios.get(&log) {
                Some(ratio) => format!(" {ratio:.2} |"),
                None => " |".into(),
            });
            println!("| {name} |{}", cells.collect::<String>());
        }
    }
}

/// So long that a median is one, and all sizes are done in minutes.
fn short(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.sample_size(10).nresamples(1000);
    group.warm_up_time(Duration::from_millis(50)).measurement_time(Duration::from_millis(200));
}

/// Weights whose f16 fields are numbers below 1.
fn weights(format: Format, bytes: usize) -> Vec<u8> {
    let mut random = Random::new(1);
    let mut bytes: Vec<u8> = (0..bytes).map(|_| random.bits() as u8).collect();
    bytes.chunks_mut(format.block_bytes()).for_each(|block| block[1] = 0x20);
    bytes
}

/// The next matrix of the ring times a position that is quantized anew, as in a model.
fn matrices(criterion: &mut Criterion) {
    let (two, mut table) = (two(), Table::default());
    let mut group = criterion.benchmark_group("handoff-matrix");
    short(&mut group);
    let x = values(COLS, 2);
    for format in [Format::Q4_0, Format::Q8_0] {
        let row_bytes = format.row_bytes(COLS).unwrap();
        for (ring, bytes) in RINGS {
            for log in MATRIX {
                let rows = (1 << log) / COLS;
                let bytes = weights(format, (bytes / (rows * row_bytes)).max(1) * rows * row_bytes);
                for backend in back_ends() {
                    let mut ring_of = bytes.chunks_exact(rows * row_bytes).cycle();
                    let mut groups: Vec<Group> = vec![bytemuck::Zeroable::zeroed(); COLS / GROUP];
                    let mut out = vec![0.0; rows];
                    let name = format!("{} {ring} {backend}", format.name());
                    table.row(&mut group, (name, log), &two, |workers| {
                        quantize(black_box(&x), &mut groups);
                        let bytes = ring_of.next().unwrap();
                        let rows = WeightRows { format, bytes, row_bytes, first: 0, of: rows };
                        matmul_groups(backend, workers, rows, &groups, &mut out);
                        // What another core has written is read here.
                        black_box(out.iter().step_by(16).fold(0, |all, x| all ^ x.to_bits()));
                    });
                }
            }
        }
    }
    group.finish();
    table.print(MATRIX);
}

/// Attention with the heads of the built-in model, and of Ouro-1.4B.
fn attention(criterion: &mut Criterion) {
    let (two, mut table) = (two(), Table::default());
    let mut group = criterion.benchmark_group("handoff-attention");
    short(&mut group);
    for (heads, head_dim) in [(4, 32), (16, 128)] {
        let width: usize = heads * head_dim;
        for (element, name) in [(KvType::F16, "f16"), (KvType::Int8, "int8")] {
            for log in ATTENTION.filter(|log| 1 << log >= 2 * width) {
                let positions = (1 << log) / (2 * width);
                let sizes = AttentionSizes { element, positions, kv_heads: heads, group: 1, head_dim };
                let mut memory = vec![0u128; positions * width + 256];
                let arena = &mut Arena::new(bytemuck::cast_slice_mut(&mut memory));
                let mut cached = CachedAttention::carve(arena, sizes).unwrap();
                for position in 0..positions as u64 {
                    cached.begin(&mut values(width, position), &mut values(width, !position));
                }
                let (q, mut out) = (values(width, 2), vec![0.0; width]);
                let mut q_copy = q.clone();
                for backend in back_ends() {
                    let name = format!("{heads} heads of {head_dim}, {name} {backend}");
                    table.row(&mut group, (name, log), &two, |workers| {
                        q_copy.copy_from_slice(black_box(&q));
                        cached.attend(backend, workers, &mut q_copy, &mut out);
                        black_box(out.iter().step_by(16).fold(0, |all, x| all ^ x.to_bits()));
                    });
                }
            }
        }
    }
    group.finish();
    table.print(ATTENTION);
}

/// What is done with values one by one, or in groups of a few.
fn elementwise(criterion: &mut Criterion) {
    let (two, mut table) = (two(), Table::default());
    let mut group = criterion.benchmark_group("handoff-values");
    short(&mut group);
    for log in VALUES {
        let count = 1 << log;
        let (x, up) = (values(count, 1), values(count, 2));
        let mut groups: Vec<Group> = vec![bytemuck::Zeroable::zeroed(); count / GROUP];
        let mut gate = x.clone();
        for backend in back_ends() {
            table.row(&mut group, (format!("quantizing {backend}"), log), &two, |workers| {
                quantize_with(backend, workers, black_box(&x), &mut groups);
                black_box(groups.iter().step_by(2).fold(0, |all, group| all ^ group.sums[0]));
            });
            table.row(&mut group, (format!("SiLU {backend}"), log), &two, |workers| {
                // By this thread, so whatever the other one has comes from there: in a model that is half.
                gate.copy_from_slice(black_box(&x));
                swiglu(backend, workers, &mut gate, black_box(&up));
                black_box(gate.iter().step_by(16).fold(0, |all, x| all ^ x.to_bits()));
            });
        }
    }
    group.finish();
    table.print(VALUES);
}

criterion_group!(benches, matrices, attention, elementwise);
criterion_main!(benches);
