//! How well a model predicts a text, at every depth; and how often the back end's choice is the
//! reference path's.

use super::Args;
use super::sessions::Sessions;
use crate::args::DepthArgs;
use crate::compute::Compute;
use crate::error::Error;
use crate::interrupt;
use crate::open::{Memory, Opened, session, session_error};
use crate::progress;
use crate::report::counted;
use crate::store::HostStore;
use crate::text::encode;
use ouro_runtime::depth::FixedDepth;
use ouro_runtime::kernels::Backend;
use ouro_runtime::model::Model;
use ouro_runtime::sample::argmax;
use ouro_runtime::session::{Feed, Session, Settings, Step};
use ouro_runtime::text::Specials;
use serde::Serialize;
use std::fmt::{self, Display, Formatter};
use std::path::Path;

/// The usual window, where the context allows.
const WINDOW: usize = 512;

/// What was found at one depth.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// The depth.
    loops: usize,
    /// Tokens that were predicted.
    positions: usize,
    perplexity: f64,
    /// Of the perplexity.
    standard_error: f64,
    #[serde(flatten)]
    against: Option<Against>,
}

/// This back end against the reference path.
#[derive(Debug, Serialize)]
struct Against {
    /// Positions with the same likeliest token, in percent.
    agreement: f64,
    /// The largest margin of the reference path's token where the other is not the same, in logits.
    disagreeing_margin: f64,
    /// The mean Kullback-Leibler divergence in nats.
    divergence: f64,
}

/// Reads the text and predicts it at every depth.
///
/// # Errors
/// [`Error`].
pub(super) fn run(args: &Args, opened: &Opened<'_>, sessions: &mut Sessions<'_>) -> Result<Vec<Row>, Error> {
    let config = opened.model.config();
    let window = args.window.map_or(WINDOW.min(config.context), |window| window as usize);
    let (path, ids) = read(args, opened)?;
    if ids.len() < window {
        let (path, found) = (path.display(), counted(ids.len(), "token"));
        return Err(Error::BadInput(format!(
            "{path}: {found}, less than a window of {window}; give a longer text or a smaller --window"
        )));
    }
    let mut loops: Vec<usize> = args.loops.iter().copied().map(usize::from).collect();
    if loops.is_empty() {
        loops.push(config.loops);
    }
    loops.sort_unstable();
    loops.dedup();
    let max_loops = loops.last().copied().unwrap_or(1);
    let depth = DepthArgs { loops: u8::try_from(max_loops).ok(), min_loops: 1, exit: None };
    let settings = args.kv.settings(&depth, &opened.model, window, window);
    sessions.divide(opened, &settings, if args.agreement { 2 } else { 1 })?;
    let examiner = Examiner { agreement: args.agreement, model: &opened.model, settings, loops: &loops };
    let windows: Vec<&[u32]> = ids.chunks_exact(window).collect();
    let bar = progress::bar(windows.len() as u64, "{bar:30} {pos} of {len} windows, {eta} left");
    let sums = sessions.map(&windows, |compute, store, windows| {
        let read = |window: &&[u32]| examiner.read(compute, store, window).inspect(|_| bar.inc(1));
        windows.iter().map(read).collect::<Result<Vec<Vec<Sums>>, Error>>()
    });
    bar.finish_and_clear();
    let sums = sums?;
    let row = |(index, &loops): (usize, &usize)| {
        let of_depth = sums.iter().map(|sums| sums[index]);
        of_depth.fold(Sums::default(), Sums::and).row(loops, args.agreement)
    };
    Ok(loops.iter().enumerate().map(row).collect())
}

/// The ids to predict, and where they come from.
fn read<'p>(args: &'p Args, opened: &Opened<'_>) -> Result<(&'p Path, Vec<u32>), Error> {
    if let Some(path) = &args.tokens_file {
        let text = std::fs::read(path).map_err(|error| Error::reading(path, &error))?;
        let ids = serde_json::from_slice(&text).map_err(|error| {
            let path = path.display();
            Error::BadInput(format!(
                "{path}: {error}; expected a JSON array of token ids, such as [1, 42, 7]"
            ))
        })?;
        return Ok((path, ids));
    }
    let path = args.perplexity.as_deref().unwrap_or(Path::new(""));
    let text = std::fs::read(path).map_err(|error| Error::reading(path, &error))?;
    let text = String::from_utf8(text)
        .map_err(|error| Error::BadInput(format!("{}: not UTF-8: {error}", path.display())))?;
    let tokenizer = opened.tokenizer(&args.model.model)?;
    Ok((path, encode(tokenizer, &text, Specials::PlainText)?))
}

/// Reads windows.
struct Examiner<'e, 'm> {
    agreement: bool,
    model: &'e Model<'m>,
    settings: Settings,
    /// The depths that count, ascending.
    loops: &'e [usize],
}

impl Examiner<'_, '_> {
    /// The sums of one window, one for each depth.
    fn read(&self, compute: Compute, store: &mut HostStore, window: &[u32]) -> Result<Vec<Sums>, Error> {
        let (mut memory, mut other_memory) = (Memory::default(), Memory::default());
        let mut ours = self.reader(compute, window, &mut memory)?;
        let exact = Compute { backend: Backend::REFERENCE, ..compute };
        let mut reference = match self.agreement {
            true => Some(self.reader(exact, window, &mut other_memory)?),
            false => None,
        };
        let mut sums = Vec::new();
        while let Some(loops) = ours.next_loop(store)? {
            if let Some(reference) = &mut reference {
                reference.next_loop(store)?;
            }
            if !self.loops.contains(&loops) {
                continue;
            }
            let mut sum = Sums::default();
            // The last position predicts what is not there.
            for row in window.len() / 2..window.len() - 1 {
                let logits = ours.logits(store, row)?;
                let next = window[row + 1] as usize;
                match &mut reference {
                    Some(reference) => sum.compare(logits, next, reference.logits(store, row)?),
                    None => sum.add(&Prediction::new(logits), next),
                }
            }
            sums.push(sum);
        }
        Ok(sums)
    }

    fn reader<'r>(
        &'r self,
        compute: Compute,
        window: &[u32],
        memory: &'r mut Memory,
    ) -> Result<Reader<'r>, Error> {
        let (mut session, _) = session(self.model, self.settings, memory)?;
        compute.lend(&mut session);
        session.feed(window, Feed::Prompt).map_err(session_error)?;
        Ok(Reader { session, logits: vec![0.0; self.model.config().vocab] })
    }
}

/// A window on its way through the loops.
struct Reader<'r> {
    session: Session<'r>,
    logits: Vec<f32>,
}

impl Reader<'_> {
    /// Computes the next loop, and says which it was.
    fn next_loop(&mut self, store: &mut HostStore) -> Result<Option<usize>, Error> {
        loop {
            if interrupt::is_set() {
                return Err(Error::Interrupted);
            }
            match self.session.step(store, &FixedDepth).map_err(session_error)? {
                Step::Loop { loops } => return Ok(Some(loops)),
                Step::Done(_) => return Ok(None),
                _ => {}
            }
        }
    }

    fn logits(&mut self, store: &mut HostStore, row: usize) -> Result<&[f32], Error> {
        self.session.logits_of(store, row, &mut self.logits).map_err(session_error)?;
        Ok(&self.logits)
    }
}

/// Logits, and what makes probabilities of them.
struct Prediction<'l> {
    logits: &'l [f32],
    /// `ln Σ exp(logit)`.
    log_sum: f64,
}

impl<'l> Prediction<'l> {
    fn new(logits: &'l [f32]) -> Self {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
        Self { logits, log_sum: f64::from(max) + sum.ln() }
    }

    fn log_probability(&self, token: usize) -> f64 {
        f64::from(self.logits[token]) - self.log_sum
    }

    /// `Σ p ln (p / q)`, where `q` is the other's probability.
    fn divergence_from(&self, other: &Prediction<'_>) -> f64 {
        let pairs = self.logits.iter().zip(other.logits);
        let sum: f64 = pairs
            .map(|(p, q)| {
                let (p, q) = (f64::from(*p) - self.log_sum, f64::from(*q) - other.log_sum);
                p.exp() * (p - q)
            })
            .sum();
        // Rounding can make it less than nothing.
        sum.max(0.0)
    }
}

/// Sums over positions.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    positions: usize,
    /// Of negative log-probabilities.
    surprise: f64,
    surprise_squared: f64,
    agreeing: usize,
    disagreeing_margin: f64,
    divergence: f64,
}

impl Sums {
    fn add(&mut self, prediction: &Prediction<'_>, next: usize) {
        let surprise = -prediction.log_probability(next);
        self.positions += 1;
        self.surprise += surprise;
        self.surprise_squared += surprise * surprise;
    }

    fn compare(&mut self, ours: &[f32], next: usize, reference: &[f32]) {
        let (prediction, exact) = (Prediction::new(ours), Prediction::new(reference));
        self.add(&prediction, next);
        self.divergence += exact.divergence_from(&prediction);
        let (token, exact) = (argmax(ours) as usize, argmax(reference) as usize);
        if token == exact {
            self.agreeing += 1;
        } else {
            // How much larger the right one's logit is than that of the one taken for it.
            let margin = f64::from(reference[exact] - reference[token]);
            self.disagreeing_margin = self.disagreeing_margin.max(margin);
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            positions: self.positions + other.positions,
            surprise: self.surprise + other.surprise,
            surprise_squared: self.surprise_squared + other.surprise_squared,
            agreeing: self.agreeing + other.agreeing,
            disagreeing_margin: self.disagreeing_margin.max(other.disagreeing_margin),
            divergence: self.divergence + other.divergence,
        }
    }

    fn row(self, loops: usize, compared: bool) -> Row {
        let n = self.positions as f64;
        let mean = self.surprise / n;
        let variance = (self.surprise_squared / n - mean * mean).max(0.0);
        let perplexity = mean.exp();
        let against = compared.then(|| Against {
            agreement: 100.0 * self.agreeing as f64 / n,
            disagreeing_margin: self.disagreeing_margin,
            divergence: self.divergence / n,
        });
        let standard_error = perplexity * (variance / n).sqrt();
        Row { loops, positions: self.positions, perplexity, standard_error, against }
    }
}

/// The rows for people.
pub(super) struct Table<'r>(pub(super) &'r [Row]);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let compared = self.0.iter().any(|row| row.against.is_some());
        write!(f, "loops  positions  perplexity   error")?;
        writeln!(f, "{}", if compared { "  agreement %  divergence  margin" } else { "" })?;
        for row in self.0 {
            let Row { loops, positions, perplexity, standard_error, against } = row;
            write!(f, "{loops:>5}  {positions:>9}  {perplexity:>10.4}  {standard_error:>6.3}")?;
            if let Some(Against { agreement, disagreeing_margin, divergence }) = against {
                write!(f, "  {agreement:>11.2}  {divergence:>10.6}  {disagreeing_margin:>6.3}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_and_divergence() {
        // p = 1/4, 3/4; q = 1/2, 1/2, whatever is added to the logits.
        let (p, q) = ([1e3, 1e3 + 3f32.ln()], [-5.0, -5.0]);
        let (p, q) = (Prediction::new(&p), Prediction::new(&q));
        let close =
            |found: f64, expected: f64| assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        close(p.log_probability(0), 0.25f64.ln());
        close(q.log_probability(1), 0.5f64.ln());
        close(p.divergence_from(&q), 0.25 * 0.5f64.ln() + 0.75 * 1.5f64.ln());
        close(p.divergence_from(&p), 0.0);
    }

    #[test]
    fn perplexity_of_a_fair_coin_is_two() {
        let mut sums = Sums::default();
        for next in [0, 1, 1] {
            sums.compare(&[0.0, 0.0], next, &[0.0, 0.5]);
        }
        let row = sums.row(3, true);
        let against = row.against.unwrap();
        assert_eq!((row.loops, row.positions), (3, 3));
        assert!((row.perplexity - 2.0).abs() < 1e-12 && row.standard_error.abs() < 1e-7);
        // Of equals the first is taken, the reference takes the second.
        assert_eq!((against.agreement, against.disagreeing_margin), (0.0, 0.5));
    }
}
