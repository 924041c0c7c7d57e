//! From what was recorded to the threshold of each policy.

use super::record::Loop;
use ouro_runtime::model::ExitKind;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// What a threshold is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Target {
    /// This share of tokens as at full depth, in as few loops as possible.
    Agreement(f64),
    /// This mean depth, with as many tokens as at full depth as possible.
    Depth(f64),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || format!("{text} found, expected agreement=X with X from 0 to 1, or depth=X with X from 1");
        let (name, value) = text.split_once('=').ok_or_else(expected)?;
        let value: f64 = value.parse().map_err(|_| expected())?;
        match name {
            "agreement" if (0.0..=1.0).contains(&value) => Ok(Self::Agreement(value)),
            "depth" if (1.0..=255.0).contains(&value) => Ok(Self::Depth(value)),
            _ => Err(expected()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agreement(share) => write!(f, "agreement={share}"),
            Self::Depth(loops) => write!(f, "depth={loops}"),
        }
    }
}

/// What a policy does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Outcome {
    /// Share of tokens that are those of full depth.
    pub(super) agreement: f64,
    pub(super) mean_depth: f64,
}

/// A policy with its threshold, and what that does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fit {
    pub(super) policy: ExitKind,
    pub(super) threshold: f32,
    /// Along the data, read at full depth.
    pub(super) reading: Outcome,
    /// In runs, which is what counts.
    pub(super) run: Outcome,
    /// Whether that reaches the target.
    pub(super) reached: bool,
}

impl Target {
    fn is_reached(self, outcome: Outcome) -> bool {
        match self {
            Self::Agreement(share) => outcome.agreement >= share,
            Self::Depth(loops) => outcome.mean_depth <= loops,
        }
    }

    /// The larger, the better: among outcomes that reach the target, the one with fewer loops or more
    /// agreement; else the one that is closer to it.
    fn merit(self, outcome: Outcome) -> (bool, f64, f64) {
        let Outcome { agreement, mean_depth } = outcome;
        match (self, self.is_reached(outcome)) {
            (Self::Agreement(_), true) => (true, -mean_depth, agreement),
            (Self::Agreement(_), false) => (false, agreement, -mean_depth),
            (Self::Depth(_), true) => (true, agreement, -mean_depth),
            (Self::Depth(_), false) => (false, -mean_depth, agreement),
        }
    }

    /// The best of several by their outcomes; the first of equals.
    pub(super) fn best<T>(
        self,
        items: impl IntoIterator<Item = T>,
        outcome: impl Fn(&T) -> Outcome,
    ) -> Option<T> {
        let merit = |item: &T| self.merit(outcome(item));
        items.into_iter().reduce(|best, item| if merit(&item) > merit(&best) { item } else { best })
    }
}

/// How many thresholds are tried along the data,
const CANDIDATES: usize = 1000;
/// and in runs beyond the first: near it to begin with, then further away, then between.
const MOVES: usize = 8;

/// The best threshold of a policy: the best along the data, and if `run` with it misses the target,
/// moved to the nearest that is found to reach it. `loops` is `[positions, max_loops]`.
///
/// # Errors
/// Those of `run`.
pub(super) fn fit<E>(
    policy: ExitKind,
    loops: &[Loop],
    max_loops: usize,
    target: Target,
    mut run: impl FnMut(f32) -> Result<Outcome, E>,
) -> Result<Option<Fit>, E> {
    let curve: Vec<(f32, Outcome)> = candidates(policy, loops, max_loops)
        .into_iter()
        .map(|threshold| (threshold, outcome(policy, threshold, loops, max_loops)))
        .collect();
    let Some(first) = target.best(0..curve.len(), |index| curve[*index].1) else { return Ok(None) };
    let mut tried = vec![(first, run(curve[first].0)?)];
    if !target.is_reached(tried[0].1) {
        // Indices from 1, so that either end has a neighbor that is taken to reach the target.
        let end = match target {
            Target::Agreement(_) => 0,
            Target::Depth(_) => curve.len() + 1,
        };
        let (mut misses, mut reaches, mut stride) = (first + 1, end, 1);
        for _ in 0..MOVES {
            if misses.abs_diff(reaches) < 2 {
                break;
            }
            let is_near = reaches == end && stride < misses.abs_diff(end);
            let middle = match target {
                Target::Agreement(_) if is_near => misses - stride,
                Target::Depth(_) if is_near => misses + stride,
                _ => usize::midpoint(misses, reaches),
            };
            stride *= 4;
            let outcome = run(curve[middle - 1].0)?;
            tried.push((middle - 1, outcome));
            if target.is_reached(outcome) {
                reaches = middle;
            } else {
                misses = middle;
            }
        }
    }
    let best = target.best(tried, |(_, outcome)| *outcome);
    Ok(best.map(|(index, run)| {
        let (threshold, reading) = curve[index];
        Fit { policy, threshold, reading, run, reached: target.is_reached(run) }
    }))
}

/// What a policy does along the data.
fn outcome(kind: ExitKind, threshold: f32, loops: &[Loop], max_loops: usize) -> Outcome {
    let (mut positions, mut agree, mut depths) = (0usize, 0usize, 0usize);
    for position in loops.chunks_exact(max_loops) {
        let Some((last, before)) = position.split_last() else { continue };
        let exit = before.iter().position(|seen| stops(kind, threshold, seen));
        let depth = exit.map_or(max_loops, |index| index + 1);
        positions += 1;
        depths += depth;
        agree += usize::from(position[depth - 1].token == last.token);
    }
    let positions = positions.max(1) as f64;
    Outcome { agreement: agree as f64 / positions, mean_depth: depths as f64 / positions }
}

fn stops(kind: ExitKind, threshold: f32, seen: &Loop) -> bool {
    match kind {
        ExitKind::Fixed => false,
        ExitKind::Step => seen.step <= threshold,
        ExitKind::Q | ExitKind::Confidence | ExitKind::Margin => score(kind, seen) >= threshold,
    }
}

fn score(kind: ExitKind, seen: &Loop) -> f32 {
    match kind {
        ExitKind::Fixed => 0.0,
        ExitKind::Q => seen.cdf,
        ExitKind::Confidence => seen.top,
        ExitKind::Margin => seen.margin,
        ExitKind::Step => seen.step,
    }
}

/// Thresholds from the most careful to the boldest, so that the first of equals is the most careful:
/// half-way between what was seen, that none depends on the last bit of a score; a little beyond the
/// boldest of those, which stops no position unlike all that were seen; and the two ends.
fn candidates(kind: ExitKind, loops: &[Loop], max_loops: usize) -> Vec<f32> {
    let before_the_last = loops.chunks_exact(max_loops).filter_map(|position| position.split_last());
    let scores = before_the_last.flat_map(|(_, before)| before).map(|seen| score(kind, seen));
    let mut scores: Vec<f32> = scores.filter(|score| (0.0..=1.0).contains(score)).collect();
    scores.sort_by(f32::total_cmp);
    scores.dedup();
    let every = scores.len().div_ceil(CANDIDATES).max(1);
    let between = scores.windows(2).step_by(every).map(|pair| f32::midpoint(pair[0], pair[1]));
    let beyond = match kind {
        ExitKind::Step => scores.last().map(|most| (most * 1.01).min(1.0)),
        _ => scores.first().map(|least| least * 0.99),
    };
    let mut candidates: Vec<f32> = [0.0, 1.0].into_iter().chain(between).chain(beyond).collect();
    candidates.sort_by(f32::total_cmp);
    if kind != ExitKind::Step {
        candidates.reverse();
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn seen(token: u32, top: f32, step: f32) -> Loop {
        Loop { token, cdf: top, top, margin: top, step }
    }

    /// Four positions of three loops; the surer the first loop, the likelier it is right.
    fn loops() -> Vec<Loop> {
        let position = |top: f32, tokens: [u32; 3]| {
            [
                seen(tokens[0], top, f32::INFINITY),
                seen(tokens[1], top + 0.05, 1.0 - top),
                seen(tokens[2], 1.0, 0.0),
            ]
        };
        [
            position(0.9, [7, 7, 7]),
            position(0.8, [7, 7, 7]),
            position(0.4, [5, 7, 7]),
            position(0.2, [5, 6, 7]),
        ]
        .concat()
    }

    #[test]
    fn outcomes_by_hand() {
        for (kind, threshold, expected) in [
            (ExitKind::Fixed, 1.0, (1.0, 3.0)),
            (ExitKind::Confidence, 0.0, (0.5, 1.0)),
            (ExitKind::Confidence, 0.7, (1.0, (1 + 1 + 3 + 3) as f64 / 4.0)),
            (ExitKind::Q, 0.43, (1.0, (1 + 1 + 2 + 3) as f64 / 4.0)),
            (ExitKind::Margin, 0.22, (0.5, (1 + 1 + 1 + 2) as f64 / 4.0)),
            (ExitKind::Step, 0.15, (1.0, (2 + 3 + 3 + 3) as f64 / 4.0)),
        ] {
            let Outcome { agreement, mean_depth } = outcome(kind, threshold, &loops(), 3);
            assert_eq!((agreement, mean_depth), expected, "{kind:?} {threshold}");
        }
    }

    /// Runs that do what reading did.
    fn as_read(kind: ExitKind, loops: &[Loop]) -> impl FnMut(f32) -> Result<Outcome, Infallible> {
        move |threshold| Ok(outcome(kind, threshold, loops, 3))
    }

    #[test]
    fn the_best_threshold_for_either_target() {
        let loops = loops();
        let best_of = |kind, target| fit(kind, &loops, 3, target, as_read(kind, &loops)).unwrap().unwrap();
        // Just between 0.4 and 0.45 the third position stops in its second loop, where it is right.
        let best = best_of(ExitKind::Confidence, Target::Agreement(1.0));
        assert!(best.reached && (0.4..0.45).contains(&best.threshold), "{best:?}");
        assert_eq!((best.run.agreement, best.run.mean_depth), (1.0, 1.75));
        let best = best_of(ExitKind::Q, Target::Depth(2.0));
        assert_eq!((best.run.agreement, best.run.mean_depth, best.reached), (1.0, 1.75, true));
        // A step difference never stops before the second loop.
        assert!(!best_of(ExitKind::Step, Target::Depth(1.5)).reached);
    }

    /// Where all that was seen may stop at once, an input that looks less sure than all of it may not.
    #[test]
    fn nothing_unlike_the_data_stops() {
        let position = |top| [seen(7, top, f32::INFINITY), seen(7, 0.9, 0.3), seen(7, 1.0, 0.1)];
        let loops = [position(0.5), position(0.6), position(0.8)].concat();
        for kind in [ExitKind::Confidence, ExitKind::Q, ExitKind::Margin] {
            let best = fit(kind, &loops, 3, Target::Agreement(1.0), as_read(kind, &loops)).unwrap().unwrap();
            assert!(best.run.mean_depth == 1.0 && (0.45..0.5).contains(&best.threshold), "{best:?}");
        }
    }

    #[test]
    fn a_threshold_moves_until_runs_reach_the_target() {
        // A hundred positions, the surer the righter: those below 0.3 are wrong in the first loop.
        let sure = |i: i32| i as f32 / 100.0;
        let position = |i: i32| {
            let token = if i < 30 { 5 } else { 7 };
            [seen(token, sure(i), f32::INFINITY), seen(7, 1.0, 0.5), seen(7, 1.0, 0.1)]
        };
        let loops: Vec<Loop> = (0..100).flat_map(position).collect();
        // In runs it takes more than along the data: 0.6 in place of 0.3.
        let mut tries = 0;
        let mut run = |threshold: f32| -> Result<Outcome, Infallible> {
            tries += 1;
            let agreement = if threshold >= 0.6 { 1.0 } else { 0.9 };
            Ok(Outcome { agreement, mean_depth: 1.0 + f64::from(threshold) })
        };
        let moved = fit(ExitKind::Margin, &loops, 3, Target::Agreement(0.99), &mut run).unwrap().unwrap();
        assert!(moved.reached && (0.6..0.63).contains(&moved.threshold), "{moved:?}");
        assert_eq!((moved.run.agreement, moved.reading.agreement), (1.0, 1.0));
        // A position stops in its first or second loop, so along the data 1.2 loops are 0.205.
        let moved = fit(ExitKind::Margin, &loops, 3, Target::Depth(1.2), &mut run).unwrap().unwrap();
        assert!(moved.reached && moved.run.mean_depth <= 1.2, "{moved:?}");
        assert!(tries <= 2 * (MOVES + 1), "{tries}");
        // Where no threshold reaches it, the closest is told, and that it misses.
        let never = |_| Ok::<_, Infallible>(Outcome { agreement: 0.5, mean_depth: 2.0 });
        let missed = fit(ExitKind::Margin, &loops, 3, Target::Agreement(0.99), never).unwrap().unwrap();
        assert!(!missed.reached && missed.run.agreement == 0.5, "{missed:?}");
    }

    #[test]
    fn targets_read_back() {
        for text in ["agreement=0.99", "depth=2.5"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in ["", "agreement", "agreement=2", "depth=0.5", "depth=nan", "speed=2"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
