//! Misbehaving on purpose: how a program takes it can then be tested.

use super::{Span, Store, StoreCounters, StoreError};
use core::fmt;

/// What goes wrong with one load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Fault {
    /// The medium fails with this code.
    Error(i32),
    /// So many bytes at the end are missing, and the store does not notice.
    Short(usize),
    /// One byte of the tile is another one, as by bits that flipped.
    Flip {
        /// Which byte, modulo the tile's length.
        byte: usize,
        /// The bits that flip.
        mask: u8,
    },
}

/// A store around a store whose loads go wrong as `faults` says. It is called with the number of
/// each load, from 0, and with what is wanted; it may as well take its time, as a slow medium does.
///
/// ```
/// use ouro_runtime::store::{Fault, Faulty, SliceStore, Span, Store, StoreError};
///
/// let file = [7; 300];
/// let faults = |load, _| (load == 1).then_some(Fault::Error(5));
/// let mut store = Faulty::new(SliceStore::new(&file), faults, [0; 256]);
/// let span = Span { offset: 0, len: 10 };
/// assert!(store.load(span, None).is_ok());
/// assert_eq!(store.load(span, None), Err(StoreError::Io { span, code: 5 }));
/// assert!(store.load(span, None).is_ok());
/// assert_eq!(store.injected(), 1);
/// ```
pub struct Faulty<S, F, M> {
    inner: S,
    faults: F,
    /// The tile, where it is not the inner store's.
    memory: M,
    /// Bytes of it, if so.
    changed: Option<usize>,
    loads: u64,
    injected: u64,
}

impl<S: fmt::Debug, F, M> fmt::Debug for Faulty<S, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inner, loads, injected, .. } = self;
        let mut fields = f.debug_struct("Faulty");
        fields.field("inner", inner).field("loads", loads).field("injected", injected);
        fields.finish_non_exhaustive()
    }
}

impl<S: Store, F: FnMut(u64, Span) -> Option<Fault>, M: AsRef<[u8]> + AsMut<[u8]>> Faulty<S, F, M> {
    /// Tiles are at most as large as `memory`, through which changed ones pass.
    #[must_use]
    pub fn new(inner: S, faults: F, memory: M) -> Self {
        Self { inner, faults, memory, changed: None, loads: 0, injected: 0 }
    }

    /// Loads so far.
    #[must_use]
    pub fn loads(&self) -> u64 {
        self.loads
    }

    /// Faults so far.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.injected
    }

    /// Copies the tile and changes it.
    fn change(&mut self, fault: Fault) {
        let tile = self.inner.tile();
        let memory = self.memory.as_mut();
        for (to, from) in memory.iter_mut().zip(tile) {
            *to = *from;
        }
        let len = tile.len().min(memory.len());
        self.changed = Some(match fault {
            Fault::Short(missing) => len.saturating_sub(missing),
            Fault::Flip { byte, mask } => {
                if let Some(byte) = byte.checked_rem(len).and_then(|byte| memory.get_mut(byte)) {
                    *byte ^= mask;
                }
                len
            }
            Fault::Error(_) => 0,
        });
    }
}

#[deny(clippy::missing_trait_methods)] // what is not forwarded would be switched off
impl<S, F, M> Store for Faulty<S, F, M>
where
    S: Store,
    F: FnMut(u64, Span) -> Option<Fault>,
    M: AsRef<[u8]> + AsMut<[u8]>,
{
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    fn max_tile(&self) -> usize {
        self.inner.max_tile().min(self.memory.as_ref().len())
    }

    fn load(&mut self, want: Span, next: impl IntoIterator<Item = Span>) -> Result<(), StoreError> {
        let max = self.max_tile();
        if want.len > max {
            return Err(StoreError::TooLarge { span: want, max });
        }
        let fault = (self.faults)(self.loads, want);
        self.loads += 1;
        self.injected += u64::from(fault.is_some());
        self.changed = None;
        self.inner.load(want, next)?;
        match fault {
            Some(Fault::Error(code)) => {
                self.changed = Some(0);
                return Err(StoreError::Io { span: want, code });
            }
            Some(fault) => self.change(fault),
            None => {}
        }
        Ok(())
    }

    fn discard(&mut self) {
        self.inner.discard();
    }

    fn current(&self) -> Span {
        if self.changed == Some(0) { Span::EMPTY } else { self.inner.current() }
    }

    fn tile(&self) -> &[u8] {
        match self.changed {
            Some(len) => self.memory.as_ref().get(..len).unwrap_or_default(),
            None => self.inner.tile(),
        }
    }

    fn fetched(&self, span: Span) -> u64 {
        self.inner.fetched(span)
    }

    fn fetched_again(&self, span: Span) -> u64 {
        self.inner.fetched_again(span)
    }

    fn reads_ahead(&self) -> usize {
        self.inner.reads_ahead()
    }

    fn counters(&self) -> StoreCounters {
        self.inner.counters()
    }
}
