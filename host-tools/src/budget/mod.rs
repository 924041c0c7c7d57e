//! Budgets on the command line.

mod energy;
mod report;

pub use energy::Rapl;
pub use report::BudgetReport;

use crate::args::parse_bytes;
use crate::error::Error;
use crate::open::session_error;
use crate::power::{Power, PowerArgs, PowerMode};
use crate::store::HostStore;
use ouro_runtime::clock::Clock;
use ouro_runtime::depth::{Bucket, Budget, LOOP};
use ouro_runtime::session::Session;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// What an answer may cost.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Budget")]
pub struct BudgetArgs {
    /// Loops per token that can be afforded in the long run, as 2 or 2.5. A token that wants more
    /// than there is left stops; the tokens after it run --fallback loops each, without asking the
    /// exit policy, until the budget has recovered. Prompts are not counted
    #[arg(long, value_name = "LOOPS", value_parser = parse_loops)]
    pub budget: Option<u64>,
    /// Loops that may be saved up for deep tokens; so many there are at the beginning [default:
    /// twice D]
    #[arg(long, value_name = "LOOPS", value_parser = parse_loops)]
    pub burst: Option<u64>,
    /// The depth of every token once the budget is used up [default: the largest that leaves some
    /// of --budget to recover by, at least --min-loops]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub fallback: Option<u8>,
    /// Saved-up loops at which the fallback ends [default: half of --burst]
    #[arg(long, value_name = "LOOPS", value_parser = parse_loops)]
    pub resume: Option<u64>,
    /// Bytes per token that may be fetched in the long run, with --fallback as above; twice as many
    /// may be saved up
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub byte_budget: Option<usize>,
    /// Joules per token that the processor may use in the long run, as 2, 0.5J or 300mJ, with --fallback
    /// as above; twice as many may be saved up. Linux counts them (RAPL), with all that runs beside
    #[arg(long, value_name = "JOULES", value_parser = energy::parse_energy)]
    pub energy_budget: Option<u64>,
    /// The longest that a token may take, as 250ms or 1.5s: the deepest loop done by then answers
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub token_time: Option<Duration>,
    /// The longest that a prompt and its answer may take; then the answer ends
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub answer_time: Option<Duration>,
    /// Whether heat and power matter.
    #[command(flatten)]
    pub power: PowerArgs,
}

impl BudgetArgs {
    /// What counts energy, if that is bounded.
    ///
    /// # Errors
    /// [`Error::Usage`] if this machine does not tell.
    pub fn meter(&self) -> Result<Option<Rapl>, Error> {
        self.energy_budget.map(|_| Rapl::open(&self.power.sysfs)).transpose()
    }

    /// Bounds a session, with weights from this store, by what was asked for, if anything was; gives what
    /// watches over its power.
    ///
    /// # Errors
    /// [`Error::Usage`] for a budget whose fallback it could not pay.
    pub fn lend<'s>(
        &self,
        session: &mut Session<'s>,
        store: &HostStore,
        meter: Option<&'s Rapl>,
    ) -> Result<Option<Power>, Error> {
        session.set_clock(&*CLOCK);
        if let Some(meter) = meter {
            session.set_energy_meter(meter);
        }
        let settings = session.settings();
        let budget = self.budget(settings.min_loops, settings.max_loops)?;
        session.set_budget(budget, store).map_err(session_error)?;
        self.power.watch(session)
    }

    fn budget(&self, min_loops: usize, max_loops: usize) -> Result<Budget, Error> {
        let saves_power = self.power.power == PowerMode::Auto;
        let loops = self.budget.or(saves_power.then_some(max_loops as u64 * LOOP));
        let orphan = [("--burst", self.burst), ("--resume", self.resume)];
        if let (None, Some((option, _))) = (loops, orphan.iter().find(|(_, given)| given.is_some())) {
            return Err(Error::Usage(format!(
                "{option} says how --budget is spent; give --budget LOOPS, too"
            )));
        }
        let byte_rate = self.byte_budget.map(|bytes| bytes as u64);
        if loops.or(byte_rate).or(self.energy_budget).is_none() && self.fallback.is_some() {
            let text = "--fallback is the depth when a budget is used up; give --budget, --byte-budget or --energy-budget, too";
            return Err(Error::Usage(text.to_owned()));
        }
        let buckets = loops.map(|rate| {
            let burst = self.burst.unwrap_or(2 * max_loops as u64 * LOOP);
            Bucket { rate, burst, resume: self.resume.unwrap_or(burst / 2) }
        });
        let [bytes, energy] = [byte_rate, self.energy_budget]
            .map(|rate| rate.map(|rate| Bucket { rate, burst: rate.saturating_mul(2), resume: rate }));
        // With a whole rate one loop fewer, so that there is something to recover by. What saves power
        // may go down to the minimum depth.
        let affordable =
            self.budget.map_or(min_loops, |rate| (rate.div_ceil(LOOP) as usize).saturating_sub(1));
        let fallback = self.fallback.map_or(affordable.clamp(min_loops, max_loops), usize::from);
        let (token_time, answer_time) = (self.token_time, self.answer_time);
        Ok(Budget { loops: buckets, bytes, energy, fallback, token_time, answer_time })
    }
}

/// The system's clock, which never goes back.
#[derive(Debug)]
struct SystemClock(Instant);

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

static CLOCK: LazyLock<SystemClock> = LazyLock::new(|| SystemClock(Instant::now()));

/// A number of loops, `2` or `2.5`, in thousandths.
fn parse_loops(text: &str) -> Result<u64, String> {
    let loops = text.parse::<f64>().ok().filter(|loops| (0.0..=1e9).contains(loops));
    let thousandths = loops.map(|loops| (loops * LOOP as f64).round() as u64);
    thousandths.ok_or_else(|| format!("{text} found, expected a number of loops such as 2 or 2.5"))
}

/// A duration: `250ms`, `1.5s`, `2min`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1e-3), ("us", 1e-6), ("min", 60.0), ("s", 1.0)];
    let known = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let seconds = known.and_then(|(number, unit)| Some(number.trim().parse::<f64>().ok()? * unit));
    let time = seconds.filter(|seconds| *seconds <= 1e9).and_then(|s| Duration::try_from_secs_f64(s).ok());
    time.ok_or_else(|| format!("{text} found, expected a time such as 250ms, 1.5s or 2min"))
}

/// Thousandths of a loop as people write them: `2.5`.
#[must_use]
pub fn loops_text(thousandths: i64) -> String {
    format!("{}", thousandths as f64 / LOOP as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units() {
        for (text, loops) in [("2", 2000), ("2.5", 2500), ("0", 0), ("0.125", 125)] {
            assert_eq!(parse_loops(text), Ok(loops), "{text}");
        }
        for (text, millis) in [("250ms", 250), ("1.5s", 1500), ("2min", 120_000), ("3000us", 3), ("0s", 0)] {
            assert_eq!(parse_time(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1s", "5", "NaN", "nans", "1e300s", "1h"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
        for text in ["", "-1", "NaN", "inf", "1e300"] {
            assert!(parse_loops(text).is_err(), "{text}");
        }
        assert_eq!((loops_text(2500), loops_text(-1000)), ("2.5".to_owned(), "-1".to_owned()));
    }

    #[test]
    fn what_is_not_said() {
        let args = |budget, fallback| BudgetArgs { budget, fallback, ..BudgetArgs::default() };
        // Budget and fallback asked for, the fallback that comes of it, for 1 to 4 loops.
        for (budget, fallback, expected) in [
            (Some(2500), None, 2),
            (Some(3000), None, 2),
            (Some(1000), None, 1),
            (Some(9000), None, 4),
            (Some(2500), Some(1), 1),
        ] {
            assert_eq!(args(budget, fallback).budget(1, 4).unwrap().fallback, expected, "{budget:?}");
        }
        let loops = args(Some(2500), None).budget(1, 4).unwrap().loops;
        assert_eq!(loops, Some(Bucket { rate: 2500, burst: 8000, resume: 4000 }));
        assert_eq!(args(None, None).budget(1, 4).unwrap().loops, None);
        assert!(args(None, Some(2)).budget(1, 4).is_err());
        assert!(BudgetArgs { resume: Some(1), ..BudgetArgs::default() }.budget(1, 4).is_err());
    }
}
