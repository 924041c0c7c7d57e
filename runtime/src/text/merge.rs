//! Merging byte pairs within a word, lowest rank first.

use bytemuck::{Pod, Zeroable};

/// No token, no rank, no position.
pub(super) const NONE: u32 = u32::MAX;

/// One line of the merge table, less the token on the left.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct Merge {
    pub(super) right: u32,
    /// Its place in the file; lower ranks merge first.
    pub(super) rank: u32,
    /// The token that the two become.
    pub(super) result: u32,
}

/// The merge table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merges<'a> {
    /// Per token on the left where its merges start, and where those of one more would.
    pub(super) starts: &'a [u32],
    /// Those of one token on the left are in order of the right one, then of rank.
    pub(super) merges: &'a [Merge],
}

impl Merges<'_> {
    /// The merge of this pair. Of a pair listed twice the last counts, as in the original.
    fn find(self, left: u32, right: u32) -> Option<Merge> {
        let left = left as usize;
        let (start, end) = (*self.starts.get(left)?, *self.starts.get(left.checked_add(1)?)?);
        let merges = self.merges.get(start as usize..end as usize)?;
        let end = merges.partition_point(|merge| merge.right <= right);
        merges.get(end.checked_sub(1)?).copied().filter(|merge| merge.right == right)
    }
}

/// Working memory for one byte of a word, see [`super::Tokenizer::encode`].
///
/// A word is a doubly linked list of tokens, each at the position of its first byte. Which pair
/// merges next is known from a tournament: the tree's leaves are the positions, and each inner
/// node holds the winner of the two below it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Symbol {
    id: u32,
    prev: u32,
    next: u32,
    /// Rank of the merge with the token at `next`.
    rank: u32,
    /// Of the inner node with this index; has nothing to do with the token at this position.
    winner: u32,
}

/// A word in the course of merging.
pub(super) struct Word<'w> {
    symbols: &'w mut [Symbol],
    merges: Merges<'w>,
    /// Comparisons of the tournament so far.
    #[cfg(test)]
    matches: usize,
}

impl<'w> Word<'w> {
    /// A word of the tokens `ids`, as many of them as there are `symbols`.
    pub(super) fn new(ids: impl Iterator<Item = u32>, symbols: &'w mut [Symbol], merges: Merges<'w>) -> Self {
        let mut len = 0;
        for (symbol, id) in symbols.iter_mut().zip(ids) {
            // The first one's predecessor wraps to NONE.
            let (prev, next) = ((len as u32).wrapping_sub(1), (len as u32).wrapping_add(1));
            *symbol = Symbol { id, prev, next, rank: NONE, winner: NONE };
            len += 1;
        }
        let symbols = symbols.get_mut(..len).unwrap_or_default();
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        Self {
            symbols,
            merges,
            #[cfg(test)]
            matches: 0,
        }
    }

    /// Merges until no pair is in the table: n log n for n tokens.
    pub(super) fn merge(&mut self) {
        for position in 0..self.symbols.len() {
            self.find_rank(position as u32);
        }
        for node in (1..self.symbols.len()).rev() {
            self.play(node);
        }
        while let Some(position) = self.best() {
            let Some(merge) = self.find_merge(position) else { return };
            self.apply(position, merge.result);
        }
    }

    /// The tokens, in order.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        let at = |position: u32| self.symbols.get(position as usize);
        core::iter::successors(at(0), move |symbol| at(symbol.next)).map(|symbol| symbol.id)
    }

    /// Turns the token at `position` and its successor into `result`.
    fn apply(&mut self, position: u32, result: u32) {
        let Some(symbol) = self.symbol(position) else { return };
        let (prev, gone) = (symbol.prev, symbol.next);
        symbol.id = result;
        let Some(gone_symbol) = self.symbol(gone) else { return };
        gone_symbol.rank = NONE;
        let next = gone_symbol.next;
        if let Some(symbol) = self.symbol(position) {
            symbol.next = next;
        }
        if let Some(symbol) = self.symbol(next) {
            symbol.prev = position;
        }
        self.find_rank(position);
        self.find_rank(prev);
        for changed in [gone, position, prev] {
            self.replay(changed);
        }
    }

    fn symbol(&mut self, position: u32) -> Option<&mut Symbol> {
        self.symbols.get_mut(position as usize)
    }

    fn find_merge(&self, position: u32) -> Option<Merge> {
        let left = self.symbols.get(position as usize)?;
        let right = self.symbols.get(left.next as usize)?;
        self.merges.find(left.id, right.id)
    }

    fn find_rank(&mut self, position: u32) {
        let rank = self.find_merge(position).map_or(NONE, |merge| merge.rank);
        if let Some(symbol) = self.symbol(position) {
            symbol.rank = rank;
        }
    }

    /// The position of the pair to merge next: the leftmost of the lowest rank.
    fn best(&self) -> Option<u32> {
        let winner = self.winner(1);
        (self.rank(winner) != NONE).then_some(winner)
    }

    fn rank(&self, position: u32) -> u32 {
        self.symbols.get(position as usize).map_or(NONE, |symbol| symbol.rank)
    }

    /// The winner at a node of the tree: nodes 1.. are inner ones, nodes n.. the n positions.
    fn winner(&self, node: usize) -> u32 {
        match node.checked_sub(self.symbols.len()) {
            Some(position) => position as u32,
            None => self.symbols.get(node).map_or(NONE, |symbol| symbol.winner),
        }
    }

    /// Decides an inner node anew, and says whether its winner is another one now.
    fn play(&mut self, node: usize) -> bool {
        #[cfg(test)]
        {
            self.matches += 1;
        }
        let first = node.saturating_mul(2);
        let [a, b] = [first, first.saturating_add(1)].map(|child| self.winner(child));
        let winner = if (self.rank(a), a) <= (self.rank(b), b) { a } else { b };
        let Some(symbol) = self.symbols.get_mut(node) else { return false };
        let changed = symbol.winner != winner;
        symbol.winner = winner;
        changed
    }

    /// Decides the nodes above `position`, whose rank has changed.
    fn replay(&mut self, position: u32) {
        if position == NONE {
            return;
        }
        let mut node = (position as usize).saturating_add(self.symbols.len()) / 2;
        while node >= 1 {
            let changed = self.play(node);
            // Nodes further up see another rank only if they see this position.
            if !changed && self.winner(node) != position {
                return;
            }
            node /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Merge, Merges, Symbol, Word};
    use std::vec::Vec;
    use std::{println, vec};

    /// Merges as the definition says, in quadratic time.
    fn merge_naively(mut ids: Vec<u32>, merges: Merges<'_>) -> Vec<u32> {
        loop {
            let pairs = ids.windows(2).enumerate();
            let found = pairs.filter_map(|(at, pair)| Some((merges.find(pair[0], pair[1])?, at)));
            let Some((merge, at)) = found.min_by_key(|(merge, at)| (merge.rank, *at)) else { return ids };
            ids.splice(at..at + 2, [merge.result]);
        }
    }

    /// The parts of a [`Merges`].
    struct Table(Vec<u32>, Vec<Merge>);

    impl Table {
        fn new(pairs: &[(u32, u32, u32)]) -> Self {
            let mut lines: Vec<_> = (0..).zip(pairs).map(|(rank, &(a, b, c))| (a, b, rank, c)).collect();
            lines.sort_unstable();
            let starts = (0..40).map(|left| lines.partition_point(|line| line.0 < left) as u32).collect();
            let merges = lines.iter().map(|&(_, right, rank, result)| Merge { right, rank, result });
            Self(starts, merges.collect())
        }

        fn get(&self) -> Merges<'_> {
            Merges { starts: &self.0, merges: &self.1 }
        }
    }

    fn merge(ids: &[u32], merges: &Table) -> (Vec<u32>, usize) {
        let mut symbols = vec![Symbol::default(); ids.len()];
        let mut word = Word::new(ids.iter().copied(), &mut symbols, merges.get());
        word.merge();
        (word.ids().collect(), word.matches)
    }

    #[test]
    fn equals_the_definition() {
        let mut state = 7u32;
        let mut random = move |below: u32| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state % below
        };
        for round in 0..3000 {
            let tokens = 3 + random(12);
            let pairs: Vec<_> =
                (0..random(20)).map(|_| (random(tokens), random(tokens), random(tokens))).collect();
            // A table whose results lead back to their parts never ends, and can't be in a file.
            let pairs: Vec<_> = pairs.into_iter().filter(|(a, b, c)| c > a && c > b).collect();
            let merges = Table::new(&pairs);
            let ids: Vec<u32> = (0..random(40)).map(|_| random(tokens)).collect();
            let expected = merge_naively(ids.clone(), merges.get());
            assert_eq!(merge(&ids, &merges).0, expected, "round {round}: {ids:?} {pairs:?}");
        }
    }

    /// A million times one letter, whose powers of two are all tokens: some 20 comparisons for
    /// each of three nodes that change, and not the number of letters.
    #[test]
    fn a_long_word_takes_n_log_n() {
        let doubling: Vec<_> = (0..24).map(|power| (power, power, power + 1)).collect();
        let merges = Table::new(&doubling);
        for n in [1usize << 10, 300_007, 1 << 20] {
            let (ids, matches) = merge(&vec![0; n], &merges);
            assert_eq!(ids.iter().map(|power| 1 << power).sum::<usize>(), n);
            assert_eq!(ids.len(), n.count_ones() as usize);
            println!("{n} letters: {:.1} comparisons each", matches as f64 / n as f64);
            assert!(matches <= 3 * n * n.ilog2() as usize, "{n} letters: {matches} comparisons");
        }
    }

    #[test]
    fn of_equal_pairs_the_last_counts() {
        let merges = Table::new(&[(0, 1, 5), (1, 2, 6), (0, 1, 7)]);
        assert_eq!(merge(&[0, 1, 2], &merges).0, [0, 6]);
        assert_eq!(merge(&[0, 1], &merges).0, [7]);
        assert_eq!(merge(&[], &merges).0, []);
        assert_eq!(merge(&[3], &merges).0, [3]);
    }
}
