//! How long a token takes whose tiles are fetched while those before them compute.

use crate::store::FileStore;

/// What one tile takes, in seconds; a pinned one takes nothing to fetch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) computing: f64,
    pub(super) fetching: f64,
}

/// Tokens until each takes as long as the one before.
const TOKENS: usize = 3;

/// Seconds of one token of these tiles among others like it. The embedding is waited for. Then the disk
/// reads one tile after another, as far ahead as the block buffer has room; what is pinned gives it time
/// for no more than that.
pub(super) fn seconds(embedding: f64, tiles: &[Step]) -> f64 {
    let fetches: Vec<f64> = tiles.iter().map(|tile| tile.fetching).filter(|time| *time > 0.0).collect();
    let (mut now, mut disk, mut began) = (0.0, 0.0, 0.0);
    // When each tile that was ordered so far is there.
    let mut there: Vec<f64> = Vec::new();
    let mut wanted = 0;
    for _ in 0..TOKENS {
        began = now;
        if embedding > 0.0 {
            disk = f64::max(disk, now) + embedding;
            now = disk;
        }
        for tile in tiles {
            if tile.fetching > 0.0 {
                while there.len() <= wanted + FileStore::AHEAD {
                    disk = f64::max(disk, now) + fetches[there.len() % fetches.len()];
                    there.push(disk);
                }
                now = f64::max(now, there[wanted]);
                wanted += 1;
            }
            now += tile.computing;
        }
    }
    now - began
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }

    fn tiles(count: usize, computing: f64, fetching: f64) -> Vec<Step> {
        vec![Step { computing, fetching }; count]
    }

    #[test]
    fn the_slower_one_decides() {
        close(seconds(0.5, &tiles(100, 1.0, 3.0)), 300.5);
        close(seconds(0.0, &tiles(100, 3.0, 1.0)), 300.0);
        close(seconds(0.0, &tiles(100, 3.0, 0.0)), 300.0);
    }

    /// Side by side with as much to compute, fetches cost nothing; all at the end of the token, only the
    /// tiles that there is room for are read ahead.
    #[test]
    fn fetches_overlap_only_where_they_are() {
        let (pinned, fetched) = (tiles(10, 2.0, 0.0), tiles(10, 0.0, 2.0));
        let spread: Vec<Step> = pinned.iter().zip(&fetched).flat_map(|(a, b)| [*a, *b]).collect();
        close(seconds(0.0, &spread), 20.0);
        let apart = [pinned, fetched].concat();
        close(seconds(0.0, &apart), 20.0 + 2.0 * (10 - FileStore::AHEAD) as f64);
    }
}
