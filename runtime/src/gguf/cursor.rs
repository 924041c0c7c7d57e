//! A forward reader over a [`Store`], with a window of the file as its buffer.

use super::MAX_STRING_LEN;
use super::error::{Field, GgufError};
use super::index::span_eq;
use super::value::ElementType;
use crate::store::{MIN_TILE, Span, Store, StoreError};

/// Bytes asked of the store at once when much will be read, if its block buffer holds that many.
const WINDOW: usize = 64 * 1024;

/// Reads little-endian fields one after another, and skips what it need not see.
#[derive(Debug)]
pub(super) struct Cursor<'s, S> {
    store: &'s mut S,
    at: u64,
    window: usize,
}

impl<'s, S: Store> Cursor<'s, S> {
    pub(super) fn new(store: &'s mut S, at: u64) -> Self {
        Self { store, at, window: WINDOW }
    }

    /// A cursor for a few bytes, after which the store is given to somebody else.
    pub(super) fn brief(store: &'s mut S, at: u64) -> Self {
        Self { store, at, window: MIN_TILE }
    }

    /// Offset of the next byte.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Bytes up to the end of the file.
    fn left(&self) -> u64 {
        self.store.len().saturating_sub(self.at)
    }

    /// The offset after the next `wanted` bytes, if the file has that many.
    pub(super) fn require(&self, wanted: u64, field: Field) -> Result<u64, GgufError> {
        let end = self.at.checked_add(wanted).filter(|end| *end <= self.store.len());
        end.ok_or(self.truncated(wanted, field))
    }

    fn truncated(&self, wanted: u64, field: Field) -> GgufError {
        GgufError::Truncated { field, at: self.at, wanted, len: self.store.len() }
    }

    pub(super) fn skip(&mut self, count: u64, field: Field) -> Result<(), GgufError> {
        self.at = self.require(count, field)?;
        Ok(())
    }

    /// The next `N` bytes. `N` is at most [`MIN_TILE`].
    pub(super) fn array<const N: usize>(&mut self, field: Field) -> Result<[u8; N], GgufError> {
        let end = self.require(N as u64, field)?;
        if self.ahead().len() < N {
            self.refill()?;
        }
        let bytes = self.ahead().first_chunk::<N>().copied();
        let bytes = bytes.ok_or(self.truncated(N as u64, field))?;
        self.at = end;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, field: Field) -> Result<u32, GgufError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: Field) -> Result<u64, GgufError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// The length in front of a string.
    pub(super) fn len(&mut self, field: Field, limit: u64) -> Result<usize, GgufError> {
        let at = self.at;
        let found = self.u64(field)?;
        let len = usize::try_from(found).ok().filter(|_| found <= limit);
        len.ok_or(GgufError::Limit { field, at, found, limit })
    }

    /// The zero-extended bits of a number or bool, or where a string is.
    pub(super) fn value(&mut self, element: ElementType, field: Field) -> Result<(u64, Span), GgufError> {
        if element == ElementType::String {
            let len = self.len(field, MAX_STRING_LEN)?;
            let span = Span { offset: self.at, len };
            self.skip(len as u64, field)?;
            return Ok((0, span));
        }
        let at = self.at;
        let bits = match element.size() {
            Some(1) => u8::from_le_bytes(self.array(field)?).into(),
            Some(2) => u16::from_le_bytes(self.array(field)?).into(),
            Some(4) => self.u32(field)?.into(),
            _ => self.u64(field)?,
        };
        if element == ElementType::Bool && bits > 1 {
            return Err(GgufError::Bool { at, found: bits as u8 });
        }
        Ok((bits, Span::EMPTY))
    }

    /// Passes the next `count` bytes to `each`, in pieces that fit the window.
    pub(super) fn pieces(
        &mut self,
        count: u64,
        field: Field,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), GgufError> {
        let end = self.require(count, field)?;
        while self.at < end {
            if self.ahead().is_empty() {
                self.refill()?;
            }
            let wanted = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX);
            let ahead = self.ahead();
            let piece = ahead.get(..wanted).unwrap_or(ahead);
            if piece.is_empty() {
                return Err(self.truncated(count, field));
            }
            each(piece);
            self.at = self.at.saturating_add(piece.len() as u64);
        }
        Ok(())
    }

    /// The next `count` bytes in one piece. Where the store's buffer is too small for them, it is
    /// an error, and they are skipped.
    pub(super) fn bytes(&mut self, count: usize, field: Field) -> Result<&[u8], GgufError> {
        let (at, window) = (self.at, self.window().max(count));
        self.skip(count as u64, field)?;
        if tile_from(self.store, at).len() < count {
            self.store.load(Span { offset: at, len: window }, None)?;
        }
        let missing = self.truncated(count as u64, field);
        tile_from(self.store, at).get(..count).ok_or(missing)
    }

    /// Whether these bytes, which were passed, are `bytes`.
    pub(super) fn is(&mut self, span: Span, bytes: &[u8]) -> Result<bool, StoreError> {
        span_eq(self.store, span, bytes)
    }

    /// The part of the store's tile that starts at the next byte; empty if that is not loaded.
    fn ahead(&self) -> &[u8] {
        tile_from(self.store, self.at)
    }

    fn window(&self) -> usize {
        usize::try_from(self.left()).unwrap_or(usize::MAX).min(self.window).min(self.store.max_tile())
    }

    fn refill(&mut self) -> Result<(), GgufError> {
        self.store.load(Span { offset: self.at, len: self.window() }, None)?;
        Ok(())
    }
}

fn tile_from<S: Store>(store: &S, at: u64) -> &[u8] {
    let skip = at.checked_sub(store.current().offset).and_then(|skip| usize::try_from(skip).ok());
    skip.and_then(|skip| store.tile().get(skip..)).unwrap_or_default()
}
