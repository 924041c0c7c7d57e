//! What was measured: rows for programs, and a table for people.

use super::measure::Outcome;
use super::questions::Question;
use super::{ALL, Setting};
use serde::Serialize;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

/// The questions of one tag, or all of them, in one setting.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) tag: String,
    /// D.
    pub(super) loops: u8,
    pub(super) exit: String,
    /// Questions.
    pub(super) n: usize,
    /// Answered exactly.
    pub(super) right: usize,
    /// The same in percent.
    pub(super) exact: f64,
    /// Loops per generated token.
    pub(super) mean_depth: f64,
    /// Percent of D that exits saved.
    pub(super) loops_saved: f64,
    /// Generated tokens.
    pub(super) tokens: usize,
    /// Of one session, after the prompt.
    pub(super) tokens_per_second: f64,
}

/// The rows of one setting: by tag in the order of their first questions, then all.
pub(super) fn rows(setting: Setting, questions: &[Question], outcomes: &[Outcome]) -> Vec<Row> {
    let mut tags: Vec<&str> = Vec::new();
    for question in questions {
        if !tags.contains(&question.tag.as_str()) {
            tags.push(&question.tag);
        }
    }
    tags.push(ALL);
    let row = |tag: &str| {
        let pairs = questions.iter().zip(outcomes);
        let of_tag = pairs.filter(|(question, _)| tag == ALL || question.tag == tag);
        Row::new(tag, setting, &of_tag.map(|(_, outcome)| *outcome).collect::<Vec<_>>())
    };
    tags.into_iter().map(row).collect()
}

impl Row {
    fn new(tag: &str, setting: Setting, outcomes: &[Outcome]) -> Self {
        let n = outcomes.len();
        let right = outcomes.iter().filter(|outcome| outcome.exact).count();
        let sum = |part: fn(&Outcome) -> usize| outcomes.iter().map(part).sum::<usize>();
        let tokens = sum(|outcome| outcome.tokens);
        let mean_depth = sum(|outcome| outcome.loops) as f64 / tokens.max(1) as f64;
        let seconds = outcomes.iter().map(|outcome| outcome.decode).sum::<Duration>().as_secs_f64();
        // The first token of an answer comes out of its prompt.
        let decoded = sum(|outcome| outcome.tokens.saturating_sub(1));
        Self {
            tag: tag.to_owned(),
            loops: setting.loops,
            exit: setting.exit.to_string(),
            n,
            right,
            exact: 100.0 * right as f64 / n.max(1) as f64,
            mean_depth,
            loops_saved: 100.0 * (1.0 - mean_depth / f64::from(setting.loops)),
            tokens,
            tokens_per_second: if seconds > 0.0 { decoded as f64 / seconds } else { 0.0 },
        }
    }
}

/// Settings beside each other, as many as a terminal is wide.
const COLUMNS: usize = 5;
const WIDTH: usize = 19;

/// The table of all settings, one slice of rows for each.
pub(super) struct Table<'r>(pub(super) &'r [Vec<Row>]);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for settings in self.0.chunks(COLUMNS) {
            block(f, settings)?;
        }
        Ok(())
    }
}

fn block(f: &mut Formatter<'_>, settings: &[Vec<Row>]) -> fmt::Result {
    let Some(first) = settings.first() else { return Ok(()) };
    let tags = first.iter().map(|row| row.tag.chars().count());
    let label = tags.max().unwrap_or(0).max("tokens/s".len());
    let mut line = |head: &str, n: &str, cells: &[String]| {
        let cells: String = cells.iter().map(|cell| format!("{cell:>WIDTH$}")).collect();
        writeln!(f, "{head:label$}{n:>7}{cells}")
    };
    let of_all = |cell: &dyn Fn(&Row) -> String| -> Vec<String> {
        settings.iter().filter_map(|rows| rows.last()).map(cell).collect()
    };
    line("", "", &of_all(&|row| format!("D={}", row.loops)))?;
    line("exact %", "n", &of_all(&|row| short(&row.exit)))?;
    for (index, row) in first.iter().enumerate() {
        let cells = settings.iter().filter_map(|rows| rows.get(index)).map(|row| format!("{:.1}", row.exact));
        line(&row.tag, &row.n.to_string(), &cells.collect::<Vec<_>>())?;
    }
    line("depth", "", &of_all(&|row| format!("{:.2}", row.mean_depth)))?;
    line("saved %", "", &of_all(&|row| format!("{:.0}", row.loops_saved)))?;
    line("tokens/s", "", &of_all(&|row| format!("{:.0}", row.tokens_per_second)))?;
    writeln!(f)
}

/// A policy with a threshold of four digits: a calibrated one has more.
fn short(exit: &str) -> String {
    match exit.split_once('=') {
        Some((name, value)) if value.len() > 6 => {
            let rounded = value.parse::<f64>().map_or(value.to_owned(), |value| format!("{value:.4}"));
            format!("{name}={rounded}")
        }
        _ => exit.to_owned(),
    }
}
