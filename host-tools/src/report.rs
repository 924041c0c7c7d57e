//! What a run did: as figures for people, or as JSON.

use crate::budget::BudgetReport;
use crate::generate::{Answer, Token};
use crate::ram::{Parts, peak_resident};
use ouro_runtime::depth::Reason;
use ouro_runtime::session::Counters;
use ouro_runtime::store::StoreCounters;
use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;

pub use crate::counted::counted;

/// Everything worth telling about a run.
#[derive(Debug)]
pub struct Report {
    /// One per turn.
    pub answers: Vec<Answer>,
    /// D.
    pub max_loops: usize,
    /// The budget, if there is one.
    pub budget: Option<BudgetReport>,
    /// Bytes of all arenas.
    pub arena_bytes: usize,
    /// Work of the session.
    pub counters: Counters,
    /// Where weights are read from.
    pub medium: &'static str,
    /// Bytes of weights that stay in memory once they were read.
    pub pinned_bytes: u64,
    /// How memory was divided.
    pub memory: Parts,
    /// Work of the store, with what opening the file took.
    pub fetched: StoreCounters,
}

impl Report {
    fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.answers.iter().flat_map(|answer| &answer.tokens)
    }

    /// One object: `tokens`, `depths`, `reasons` (one per generated token, of all turns in a row),
    /// `text` and `stop` (of the last turn), `turns` if there are several, counters and seconds.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let all = tokens_json(self.tokens());
        let last = self.answers.last();
        let mut report = json!({
            "tokens": all["tokens"],
            "depths": all["depths"],
            "reasons": all["reasons"],
            "text": last.map(|answer| &answer.text),
            "stop": last.map(|answer| answer.stop),
            "counters": {
                "passes": self.counters.passes,
                "prompt_loops": self.counters.prompt_loops,
                "generated_loops": self.counters.generated_loops,
                "heads": self.counters.heads,
                "tiles_fetched": self.fetched.tiles,
                "bytes_fetched": self.fetched.bytes,
                "requests": self.fetched.requests,
                "stalls": self.fetched.stalls,
                "retries": self.fetched.retries,
                "pinned_tiles": self.fetched.pinned,
                "pinned_bytes": self.pinned_bytes,
                "peak_resident_bytes": peak_resident(),
                "arena_bytes": self.arena_bytes,
            },
            "seconds": {
                "prefill": self.seconds(|answer| answer.prefill),
                "decode": self.seconds(|answer| answer.decode),
                "stalled": self.fetched.stalled_us as f64 / 1e6,
            },
            "medium": self.medium,
            "memory": self.memory,
        });
        if let Some(budget) = &self.budget {
            report["budget"] = budget.to_json(&self.tokens().collect::<Vec<_>>());
        }
        if self.answers.len() > 1 {
            report["turns"] = self.answers.iter().map(turn_json).collect();
        }
        report
    }

    fn seconds(&self, part: impl Fn(&Answer) -> Duration) -> f64 {
        self.answers.iter().map(part).sum::<Duration>().as_secs_f64()
    }
}

fn tokens_json<'t>(tokens: impl Iterator<Item = &'t Token>) -> Value {
    let (mut ids, mut depths, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
    for token in tokens {
        ids.push(token.id);
        depths.push(token.depth.loops);
        reasons.push(token.depth.reason.name());
    }
    json!({ "tokens": ids, "depths": depths, "reasons": reasons })
}

fn turn_json(answer: &Answer) -> Value {
    let mut turn = tokens_json(answer.tokens.iter());
    turn["text"] = answer.text.clone().into();
    turn["stop"] = json!(answer.stop);
    turn["prompt_tokens"] = answer.prompt_tokens.into();
    turn["seconds"] =
        json!({ "prefill": answer.prefill.as_secs_f64(), "decode": answer.decode.as_secs_f64() });
    turn
}

/// The longest list of depths that is worth reading.
const LISTED: usize = 48;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.tokens().count();
        let prompt: usize = self.answers.iter().map(|answer| answer.prompt_tokens).sum();
        let prefill = self.seconds(|answer| answer.prefill);
        // The first token of a turn comes out of the prefill.
        let decoded = count.saturating_sub(self.answers.len());
        let decode = self.seconds(|answer| answer.decode);
        writeln!(f)?;
        write!(f, "prompt  {} in {prefill:.2} s; ", counted(prompt, "token"))?;
        let speed = decoded as f64 / decode.max(1e-9);
        writeln!(f, "answer {}, {speed:.1} tokens/s", counted(count, "token"))?;
        if count > 0 {
            self.depths(f, count)?;
        }
        if let Some(budget) = &self.budget {
            budget.write(f, &self.tokens().collect::<Vec<_>>())?;
        }
        writeln!(
            f,
            "memory  arena {}; weights fetched {} in {}",
            human_bytes(self.arena_bytes as u64),
            human_bytes(self.fetched.bytes),
            counted(self.fetched.tiles, "tile")
        )?;
        if self.fetched.requests > 0 { self.reads(f) } else { Ok(()) }
    }
}

impl Report {
    /// What reading from a disk took.
    fn reads(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StoreCounters { requests, stalls, stalled_us, pinned, retries, .. } = self.fetched;
        let waited = stalled_us as f64 / 1e6;
        let (requests, stalls) = (counted(requests, "request"), counted(stalls, "tile"));
        write!(f, "reads   {}: {requests}, waited {waited:.2} s for {stalls}", self.medium)?;
        if retries > 0 {
            write!(f, ", {retries} repeated after errors")?;
        }
        writeln!(f)?;
        let peak = peak_resident().map_or("unknown".to_owned(), |peak| human_bytes(peak as u64));
        let (bytes, pinned) = (human_bytes(self.pinned_bytes), counted(pinned, "tile"));
        writeln!(f, "pinned  {bytes}, {pinned} from there; the process had {peak} at most")
    }

    fn depths(&self, f: &mut fmt::Formatter<'_>, count: usize) -> fmt::Result {
        let depths: Vec<usize> = self.tokens().map(|token| token.depth.loops).collect();
        let mean = depths.iter().sum::<usize>() as f64 / count as f64;
        let most = self.max_loops;
        write!(f, "depth   mean {mean:.2} of {}", counted(most, "loop"))?;
        let saved = 100.0 * (1.0 - mean / most as f64);
        if saved > 0.0 {
            write!(f, ", exits saved {saved:.0} % of the loops")?;
        }
        let reasons = Reason::ALL
            .map(|reason| (reason, self.tokens().filter(|token| token.depth.reason == reason).count()));
        let reasons: Vec<String> = reasons
            .iter()
            .filter(|(_, times)| *times > 0)
            .map(|(reason, times)| format!("{reason} {times}"))
            .collect();
        writeln!(f, " (stopped by: {})", reasons.join(", "))?;
        if count <= LISTED && most > 1 {
            let list: Vec<String> = depths.iter().map(ToString::to_string).collect();
            writeln!(f, "        per token: {}", list.join(" "))?;
        }
        Ok(())
    }
}

/// `512 B`, `1.5 KiB`, `98 MiB`: three digits at most before the unit, powers of 1024.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_of_a_thing_takes_no_s() {
        for (number, text) in [(0.0, "0 loops"), (1.0, "1 loop"), (1.5, "1.5 loops"), (11.0, "11 loops")] {
            assert_eq!(counted(number, "loop"), text);
        }
    }
}
