//! Tiles that are kept.

use super::{Span, Store, StoreCounters, StoreError};

/// A tile to keep in memory for good, once it has been fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Pin {
    span: Span,
    /// Where its bytes are in the memory.
    at: usize,
    is_filled: bool,
}

impl Pin {
    /// A tile to keep.
    #[must_use]
    pub fn new(span: Span) -> Self {
        Self { span, at: 0, is_filled: false }
    }
}

/// A store around a store that keeps some of its tiles in memory.
///
/// The stack is read in the same order in every loop. A cache that evicts what was used longest ago
/// then evicts just what is wanted next and never hits; a set that is kept for good hits every time,
/// and no other way of using the same memory fetches less. A pin is filled when its tile is first
/// fetched.
#[derive(Debug)]
pub struct Pinned<S, P, M> {
    inner: S,
    pins: P,
    memory: M,
    /// The pin at hand, and the part of it that is the current tile; else `inner` has it.
    current: Option<(usize, Span)>,
    hits: u64,
}

impl<S: Store, P: AsRef<[Pin]> + AsMut<[Pin]>, M: AsRef<[u8]> + AsMut<[u8]>> Pinned<S, P, M> {
    /// `pins` are in order of offset, and `memory` has room for them one after another; what has
    /// none is fetched every time.
    #[must_use]
    pub fn new(inner: S, pins: P, memory: M) -> Self {
        let mut store = Self { inner, pins, memory, current: None, hits: 0 };
        store.place();
        store
    }

    /// Keeps other tiles from now on.
    pub fn pin(&mut self, pins: P, memory: M) {
        (self.pins, self.memory, self.current) = (pins, memory, None);
        self.place();
    }

    fn place(&mut self) {
        let mut at = 0usize;
        for pin in self.pins.as_mut() {
            *pin = Pin { at, ..Pin::new(pin.span) };
            at = at.saturating_add(pin.span.len);
        }
    }

    /// The store that tiles are fetched from.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The store that tiles are fetched from.
    pub fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Tiles and bytes that are to be kept.
    #[must_use]
    pub fn pinned(&self) -> (usize, u64) {
        let pins = self.pins.as_ref();
        (pins.len(), pins.iter().map(|pin| pin.span.len as u64).sum())
    }
}

/// The number of the pin that `span` is a part of.
fn find(pins: &[Pin], span: Span) -> Option<(usize, &Pin)> {
    let number = pins.partition_point(|pin| pin.span.offset <= span.offset).checked_sub(1)?;
    let pin = pins.get(number).filter(|pin| pin.span.contains(span))?;
    Some((number, pin))
}

#[deny(clippy::missing_trait_methods)] // what is not forwarded would be switched off
impl<S: Store, P: AsRef<[Pin]> + AsMut<[Pin]>, M: AsRef<[u8]> + AsMut<[u8]>> Store for Pinned<S, P, M> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    fn max_tile(&self) -> usize {
        self.inner.max_tile()
    }

    fn load(&mut self, want: Span, next: impl IntoIterator<Item = Span>) -> Result<(), StoreError> {
        self.current = None;
        let pins = self.pins.as_ref();
        let found = find(pins, want);
        if let Some((number, _)) = found.filter(|(_, pin)| pin.is_filled) {
            self.current = Some((number, want));
            self.hits += 1;
            return Ok(());
        }
        let number = found.filter(|(_, pin)| pin.span == want).map(|(number, _)| number);
        let is_filled = |span| find(pins, span).is_some_and(|(_, pin)| pin.is_filled);
        self.inner.load(want, next.into_iter().filter(|span| !is_filled(*span)))?;
        if let Some(pin) = number.and_then(|number| self.pins.as_mut().get_mut(number)) {
            let room = self.memory.as_mut().get_mut(pin.at..).and_then(|free| free.get_mut(..want.len));
            let tile = self.inner.tile();
            if let Some(room) = room.filter(|room| room.len() == tile.len()) {
                for (to, from) in room.iter_mut().zip(tile) {
                    *to = *from;
                }
                pin.is_filled = true;
            }
        }
        Ok(())
    }

    fn discard(&mut self) {
        self.inner.discard();
    }

    fn current(&self) -> Span {
        self.current.map_or_else(|| self.inner.current(), |(_, span)| span)
    }

    fn tile(&self) -> &[u8] {
        let Some((number, span)) = self.current else { return self.inner.tile() };
        let bytes = self.pins.as_ref().get(number).and_then(|pin| {
            let within = usize::try_from(span.offset.checked_sub(pin.span.offset)?).ok()?;
            let start = pin.at.checked_add(within)?;
            self.memory.as_ref().get(start..start.checked_add(span.len)?)
        });
        bytes.unwrap_or_default()
    }

    fn fetched(&self, span: Span) -> u64 {
        let is_kept = find(self.pins.as_ref(), span).is_some_and(|(_, pin)| pin.is_filled);
        if is_kept { 0 } else { self.inner.fetched(span) }
    }

    /// A pin is filled by a load of just its span, if there is room for it.
    fn fetched_again(&self, span: Span) -> u64 {
        let room = self.memory.as_ref().len();
        let has_room = |pin: &Pin| pin.at.checked_add(span.len).is_some_and(|end| end <= room);
        let found = find(self.pins.as_ref(), span);
        let is_kept = found.is_some_and(|(_, pin)| pin.is_filled || pin.span == span && has_room(pin));
        if is_kept { 0 } else { self.inner.fetched_again(span) }
    }

    fn reads_ahead(&self) -> usize {
        self.inner.reads_ahead()
    }

    fn counters(&self) -> StoreCounters {
        let counters = self.inner.counters();
        StoreCounters { pinned: counters.pinned + self.hits, ..counters }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SliceStore;
    use std::vec;
    use std::vec::Vec;

    fn span(offset: u64, len: usize) -> Span {
        Span { offset, len }
    }

    #[test]
    fn pins_are_fetched_once_and_never_announced_again() {
        let file: Vec<u8> = (0..100).collect();
        let pins = [span(10, 20), span(50, 10), span(80, 20)].map(Pin::new);
        // No room for the last one.
        let mut store = Pinned::new(SliceStore::new(&file), pins, vec![0; 49]);
        assert_eq!(store.pinned(), (3, 50));
        let moved = |store: &Pinned<_, _, _>| {
            let spans = [span(0, 10), span(10, 20), span(15, 3), span(50, 10), span(80, 20)];
            spans.map(|span| (store.fetched(span), store.fetched_again(span)))
        };
        assert_eq!(moved(&store), [(10, 10), (20, 0), (3, 3), (10, 0), (20, 20)]);
        for round in 0..3u64 {
            for (want, fetches) in
                [(span(0, 10), round + 1), (span(10, 20), 1), (span(50, 10), 1), (span(80, 20), round + 1)]
            {
                let before = store.inner().counters().tiles;
                store.load(want, [span(10, 20)]).unwrap();
                assert_eq!(
                    (store.current(), store.tile()),
                    (want, &file[want.offset as usize..][..want.len])
                );
                let fetched = store.inner().counters().tiles - before;
                assert_eq!(fetched, u64::from(fetches > round), "{want:?} in round {round}");
            }
        }
        assert_eq!(moved(&store), [(10, 10), (0, 0), (0, 0), (0, 0), (20, 20)]);
        store.load(span(15, 3), None).unwrap();
        assert_eq!((store.current(), store.tile()), (span(15, 3), &file[15..18]), "a part of a pin");
        store.load(span(25, 10), None).unwrap();
        assert_eq!(store.tile(), &file[25..35], "not all of it is pinned");
        assert_eq!(store.counters().pinned, 5);
    }

    /// Remembers what was announced.
    struct Announced<'a>(SliceStore<'a>, Vec<Span>);

    impl Store for Announced<'_> {
        fn len(&self) -> u64 {
            self.0.len()
        }
        fn max_tile(&self) -> usize {
            50
        }
        fn load(&mut self, want: Span, next: impl IntoIterator<Item = Span>) -> Result<(), StoreError> {
            self.1.extend(next.into_iter().next());
            self.0.load(want, None)
        }
        fn current(&self) -> Span {
            self.0.current()
        }
        fn tile(&self) -> &[u8] {
            self.0.tile()
        }
        fn counters(&self) -> StoreCounters {
            self.0.counters()
        }
    }

    #[test]
    fn what_is_announced_is_the_next_tile_to_be_fetched() {
        let file = [0; 40];
        let tiles = [span(0, 10), span(10, 10), span(20, 10), span(30, 10)];
        let inner = Announced(SliceStore::new(&file), Vec::new());
        let mut store = Pinned::new(inner, [Pin::new(tiles[1]), Pin::new(tiles[2])], [0; 20]);
        for _ in 0..2 {
            for (i, tile) in tiles.iter().enumerate() {
                store.load(*tile, tiles.iter().cycle().skip(i + 1).take(4).copied()).unwrap();
            }
        }
        let expected = [tiles[1], tiles[2], tiles[3], tiles[0], tiles[3], tiles[0]];
        assert_eq!(store.inner().1, expected);
    }
}
