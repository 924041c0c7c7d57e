//! From logits to a token: greedy, or drawn at random from the likeliest.

use crate::kernels::math::exp;
use crate::sort::sort_by;
use core::fmt;

/// How the next token is chosen. The default is greedy.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Sampling {
    /// Divides the logits; 0 is greedy.
    pub temperature: f32,
    /// Draws from this many of the likeliest tokens; 0 is all.
    pub top_k: usize,
    /// Draws from the likeliest tokens whose probabilities first add up to this; 1 is all.
    pub top_p: f32,
    /// Draws from tokens at least this times as probable as the likeliest; 0 is all.
    pub min_p: f32,
    /// Divides positive logits, and multiplies negative ones, of tokens that occurred lately
    /// (arXiv 1909.05858); 1 is none.
    pub repetition_penalty: f32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 }
    }
}

impl Sampling {
    /// Whether all values are in range.
    ///
    /// # Errors
    /// [`SamplingError`] names the first that is not.
    pub fn check(&self) -> Result<(), SamplingError> {
        let checks = [
            ("temperature", "0 or more", self.temperature >= 0.0 && self.temperature.is_finite()),
            ("top-p", "above 0, at most 1", self.top_p > 0.0 && self.top_p <= 1.0),
            ("min-p", "0 to 1", (0.0..=1.0).contains(&self.min_p)),
            (
                "repetition penalty",
                "above 0",
                self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite(),
            ),
        ];
        match checks.into_iter().find(|(.., holds)| !holds) {
            Some((setting, expected, _)) => Err(SamplingError { setting, expected }),
            None => Ok(()),
        }
    }
}

/// A value of [`Sampling`] is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SamplingError {
    /// Which.
    pub setting: &'static str,
    /// What it may be.
    pub expected: &'static str,
}

impl fmt::Display for SamplingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, expected } = self;
        write!(f, "{setting}: expected {expected}")
    }
}

impl core::error::Error for SamplingError {}

/// Chooses tokens; the same seed gives the same choices.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: SplitMix64,
}

impl Sampler {
    /// A sampler that begins at `seed`.
    ///
    /// # Errors
    /// As [`Sampling::check`].
    pub fn new(sampling: Sampling, seed: u64) -> Result<Self, SamplingError> {
        sampling.check()?;
        Ok(Self { sampling, random: SplitMix64::new(seed) })
    }

    /// Whether the token is always the one with the largest logit, so that no logits need be read:
    /// the session [knows it](crate::session::Session::readout).
    #[must_use]
    pub fn takes_the_best(&self) -> bool {
        self.sampling.temperature == 0.0 && self.sampling.repetition_penalty == 1.0
    }

    /// Where the random numbers stand; as a seed it goes on from there.
    #[must_use]
    pub fn state(&self) -> u64 {
        self.random.0
    }

    /// The next token from `logits` (`[vocab]`), which are changed on the way. `recent` are the
    /// tokens that the repetition penalty covers; `order` is scratch, `[vocab]`, and may be empty
    /// when greedy.
    pub fn sample(&mut self, logits: &mut [f32], recent: &[u32], order: &mut [u32]) -> u32 {
        let Sampling { temperature, repetition_penalty, .. } = self.sampling;
        if repetition_penalty != 1.0 {
            penalize(logits, recent, repetition_penalty);
        }
        if temperature == 0.0 {
            return argmax(logits);
        }
        self.draw(logits, order)
    }

    fn draw(&mut self, logits: &mut [f32], order: &mut [u32]) -> u32 {
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.sampling;
        let best = argmax(logits);
        let max = at(logits, best);
        // From here on `logits` are weights, the largest of which is 1; NaN weighs nothing.
        for logit in logits.iter_mut() {
            *logit = exp((*logit - max) / temperature).max(0.0);
        }
        let weights = &*logits;
        sort_by(order, |id| u64::from(!at(weights, id).to_bits()));
        let in_top_k = if top_k == 0 { usize::MAX } else { top_k };
        let kept = || order.iter().take(in_top_k).map(|id| (*id, at(weights, *id)));
        let nucleus = top_p * kept().fold(0.0, |sum, (_, weight)| sum + weight);

        // The likeliest tokens up to and with the one that completes the nucleus.
        let mut before = 0.0;
        let candidates = || {
            kept().take_while(|(_, weight)| *weight >= min_p).scan(0.0, |sum, (id, weight)| {
                let open = top_p >= 1.0 || *sum < nucleus;
                *sum += weight;
                open.then_some((id, weight))
            })
        };
        let total = candidates().fold(0.0, |sum, (_, weight)| sum + weight);
        let drawn = self.random.unit() * total;
        let chosen = candidates().find(|(_, weight)| {
            before += weight;
            drawn < before
        });
        chosen.map_or(best, |(id, _)| id)
    }
}

/// The token with the largest logit; of equals, the lowest id. NaN never wins.
#[must_use]
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, logit) in (0..).zip(logits) {
        if *logit > best.1 {
            best = (id, *logit);
        }
    }
    best.0
}

fn at(logits: &[f32], id: u32) -> f32 {
    logits.get(id as usize).copied().unwrap_or_default()
}

/// Makes every token in `recent` less likely, once, however often it occurs there.
fn penalize(logits: &mut [f32], recent: &[u32], penalty: f32) {
    for (i, id) in recent.iter().enumerate() {
        if recent.iter().take(i).any(|earlier| earlier == id) {
            continue;
        }
        if let Some(logit) = logits.get_mut(*id as usize) {
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }
}

/// Sebastiano Vigna's SplitMix64 (public domain): 64 bits of state, every seed is good.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator that begins at `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1, 24 bits.
    fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 24) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shares of each token over many draws.
    fn shares(sampling: Sampling, logits: &[f32]) -> std::vec::Vec<f32> {
        let mut sampler = Sampler::new(sampling, 7).unwrap();
        let mut counts = std::vec![0.0; logits.len()];
        let mut order = std::vec![0; logits.len()];
        let draws = 20_000;
        for _ in 0..draws {
            let id = sampler.sample(&mut logits.to_vec(), &[], &mut order);
            counts[id as usize] += 1.0 / draws as f32;
        }
        counts
    }

    #[test]
    fn draws_from_the_distribution_that_is_left() {
        // Probabilities 0.1, 0.4, 0.2, 0.3.
        let logits = [1.0f32, 4.0, 2.0, 3.0].map(f32::ln);
        let one = Sampling { temperature: 1.0, ..Sampling::default() };
        let cases = [
            ("all", one, [0.1, 0.4, 0.2, 0.3]),
            ("top-k 2", Sampling { top_k: 2, ..one }, [0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]),
            ("top-p 0.6", Sampling { top_p: 0.6, ..one }, [0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]),
            ("top-p 0.75", Sampling { top_p: 0.75, ..one }, [0.0, 4.0 / 9.0, 2.0 / 9.0, 3.0 / 9.0]),
            ("min-p 0.5", Sampling { min_p: 0.45, ..one }, [0.0, 4.0 / 9.0, 2.0 / 9.0, 3.0 / 9.0]),
            (
                "top-k 3, then top-p",
                Sampling { top_k: 3, top_p: 0.5, ..one },
                [0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0],
            ),
            (
                "temperature 0.5",
                Sampling { temperature: 0.5, ..one },
                [1.0, 16.0, 4.0, 9.0].map(|w| w / 30.0),
            ),
            ("top-k 1", Sampling { top_k: 1, ..one }, [0.0, 1.0, 0.0, 0.0]),
        ];
        for (name, sampling, expected) in cases {
            for (id, (share, expected)) in shares(sampling, &logits).iter().zip(expected).enumerate() {
                // Three standard deviations of 20,000 draws are at most 0.0106.
                assert!((share - expected).abs() < 0.011, "{name}: token {id}: {share}, expected {expected}");
            }
        }
    }

    #[test]
    fn same_seed_same_tokens() {
        let draw = |seed| {
            let mut sampler =
                Sampler::new(Sampling { temperature: 1.0, ..Sampling::default() }, seed).unwrap();
            (0..50).map(|_| sampler.sample(&mut [0.0; 100], &[], &mut [0; 100])).collect::<std::vec::Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }

    #[test]
    fn greedy_ties_nan_and_penalty() {
        assert_eq!(argmax(&[f32::NAN, 2.0, 3.0, 3.0]), 2);
        assert_eq!(argmax(&[]), 0);
        let mut sampler =
            Sampler::new(Sampling { repetition_penalty: 2.0, ..Sampling::default() }, 0).unwrap();
        assert_eq!(sampler.sample(&mut [3.0, 2.0, -1.0], &[0, 0], &mut []), 1);
        assert_eq!(sampler.sample(&mut [-3.0, -2.0], &[1], &mut []), 0);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (setting, sampling) in [
            ("temperature", Sampling { temperature: -1.0, ..Sampling::default() }),
            ("top-p", Sampling { top_p: 0.0, ..Sampling::default() }),
            ("min-p", Sampling { min_p: f32::NAN, ..Sampling::default() }),
            ("repetition penalty", Sampling { repetition_penalty: 0.0, ..Sampling::default() }),
        ] {
            assert_eq!(Sampler::new(sampling, 0).unwrap_err().setting, setting);
        }
    }
}
