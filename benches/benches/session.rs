//! One token of a small looped model at each depth, and a prompt: what a loop costs.
#![allow(missing_docs)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ouro_runtime::depth::FixedDepth;
use ouro_runtime::session::{Feed, Settings};
use ouro_tests::harness::{Loaded, golden, load, session};

/// The longest conversation that is timed.
const CONTEXT: usize = 64;

fn tokens(criterion: &mut Criterion) {
    let Loaded { mut store, model, .. } = load(&golden("lively/lively-gate-f32.gguf"));
    let prompt: Vec<u32> = (0..32).map(|i| i * 11 % 512).collect();
    let mut group = criterion.benchmark_group("lively");
    for loops in 1..=4 {
        let settings = Settings { max_loops: loops, ..Settings::new(model, CONTEXT, prompt.len()) };
        let mut session = session(model, settings);
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("token after 32", loops), |bencher| {
            bencher.iter(|| {
                // Whatever the number of iterations, attention reads 32 to 64 positions.
                if session.position().is_multiple_of(64) {
                    session.clear();
                    session.feed(&prompt, Feed::Prompt).unwrap();
                    session.run(&mut store, &FixedDepth).unwrap();
                }
                session.feed(&[7], Feed::Generated).unwrap();
                session.run(&mut store, &FixedDepth).unwrap()
            });
        });
        group.throughput(Throughput::Elements(prompt.len() as u64));
        group.bench_function(BenchmarkId::new("prompt of 32", loops), |bencher| {
            bencher.iter(|| {
                session.clear();
                session.feed(&prompt, Feed::Prompt).unwrap();
                session.run(&mut store, &FixedDepth).unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, tokens);
criterion_main!(benches);
