//! What a budget allowed, and what was left of it after each token.

use super::energy::energy_text;
use super::loops_text;
use crate::generate::Token;
use crate::power::Power;
use crate::report::{counted, human_bytes};
use crate::store::HostStore;
use ouro_runtime::depth::{Bucket, Budget, LOOP, Needs, Reason};
use ouro_runtime::session::{Cost, Session};
use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;

/// A budget, and the most that a token could cost within it.
#[derive(Clone, Copy, Debug)]
pub struct BudgetReport {
    budget: Budget,
    worst_token: Cost,
    /// The lowest rate of loops to which heat or a limited clock led.
    lowest_rate: Option<u64>,
}

/// Microjoules in a joule.
const MICRO: f64 = 1e6;

fn joules(microjoules: i64) -> f64 {
    microjoules as f64 / MICRO
}

impl BudgetReport {
    /// Of a session with weights from this store, whose policy needs this; `None` without a budget.
    #[must_use]
    pub fn of(session: &Session<'_>, store: &HostStore, needs: Needs) -> Option<Self> {
        let budget = *session.budget();
        let is_bounded = budget != Budget { fallback: budget.fallback, ..Budget::UNLIMITED };
        is_bounded.then(|| {
            // The prompt will have read what is pinned.
            let worst @ Cost { bytes, filling, .. } = session.worst_case(store, 0, 1, needs);
            let worst_token = Cost { bytes: bytes.saturating_sub(filling), filling: 0, ..worst };
            Self { budget, worst_token, lowest_rate: None }
        })
    }

    /// The same, with how far the rate had to be lowered.
    #[must_use]
    pub fn under(self, power: Option<&Power>) -> Self {
        Self { lowest_rate: power.map(|power| power.lowest), ..self }
    }

    /// The bounds, `worst_case_per_token`, and one list for each bound with what was `left` after
    /// each token.
    #[must_use]
    pub fn to_json(&self, tokens: &[&Token]) -> Value {
        let Budget { loops, bytes, energy, fallback, token_time, answer_time } = self.budget;
        let bucket = |bucket: Option<Bucket>, unit: f64| {
            let in_units = |value: u64| value as f64 / unit;
            bucket.map(|Bucket { rate, burst, resume }| {
                json!({ "rate": in_units(rate), "burst": in_units(burst), "resume": in_units(resume) })
            })
        };
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let left: Vec<_> = tokens.iter().map(|token| token.left).collect();
        let loops_left: Vec<_> =
            left.iter().map(|left| left.loops.map(|loops| loops as f64 / LOOP as f64)).collect();
        let bytes_left: Vec<_> = left.iter().map(|left| left.bytes).collect();
        let joules_left: Vec<_> = left.iter().map(|left| left.energy.map(joules)).collect();
        let token_time_left: Vec<_> = left.iter().map(|left| seconds(left.token_time)).collect();
        let answer_time_left: Vec<_> = left.iter().map(|left| seconds(left.answer_time)).collect();
        // Products depend on how much is in the cache, and are not told.
        let Cost { loops: worst_loops, heads, bytes: worst_bytes, .. } = self.worst_token;
        json!({
            "loops": bucket(loops, LOOP as f64),
            "bytes": bucket(bytes, 1.0),
            "joules": bucket(energy, MICRO),
            "lowest_loop_rate": self.lowest_rate.map(|rate| rate as f64 / LOOP as f64),
            "fallback": fallback,
            "token_seconds": seconds(token_time),
            "answer_seconds": seconds(answer_time),
            "worst_case_per_token": { "loops": worst_loops, "heads": heads, "bytes": worst_bytes },
            "left": {
                "loops": loops_left,
                "bytes": bytes_left,
                "joules": joules_left,
                "token_seconds": token_time_left,
                "answer_seconds": answer_time_left,
            },
        })
    }

    /// Lines for people.
    ///
    /// # Errors
    /// The formatter's.
    pub fn write(&self, f: &mut fmt::Formatter<'_>, tokens: &[&Token]) -> fmt::Result {
        let Budget { loops, bytes, energy, fallback, token_time, answer_time } = self.budget;
        let last = tokens.last().map(|token| token.left).unwrap_or_default();
        write!(f, "budget  ")?;
        if let (Some(bucket), Some(left)) = (loops, last.loops) {
            let [rate, burst] = [bucket.rate, bucket.burst].map(|loops| loops_text(loops as i64));
            let (rate, left) = (counted(rate, "loop"), loops_text(left));
            write!(f, "{rate} per token; {left} of {burst} saved up at the end; ")?;
        }
        if let (Some(bucket), Some(lowest)) = (loops, self.lowest_rate)
            && lowest < bucket.rate
        {
            write!(f, "lowered to {} by heat or a limited clock; ", loops_text(lowest as i64))?;
        }
        if let (Some(bucket), Some(left)) = (bytes, last.bytes) {
            let saved = human_bytes(u64::try_from(left).unwrap_or_default());
            write!(
                f,
                "{} per token; {saved} of {} saved up at the end; ",
                human_bytes(bucket.rate),
                human_bytes(bucket.burst)
            )?;
        }
        if let (Some(bucket), Some(left)) = (energy, last.energy) {
            let [rate, burst, left] = [bucket.rate as i64, bucket.burst as i64, left].map(energy_text);
            write!(f, "{rate} per token; {left} of {burst} saved up at the end; ")?;
        }
        for (what, time) in [("token", token_time), ("answer", answer_time)] {
            if let Some(time) = time {
                write!(f, "{time:?} per {what}; ")?;
            }
        }
        let times = tokens.iter().filter(|token| token.depth.reason == Reason::Fallback).count();
        if loops.or(bytes).or(energy).is_some() {
            write!(f, "{} at the fallback depth of {fallback}; ", counted(times, "token"))?;
        }
        let Cost { loops, bytes, .. } = self.worst_token;
        let (loops, bytes) = (counted(loops, "loop"), human_bytes(bytes));
        writeln!(f, "no token can take more than {loops} and {bytes}")
    }
}
