//! What was measured: rows for programs, and a table for people.

use super::Report;
use super::measure::{Kind, Sample, Test};
use crate::report::counted;
use serde::Serialize;
use std::fmt::{self, Display, Formatter};

/// One test with one number of threads at one depth; rates are medians over the repetitions.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) test: Kind,
    /// Of the test.
    pub(super) tokens: usize,
    pub(super) threads: usize,
    pub(super) loops: usize,
    pub(super) tokens_per_second: f64,
    /// The slowest repetition, and the fastest.
    pub(super) range: [f64; 2],
    /// Of one pass, or one generated token.
    pub(super) milliseconds: f64,
    /// Multiplications with accumulation, in 10^9 per second.
    pub(super) gmac_per_second: f64,
    /// Weights read, in 10^9 bytes per second.
    pub(super) gb_per_second: f64,
    /// A plain read of the same bytes with the same threads, in 10^9 bytes per second.
    pub(super) machine_read: f64,
    /// Integer products without memory, in 10^9 per second.
    pub(super) machine_peak: f64,
    /// Medians of the ratios, which are taken within a repetition.
    pub(super) of_read: f64,
    pub(super) of_peak: f64,
}

impl Row {
    /// `samples` has at least one.
    pub(super) fn new(test: Test, threads: usize, loops: usize, samples: &[Sample]) -> Self {
        let sorted = |figure: &dyn Fn(&Sample) -> f64| -> Vec<f64> {
            let mut figures: Vec<f64> = samples.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures
        };
        let median = |figure: &dyn Fn(&Sample) -> f64| middle(&sorted(figure));
        let per_second = |sample: &Sample, amount: f64| amount / sample.work.time.as_secs_f64();
        let macs = |sample: &Sample| per_second(sample, sample.work.macs as f64);
        let bytes = |sample: &Sample| per_second(sample, sample.work.bytes as f64);
        let speeds = sorted(&|sample| per_second(sample, sample.work.tokens as f64));
        let ends = |speeds: &[f64]| Some([*speeds.first()?, *speeds.last()?]);
        Self {
            test: test.kind,
            tokens: test.tokens,
            threads,
            loops,
            tokens_per_second: middle(&speeds),
            range: ends(&speeds).unwrap_or_default(),
            milliseconds: median(&|sample| {
                1e3 * sample.work.time.as_secs_f64() / sample.work.feeds.max(1) as f64
            }),
            gmac_per_second: 1e-9 * median(&macs),
            gb_per_second: 1e-9 * median(&bytes),
            machine_read: 1e-9 * median(&|sample| sample.read),
            machine_peak: 1e-9 * median(&|sample| sample.peak),
            of_read: median(&|sample| bytes(sample) / sample.read),
            of_peak: median(&|sample| macs(sample) / sample.peak),
        }
    }

    fn name(&self) -> String {
        Test { kind: self.test, tokens: self.tokens }.to_string()
    }

    /// Half the range, as a share of the median.
    fn spread(&self) -> f64 {
        let [slowest, fastest] = self.range;
        0.5 * (fastest - slowest) / self.tokens_per_second
    }
}

/// The median of sorted numbers.
fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted {
        [] => f64::NAN,
        _ if sorted.len() % 2 == 1 => sorted[half],
        _ => 0.5 * (sorted[half - 1] + sorted[half]),
    }
}

/// A report for people.
pub(super) struct Table<'r>(pub(super) &'r Report<'r>);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Report {
            model,
            bytes,
            architecture,
            trained_loops,
            backend,
            medium,
            repetitions,
            after,
            rows,
            ..
        } = self.0;
        let (model, megabytes) = (model.display(), *bytes as f64 / 1e6);
        let repetitions = counted(repetitions, "repetition");
        writeln!(
            f,
            "{model}: {architecture}, {megabytes:.1} MB, T = {trained_loops}; {medium}; {backend}, {repetitions}, generating after {after}\n"
        )?;
        writeln!(
            f,
            "threads  loops  {:14}{:>10}  {:>6}{:>12}{:>9}  {:>7}{:>8}  {:>7}",
            "test", "tokens/s", "spread", "ms", "GMAC/s", "of peak", "GB/s", "of read"
        )?;
        let mut threads = None;
        for row in rows {
            if threads.replace(row.threads).is_some_and(|before| before != row.threads) {
                writeln!(f)?;
            }
            writeln!(
                f,
                "{:>7}  {:>5}  {:14}{:>10.2}  {:>4.0} %{:>12.2}{:>9.1}  {:>5.0} %{:>8.2}  {:>5.0} %",
                row.threads,
                row.loops,
                row.name(),
                row.tokens_per_second,
                100.0 * row.spread(),
                row.milliseconds,
                row.gmac_per_second,
                100.0 * row.of_peak,
                row.gb_per_second,
                100.0 * row.of_read,
            )?;
        }
        self.machine(f)?;
        self.memory(f)
    }
}

impl Table<'_> {
    /// What the machine could do, for each number of threads.
    fn machine(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut threads: Vec<usize> = self.0.rows.iter().map(|row| row.threads).collect();
        threads.dedup();
        writeln!(f)?;
        for threads in threads {
            let of = |figure: fn(&Row) -> f64| {
                let mut figures: Vec<f64> =
                    self.0.rows.iter().filter(|row| row.threads == threads).map(figure).collect();
                figures.sort_by(f64::total_cmp);
                middle(&figures)
            };
            let (read, peak) = (of(|row| row.machine_read), of(|row| row.machine_peak));
            let threads = counted(threads, "thread");
            writeln!(f, "this machine, {threads}: reads {read:.1} GB/s, {peak:.0} GMAC/s at most")?;
        }
        Ok(())
    }

    fn memory(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let session = self.0.session_bytes as f64 / 1e6;
        match self.0.peak_memory {
            Some(peak) => writeln!(
                f,
                "memory: {:.1} MB at most, {session:.1} MB of it for cache and activations",
                peak as f64 / 1e6
            ),
            None => writeln!(f, "memory: {session:.1} MB for cache and activations, besides the weights"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::measure::Work;
    use super::*;
    use std::time::Duration;

    #[test]
    fn medians_and_ratios() {
        let sample = |milliseconds: u64, read: f64| Sample {
            work: Work {
                tokens: 10,
                feeds: 2,
                macs: 4_000_000,
                bytes: 1_000_000,
                time: Duration::from_millis(milliseconds),
            },
            read,
            peak: 1e9,
        };
        // The slow repetition met a slow machine: the ratios tell.
        let samples = [sample(10, 2e8), sample(20, 1e8), sample(40, 0.5e8)];
        let row = Row::new(Test { kind: Kind::Prompt, tokens: 5 }, 2, 4, &samples);
        let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-9, "{row:?}");
        close(row.tokens_per_second, 500.0);
        close(row.range[0], 250.0);
        close(row.range[1], 1000.0);
        close(row.spread(), 0.75);
        close(row.milliseconds, 10.0);
        close(row.gmac_per_second, 0.2);
        close(row.gb_per_second, 0.05);
        close(row.of_read, 0.5);
        close(row.of_peak, 0.2);
        close(middle(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }
}
