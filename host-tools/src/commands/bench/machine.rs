//! What the machine could do: reading, multiplying; and how much memory this process took.

use super::read::read;
use crate::compute::Compute;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Shorter measurements are repeated until they are this long.
pub(super) const LEAST_TIME: Duration = Duration::from_millis(10);

/// Bytes per second of reading `bytes` with all threads.
pub(super) fn read_rate(compute: Compute, bytes: &[u8]) -> f64 {
    let threads = compute.workers.count();
    // Parts of whole cache lines.
    let part = bytes.len().div_ceil(threads).next_multiple_of(64).max(64);
    let parts: Vec<&[u8]> = bytes.chunks(part).collect();
    rate(|| {
        compute.workers.run(parts.len(), &|piece| {
            black_box(read(parts[piece]));
        });
        bytes.len() as u64
    })
}

/// Products per second of all threads, with operands in registers and the first-level cache.
pub(super) fn product_rate(compute: Compute) -> f64 {
    const ROUNDS: usize = 1 << 12;
    let threads = compute.workers.count();
    let products = threads as u64 * compute.backend.peak(1) * ROUNDS as u64;
    rate(|| {
        compute.workers.run(threads, &|_| {
            black_box(compute.backend.peak(ROUNDS));
        });
        products
    })
}

/// How much of something is done per second, by doing some of it again and again.
fn rate(mut some: impl FnMut() -> u64) -> f64 {
    let began = Instant::now();
    let mut done = 0;
    loop {
        done += some();
        let time = began.elapsed();
        if time >= LEAST_TIME {
            return done as f64 / time.as_secs_f64();
        }
    }
}
