//! A trace as a table for a terminal, or as JSON.

use super::record::{LoopRecord, Position};
use crate::args::Exit;
use crate::commands::output::json_f32;
use crate::commands::pieces::{pad, quoted_short};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use unicode_width::UnicodeWidthStr;

/// Columns of the terminal.
const WIDTH: usize = 100;
/// Columns of a token in the table, and among the leading ones.
const TOKEN: usize = 16;
const LEADING: usize = 14;

/// Everything that is shown.
pub(super) struct Shown<'s> {
    pub(super) ids: &'s [u32],
    pub(super) positions: &'s [Position],
    pub(super) exits: &'s [Exit],
    pub(super) has_gate: bool,
    /// The bytes of every token that occurs; empty without a tokenizer.
    pub(super) pieces: &'s BTreeMap<u32, Vec<u8>>,
}

impl Shown<'_> {
    pub(super) fn to_json(&self) -> Json {
        let piece = |id: &u32| self.pieces.get(id).map(|bytes| String::from_utf8_lossy(bytes));
        let top = |(id, probability): &(u32, f32)| json!({ "id": id, "piece": piece(id), "probability": json_f32(*probability) });
        let of_loop = |(number, record): (usize, &LoopRecord)| {
            json!({
                "loop": number,
                "top": record.top.iter().map(top).collect::<Vec<_>>(),
                "lambda": record.lambda.map(json_f32),
                "cdf": record.cdf.map(json_f32),
                "step": record.step.map(json_f32),
            })
        };
        let positions = self.ids.iter().zip(self.positions).enumerate().map(|(number, (id, position))| {
            let exits = self.exits.iter().zip(&position.depths);
            json!({
                "position": number,
                "id": id,
                "piece": piece(id),
                "loops": (1..).zip(&position.loops).map(of_loop).collect::<Vec<_>>(),
                "exits": exits.map(|(exit, depth)| (exit.to_string(), json!(depth))).collect::<Map<_, _>>(),
            })
        });
        json!({
            "input_ids": self.ids,
            "loops": self.positions.first().map(|position| position.loops.len()),
            "gate": self.has_gate,
            "positions": positions.collect::<Vec<_>>(),
        })
    }

    fn token(&self, id: u32, width: usize) -> String {
        match self.pieces.get(&id) {
            Some(bytes) => quoted_short(bytes, width),
            None => id.to_string(),
        }
    }

    fn header(&self) -> String {
        let gate = if self.has_gate { "lambda    cdf  " } else { "" };
        format!("{:>4}  {:TOKEN$}  loop  {gate}  step  ", "pos", "token")
    }

    fn of_loop(&self, f: &mut Formatter<'_>, front: &str, number: usize, record: &LoopRecord) -> fmt::Result {
        let mut line = format!("{front}  {number:>4}  ");
        if let Some((lambda, cdf)) = record.lambda.zip(record.cdf) {
            line += &format!("{lambda:>6.3} {cdf:>6.3}  ");
        }
        line += &record.step.map_or("     -  ".to_owned(), |step| format!("{step:>6.3}  "));
        let indent = line.width();
        for (id, probability) in &record.top {
            let leading = format!("{} {probability:.2}  ", self.token(*id, LEADING));
            if line.width() + leading.trim_end().width() > WIDTH {
                writeln!(f, "{}", line.trim_end())?;
                line = " ".repeat(indent);
            }
            line += &leading;
        }
        writeln!(f, "{}", line.trim_end())
    }

    /// Some policies, as many as fit.
    fn depths(&self, f: &mut Formatter<'_>, policies: std::ops::Range<usize>) -> fmt::Result {
        let names: Vec<String> = self.exits[policies.clone()].iter().map(Exit::to_string).collect();
        writeln!(f, "{:>4}  {:TOKEN$}  {}", "pos", "token", names.join("  "))?;
        let row = |depths: &dyn Fn(usize) -> String| {
            let columns = names.iter().zip(policies.clone());
            columns
                .map(|(name, policy)| format!("{:>1$}", depths(policy), name.len()))
                .collect::<Vec<_>>()
                .join("  ")
        };
        for (number, (id, position)) in self.ids.iter().zip(self.positions).enumerate() {
            let token = pad(&self.token(*id, TOKEN), TOKEN);
            writeln!(f, "{number:>4}  {token}  {}", row(&|policy| position.depths[policy].to_string()))?;
        }
        let sum =
            |policy: usize| self.positions.iter().map(|position| position.depths[policy]).sum::<usize>();
        let mean = |policy| format!("{:.2}", sum(policy) as f64 / self.positions.len().max(1) as f64);
        writeln!(f, "{:>4}  {:TOKEN$}  {}", "mean", "", row(&mean))
    }
}

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}leading tokens", self.header())?;
        for (number, (id, position)) in self.ids.iter().zip(self.positions).enumerate() {
            let mut front = format!("{number:>4}  {}", pad(&self.token(*id, TOKEN), TOKEN));
            for (number, record) in (1..).zip(&position.loops) {
                self.of_loop(f, &front, number, record)?;
                front = " ".repeat(TOKEN + 6);
            }
        }
        writeln!(f, "\nThe depth at which each policy would stop:")?;
        let mut start = 0;
        while start < self.exits.len() {
            let mut width = TOKEN + 6;
            let fits = self.exits[start..].iter().take_while(|exit| {
                width += exit.to_string().len() + 2;
                width <= WIDTH
            });
            let end = start + fits.count().max(1);
            self.depths(f, start..end)?;
            start = end;
        }
        Ok(())
    }
}
