//! A plan for people and for programs.

use super::advice::{Change, changes};
use super::{Ask, Machine, Outline, Plan, Time, longest_context};
use crate::error::Error;
use crate::quantize::FileType;
use crate::ram::{Demand, Parts, Place};
use crate::report::{counted, human_bytes};
use ouro_runtime::session::{Fetches, Settings};
use serde_json::{Value, json};
use std::fmt::{self, Display, Formatter};

/// Everything that is reported.
#[derive(Debug)]
pub struct Report<'d> {
    /// The model and the machine, in words.
    pub title: String,
    demand: Demand<'d>,
    ask: Ask,
    /// The plan, or why there is none.
    plan: Result<Plan<'d>, String>,
    least: usize,
    longest_context: Option<usize>,
    changes: Vec<Change>,
}

/// Changes worth telling.
const CHANGES: usize = 3;
/// A gain worth telling.
const GAIN: f64 = 1.03;

impl<'d> Report<'d> {
    /// Plans; `outline` gives the model in another type.
    ///
    /// # Errors
    /// [`Error::Usage`] for what makes no sense; a model that does not fit is none.
    pub fn new(
        title: String,
        demand: Demand<'d>,
        ask: Ask,
        outline: &dyn Fn(FileType) -> Result<Outline, Error>,
    ) -> Result<Self, Error> {
        let plan = match Plan::new(demand, ask.clone()) {
            Ok(plan) => Ok(plan),
            Err(Error::DoesNotFit(why)) => Err(why),
            Err(error) => return Err(error),
        };
        let least = demand.least(ask.place, ask.buffer, &ask.pin)?;
        let longest_context = longest_context(&demand, &ask);
        let mut changes = changes(&demand, &ask, outline);
        match &plan {
            Ok(plan) => {
                changes.retain(|change| gain(change, plan).is_some_and(|gain| gain >= GAIN));
                changes.sort_by(|a, b| gain(b, plan).unwrap_or(0.0).total_cmp(&gain(a, plan).unwrap_or(0.0)));
            }
            Err(_) => {
                changes.retain(|change| change.least < least);
                changes.sort_by_key(|change| change.least);
            }
        }
        changes.truncate(CHANGES);
        Ok(Self { title, demand, ask, plan, least, longest_context, changes })
    }

    /// Why the model does not fit, if it does not.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.plan.as_ref().err().map(String::as_str)
    }

    /// One object; what is not known is null.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let Settings { context, rows, max_loops, min_loops, kv } = self.demand.settings;
        let plan = self.plan.as_ref().ok();
        let memory = plan.map(|plan| plan.division.parts);
        let timed = plan.and_then(|plan| Some(Timed::new(plan, self.ask.machine.as_ref()?)));
        let changes = self.changes.iter().map(|change| {
            json!({
                "change": change.what, "but": change.but, "tokens_per_second": change.speed,
                "bytes_per_token": change.bytes, "least_ram": change.least,
                "gain": plan.and_then(|plan| gain(change, plan)),
            })
        });
        json!({
            "title": self.title,
            "fits": plan.is_some(),
            "place": self.ask.place,
            "ram": self.ask.ram,
            "least_ram": self.least,
            "settings": {
                "context": context, "prompt": self.ask.prompt, "prompt_part": rows,
                "loops": max_loops, "min_loops": min_loops,
                "kv": kv.sharing.name(), "kv_bits": kv.element.bits(), "kv_window": kv.window,
            },
            "memory": memory,
            "memory_total": memory.map(|parts| parts.total()),
            "pinned_bytes": plan.filter(|_| self.ask.place == Place::File).map(|plan| plan.division.parts.weights),
            "max_tile": plan.filter(|_| self.ask.place == Place::File).map(|plan| plan.division.max_tile),
            "bytes_per_token": plan.map(|plan| {
                let Fetches { pass, head, row, .. } = plan.fetches;
                json!({
                    "loop": pass, "head": head, "embedding_at_most": row,
                    "worst_case": plan.worst_bytes(max_loops),
                    "by_depth": (1..=max_loops).map(|depth| plan.token_bytes(depth)).collect::<Vec<_>>(),
                })
            }),
            "longest_context": self.longest_context,
            "rates": self.ask.machine,
            "speed": timed.map(|timed| timed.to_json()),
            "mean_depth": self.ask.mean_depth,
            "changes": changes.collect::<Vec<_>>(),
        })
    }
}

/// How many times as fast, or, where no rates are known, how many times fewer bytes.
fn gain(change: &Change, plan: &Plan<'_>) -> Option<f64> {
    match &plan.ask.machine {
        Some(machine) => Some(change.speed? / plan.speed(machine)),
        None => {
            Some(plan.token_bytes(plan.demand.settings.max_loops) as f64 / (change.bytes? as f64).max(1.0))
        }
    }
}

/// The times of a plan.
struct Timed<'p, 'd> {
    plan: &'p Plan<'d>,
    machine: &'p Machine,
    prompt: usize,
    prefill: Time,
    /// By depth, in the middle of an answer.
    decode: Vec<Time>,
    /// Of the deepest token at the end of the context.
    worst: f64,
}

impl<'p, 'd> Timed<'p, 'd> {
    fn new(plan: &'p Plan<'d>, machine: &'p Machine) -> Self {
        let Settings { context, max_loops, .. } = plan.demand.settings;
        Self {
            plan,
            machine,
            prompt: plan.ask.prompt,
            prefill: plan.prefill(machine),
            decode: (1..=max_loops).map(|depth| plan.decode(machine, depth, plan.middle())).collect(),
            worst: plan.worst_seconds(machine, max_loops, context.saturating_sub(1)),
        }
    }

    fn mean(&self) -> Option<(f64, f64)> {
        let depth = self.plan.ask.mean_depth?;
        Some((depth, self.plan.mean_seconds(self.machine, self.plan.usual_depth())))
    }

    fn to_json(&self) -> Value {
        let decode = self.decode.iter().enumerate().map(|(index, time)| {
            json!({
                "depth": index + 1, "seconds": time.seconds(), "tokens_per_second": 1.0 / time.seconds(),
                "bound_by": time.bound(),
            })
        });
        let prompt = self.prompt as f64;
        json!({
            "decode": decode.collect::<Vec<_>>(),
            "at_position": self.plan.middle(),
            "mean": self.mean().map(|(depth, seconds)| json!({
                "depth": depth, "seconds": seconds, "tokens_per_second": 1.0 / seconds,
            })),
            "prefill": {
                "tokens": self.prompt, "seconds": self.prefill.seconds(),
                "tokens_per_second": prompt / self.prefill.seconds(), "bound_by": self.prefill.bound(),
            },
            "worst_token_seconds": self.worst,
        })
    }
}

impl Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let Settings { context, rows, max_loops, kv, .. } = self.demand.settings;
        let (sharing, bits, window) = (kv.sharing.name(), kv.element.bits(), kv.window);
        let (prompt, loops) = (self.ask.prompt, counted(max_loops, "loop"));
        let parts = if rows < prompt { format!(" in parts of {rows}") } else { String::new() };
        writeln!(
            f,
            "context {context}, prompts up to {prompt}{parts}, {loops}; K and V {sharing}, {bits} bits, window {window}\n"
        )?;
        match &self.plan {
            Ok(plan) => self.memory(f, &plan.division.parts)?,
            Err(why) => writeln!(f, "does not fit: {why}")?,
        }
        if let Some(longest) = self.longest_context {
            let all = self.demand.model.config().context;
            let why = if longest == all { ", all that the model was trained with" } else { "" };
            writeln!(f, "longest context that fits: {}{why}", counted(longest, "position"))?;
        }
        if let Ok(plan) = &self.plan {
            writeln!(f)?;
            match &self.ask.machine {
                Some(machine) => Timed::new(plan, machine).write(f)?,
                None => bytes_only(f, plan)?,
            }
        }
        self.write_changes(f)
    }
}

impl Report<'_> {
    fn memory(&self, f: &mut Formatter<'_>, parts: &Parts) -> fmt::Result {
        let rows = parts.list().into_iter().chain([("in all", parts.total())]);
        for (name, bytes) in rows.filter(|(_, bytes)| *bytes > 0) {
            writeln!(f, "{name:<18}{:>18} bytes  {:>8}", grouped(bytes as u64), human_bytes(bytes as u64))?;
        }
        if let Some(ram) = self.ask.ram {
            let least = format!("the least that would do is {}K", self.least / 1024);
            writeln!(
                f,
                "{:<18}{:>18} bytes  {:>8}; {least}",
                "of",
                grouped(ram as u64),
                human_bytes(ram as u64)
            )?;
        }
        Ok(())
    }

    fn write_changes(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nwhat would help most, each alone:")?;
        for change in &self.changes {
            let Change { what, but, speed, least, .. } = change;
            let effect = match (&self.plan, speed) {
                (Err(_), _) => format!("needs {}K", least / 1024),
                (Ok(plan), Some(speed)) => {
                    format!("{} tokens/s, {:.2} times", figure(*speed), gain(change, plan).unwrap_or(1.0))
                }
                (Ok(plan), None) => format!("{:.2} times fewer bytes", gain(change, plan).unwrap_or(1.0)),
            };
            let but = if but.is_empty() { String::new() } else { format!("; {but}") };
            writeln!(f, "  {what:<30} {effect}{but}")?;
        }
        Ok(())
    }
}

fn bytes_only(f: &mut Formatter<'_>, plan: &Plan<'_>) -> fmt::Result {
    for depth in 1..=plan.demand.settings.max_loops {
        let (loops, bytes) = (counted(depth, "loop"), grouped(plan.token_bytes(depth)));
        writeln!(f, "a token of {loops:<7} fetches {bytes:>18} bytes")?;
    }
    writeln!(f, "how fast that is: --board, --measure, or --flash, --mem and --gmacs")
}

impl Timed<'_, '_> {
    fn write(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<18}{:>10}{:>12}{:>14}  bound by", "token", "tokens/s", "time", "fetched")?;
        for (index, time) in self.decode.iter().enumerate() {
            let (depth, bytes) = (index + 1, human_bytes(self.plan.token_bytes(index + 1)));
            let loops = counted(depth, "loop");
            let seconds = time.seconds();
            let (speed, time_text) = (figure(1.0 / seconds), duration(seconds));
            writeln!(f, "{loops:<18}{speed:>10}{time_text:>12}{bytes:>14}  {}", time.bound().name())?;
        }
        if let Some((depth, seconds)) = self.mean() {
            let loops = format!("mean depth {depth:.2}");
            writeln!(f, "{loops:<18}{:>10}{:>12}", figure(1.0 / seconds), duration(seconds))?;
        }
        let Self { prompt, prefill, .. } = self;
        let seconds = prefill.seconds();
        let (speed, bound) = (figure(*prompt as f64 / seconds), prefill.bound().name());
        let name = format!("prompt of {prompt}");
        writeln!(f, "{name:<18}{speed:>10}{:>12}{:>14}  {bound}", duration(seconds), "")?;
        let context = self.plan.demand.settings.context;
        writeln!(
            f,
            "tokens are in the middle of an answer, at position {}; the slowest, at the end of the context \
             of {context} and with nothing overlapping, takes {}",
            self.plan.middle(),
            duration(self.worst)
        )
    }
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits.
fn figure(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else if value >= 1.0 {
        2
    } else {
        3
    };
    format!("{value:.digits$}")
}

/// `250 us`, `12.3 ms`, `1.50 s`, `4.0 min`.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{} us", figure(1e6 * s)),
        s if s < 1.0 => format!("{} ms", figure(1e3 * s)),
        s if s < 120.0 => format!("{} s", figure(s)),
        s => format!("{} min", figure(s / 60.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        for (seconds, text) in
            [(5e-5, "50.0 us"), (0.0123, "12.3 ms"), (1.5, "1.50 s"), (240.0, "4.00 min"), (0.25, "250 ms")]
        {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!([0.0531, 1.0, 34.56, 100.4].map(figure), ["0.053", "1.00", "34.6", "100"]);
    }
}
