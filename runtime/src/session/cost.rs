//! What work costs, known before it is done.

#![cfg_attr(not(feature = "budget"), allow(dead_code))]

use super::Settings;
use crate::depth::{LOOP, Needs};
use crate::model::{Config, Model, Tile};
use crate::store::Store;
use core::time::Duration;

/// An amount of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Cost {
    /// Loops of all positions together.
    pub loops: u64,
    /// Times that the output head is computed.
    pub heads: u64,
    /// Multiplications with accumulation: of matrices and of attention.
    pub macs: u64,
    /// Bytes fetched from the store, as it moves them ([`Store::fetched`]).
    pub bytes: u64,
    /// Of `bytes`, those that fill what the store keeps for good: once, whatever the work.
    pub filling: u64,
}

/// Positions to be computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Work {
    /// Positions in the cache already.
    pub older: usize,
    /// Tokens of a prompt, in as few feeds as [`Settings::rows`] allows.
    pub prompt: usize,
    /// Tokens after it, fed one by one.
    pub generated: usize,
}

/// How fast a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Rates {
    /// Multiplications with accumulation per second.
    pub macs_per_second: u64,
    /// Bytes fetched per second.
    pub bytes_per_second: u64,
}

impl Cost {
    /// The most that this work can cost without a budget, with a policy that needs this: what
    /// [`Session::worst_case`](super::Session::worst_case) says, before there is a session.
    #[must_use]
    pub fn worst_case<S: Store>(
        model: &Model<'_>,
        store: &S,
        settings: &Settings,
        work: Work,
        needs: Needs,
    ) -> Self {
        worst_case(model, &Fetches::of(model, store), settings, work, needs, [None, None])
    }

    /// The time that this takes where nothing is fetched while something is computed: no store
    /// takes longer.
    #[must_use]
    pub fn time(&self, rates: &Rates) -> Duration {
        let of = |amount: u64, per_second: u64| {
            let nanos = (u128::from(amount) * 1_000_000_000).div_ceil(u128::from(per_second.max(1)));
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        of(self.macs, rates.macs_per_second).saturating_add(of(self.bytes, rates.bytes_per_second))
    }
}

/// Bytes that a store moves for the parts of a token at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Fetches {
    /// One pass through the stack, once all that the store keeps for good is there.
    pub pass: u64,
    /// The output head, likewise.
    pub head: u64,
    /// An embedding.
    pub row: u64,
    /// The largest load: of a tile or an embedding.
    pub largest: u64,
    /// What is fetched in vain, once per token at most: the tiles that were announced when something
    /// else turned out to follow. That is after a whole pass, so none of them is still to be kept.
    pub ahead: u64,
    /// What fills that which the store keeps for good and has not yet.
    pub filling: u64,
}

impl Fetches {
    /// From this store, as it is now.
    #[must_use]
    pub fn of<S: Store>(model: &Model<'_>, store: &S) -> Self {
        let max = store.max_tile();
        let sum = |bytes: u64, tile: Tile| bytes.saturating_add(store.fetched_again(tile.span));
        let tiles = || model.stack_tiles(max).chain(model.head_tiles(max)).map(|tile| tile.span);
        let tile = tiles().map(|span| store.fetched_again(span)).max().unwrap_or_default();
        let filling = tiles().map(|span| store.fetched(span).saturating_sub(store.fetched_again(span)));
        // Where a row begins in a page differs from row to row.
        let rows = (0..model.config().vocab as u32).map(|token| store.fetched(model.embedding_row(token)));
        let row = rows.max().unwrap_or_default();
        Self {
            pass: model.stack_tiles(max).fold(0, sum),
            head: model.head_tiles(max).fold(0, sum),
            row,
            largest: tile.max(row),
            ahead: tile.saturating_mul(store.reads_ahead() as u64),
            filling: filling.fold(0, u64::saturating_add),
        }
    }

    /// Another loop, and the head after it.
    pub(super) fn loop_and_head(&self) -> u64 {
        self.pass.saturating_add(self.head).saturating_add(self.ahead)
    }

    /// What every token must add to a budget so that one of depth `fallback` can be paid, and something
    /// is left to recover by.
    pub(super) fn least_rate(&self, fallback: usize) -> u64 {
        let passes = self.pass.saturating_mul(fallback as u64);
        passes.saturating_add(self.head).saturating_add(self.row).saturating_add(self.largest.max(self.ahead))
    }
}

/// See [`Session::worst_case`](super::Session::worst_case). `left` are the loops, in thousandths, and
/// the bytes that the generated tokens may take at most.
pub(super) fn worst_case(
    model: &Model<'_>,
    fetches: &Fetches,
    settings: &Settings,
    Work { older, prompt, generated }: Work,
    needs: Needs,
    [loops_left, bytes_left]: [Option<u64>; 2],
) -> Cost {
    let after = older.saturating_add(prompt);
    let last = after.saturating_add(generated).saturating_sub(1).min(settings.context);
    let config = model.config();
    let layers = config.layers as u64;
    let prompt_macs = layer_macs(config, older, prompt).saturating_mul(layers);
    let token_macs = layer_macs(config, last, 1).saturating_mul(layers);

    let (prompt, generated) = (prompt as u64, generated as u64);
    let max_loops = settings.max_loops as u64;
    let unbounded = generated.saturating_mul(max_loops);
    let loops = loops_left.map_or(unbounded, |left| unbounded.min(left / LOOP));
    let feeds = prompt.div_ceil((settings.rows as u64).max(1));
    let prompt_passes = feeds.saturating_mul(max_loops);

    let asked = max_loops.saturating_sub(settings.min_loops as u64).saturating_add(1);
    let heads_per_token = if needs.logits { asked } else { 1 };
    let prompt_heads = feeds.saturating_mul(heads_per_token);
    let heads = generated.saturating_mul(heads_per_token);
    // One head per token at least, and none without a loop.
    let heads = if needs.logits { heads.min(loops.max(generated)) } else { heads };

    let bytes_of = |passes: u64, heads: u64, positions: u64, feeds: u64| {
        let Fetches { pass, head, row, ahead, .. } = *fetches;
        [(passes, pass), (heads, head), (positions, row), (feeds, ahead)]
            .into_iter()
            .fold(0u64, |sum, (times, bytes)| sum.saturating_add(bytes.saturating_mul(times)))
    };
    let generated_bytes = bytes_of(loops, heads, generated, generated);
    let generated_bytes = bytes_left.map_or(generated_bytes, |left| generated_bytes.min(left));
    let all_heads = heads.saturating_add(prompt_heads);
    Cost {
        loops: prompt.saturating_mul(max_loops).saturating_add(loops),
        heads: all_heads,
        macs: prompt_macs
            .saturating_mul(max_loops)
            .saturating_add(token_macs.saturating_mul(loops))
            .saturating_add(all_heads.saturating_mul(head_macs(config))),
        bytes: bytes_of(prompt_passes, prompt_heads, prompt, feeds)
            .saturating_add(generated_bytes)
            .saturating_add(fetches.filling),
        filling: fetches.filling,
    }
}

/// One layer of one loop for `rows` positions after `older` ones.
pub(super) fn layer_macs(config: &Config, older: usize, rows: usize) -> u64 {
    let (hidden, q_width) = (config.hidden as u64, config.q_width() as u64);
    let outputs = 2 * q_width + 2 * config.kv_width() as u64 + 3 * config.ffn as u64;
    let (older, rows) = (older as u64, rows as u64);
    // Row i reads the older positions and i + 1 of those in flight, for scores and for values.
    let read = rows.saturating_mul(older).saturating_add(rows.saturating_mul(rows.saturating_add(1)) / 2);
    let matrices = rows.saturating_mul(hidden.saturating_mul(outputs));
    matrices.saturating_add(read.saturating_mul(2 * q_width))
}

/// The output head of one position.
pub(super) fn head_macs(config: &Config) -> u64 {
    (config.vocab as u64).saturating_mul(config.hidden as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_at_given_rates() {
        let cost = Cost { macs: 3_000, bytes: 500, ..Cost::default() };
        let rates = Rates { macs_per_second: 1_000, bytes_per_second: 1_000 };
        assert_eq!(cost.time(&rates), Duration::from_millis(3_500));
        let most = Cost { macs: u64::MAX, bytes: u64::MAX, ..cost };
        let least = Rates { macs_per_second: 0, bytes_per_second: 0 };
        assert!(most.time(&least) > Duration::from_secs(u64::from(u32::MAX)));
    }
}
