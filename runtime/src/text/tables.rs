//! The tokenizer's index: carved from the arena, filled from the file.

use super::alphabet;
use super::error::{MergePart, TableError, TextError};
use super::index::{Entry, Hash, Index};
use super::merge::{Merge, Merges, NONE};
use super::source::{Kind, Source, Token};
use super::special::{self, Special};
use crate::arena::{Arena, ArenaFull};
use crate::gguf::Name;
use crate::sort::sort_by_key;
use crate::store::{Span, Store};

/// How much there is of everything.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    tokens: usize,
    merges: usize,
    /// Normal and special tokens together: those whose text must be unique.
    named: usize,
    specials: usize,
    special_bytes: usize,
}

impl Sizes {
    /// Reads and checks all tokens, so that nothing is taken from the arena before the counts are
    /// known to be true.
    pub(super) fn count<S: Store>(store: &mut S, source: &Source) -> Result<Self, TextError> {
        let tokens = source.token_count() as usize;
        let merges = usize::try_from(source.merges.count).unwrap_or(usize::MAX);
        let mut sizes = Self { tokens, merges, ..Self::default() };
        source.for_each_token(store, |token| {
            sizes.named += usize::from(token.kind != Kind::Unused);
            if token.kind == Kind::Special {
                sizes.specials += 1;
                sizes.special_bytes = sizes.special_bytes.saturating_add(token.text.len());
            }
            Ok(())
        })?;
        Ok(sizes)
    }
}

/// Where the texts of tokens are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places<'a> {
    /// All texts, each after 8 bytes that hold its length.
    data: Span,
    /// Per token where its text starts in the data, marked if it is literal; then where one more
    /// would.
    starts: &'a [u32],
}

/// Marks a start. Arrays in a file are shorter than this.
const LITERAL: u32 = 1 << 31;
const LENGTH_BYTES: u32 = 8;

impl Places<'_> {
    /// Where the text of `id` is, and whether it is literal or in the byte alphabet.
    pub(super) fn get(self, id: u32) -> Option<(Span, bool)> {
        let start = *self.starts.get(id as usize)?;
        let next = *self.starts.get((id as usize).checked_add(1)?)? & !LITERAL;
        let literal = start & LITERAL != 0;
        let start = start & !LITERAL;
        let len = next.saturating_sub(LENGTH_BYTES).saturating_sub(start) as usize;
        Some((Span { offset: self.data.offset.saturating_add(start.into()), len }, literal))
    }

    pub(super) fn token_count(self) -> u32 {
        self.starts.len().saturating_sub(1) as u32
    }
}

/// What a tokenizer keeps in the arena.
pub(super) struct Tables<'a> {
    starts: &'a mut [u32],
    /// Per byte the normal token that is this byte, or [`NONE`].
    byte_ids: &'a mut [u32],
    /// See [`Merges`].
    merge_starts: &'a mut [u32],
    merges: &'a mut [Merge],
    specials: &'a mut [Special],
    special_bytes: &'a mut [u8],
}

/// [`Tables`] when filled.
pub(super) struct Filled<'a> {
    pub(super) places: Places<'a>,
    pub(super) byte_ids: &'a [u32],
    pub(super) merges: Merges<'a>,
    pub(super) specials: &'a [Special],
    pub(super) special_bytes: &'a [u8],
}

impl<'a> Tables<'a> {
    pub(super) fn carve(sizes: Sizes, arena: &mut Arena<'a>) -> Result<Self, ArenaFull> {
        Ok(Self {
            starts: arena.take(sizes.tokens.saturating_add(1))?,
            byte_ids: arena.take(256)?,
            merge_starts: arena.take(sizes.tokens.saturating_add(1))?,
            merges: arena.take(sizes.merges)?,
            specials: arena.take(sizes.specials)?,
            special_bytes: arena.take(sizes.special_bytes)?,
        })
    }

    /// What is needed only while the tables are filled.
    pub(super) fn carve_names<'s>(
        sizes: Sizes,
        scratch: &mut Arena<'s>,
    ) -> Result<&'s mut [Entry], ArenaFull> {
        scratch.take(sizes.named)
    }

    pub(super) fn fill<S: Store>(
        mut self,
        store: &mut S,
        source: &Source,
        names: &mut [Entry],
    ) -> Result<Filled<'a>, TextError> {
        self.fill_tokens(store, source, names)?;
        let names = Index::new(names)?;
        self.fill_merges(store, source, &names)?;

        let special_bytes: &'a [u8] = self.special_bytes;
        sort_by_key(self.specials, |special| special::text(special_bytes, special));
        Ok(Filled {
            places: Places { data: source.tokens.data, starts: self.starts },
            byte_ids: self.byte_ids,
            merges: Merges { starts: self.merge_starts, merges: self.merges },
            specials: self.specials,
            special_bytes,
        })
    }

    fn fill_tokens<S: Store>(
        &mut self,
        store: &mut S,
        source: &Source,
        names: &mut [Entry],
    ) -> Result<(), TextError> {
        self.byte_ids.fill(NONE);
        let byte_ids = &mut *self.byte_ids;
        let (mut starts, mut names) = (self.starts.iter_mut(), names.iter_mut());
        let (mut specials, mut special_bytes) = (self.specials.iter_mut(), self.special_bytes.iter_mut());
        let (mut next_start, mut special_start) = (LENGTH_BYTES, 0);
        source.for_each_token(store, |Token { id, kind, span, text }| {
            let start = span.offset.saturating_sub(source.tokens.data.offset) as u32;
            next_start = start.saturating_add(text.len() as u32).saturating_add(LENGTH_BYTES);
            put(&mut starts, if kind == Kind::Normal { start } else { start | LITERAL })?;
            if kind != Kind::Unused {
                put(&mut names, Entry::new(Hash::of(text.as_bytes()), id))?;
            }
            match kind {
                Kind::Normal => {
                    if let Some(place) =
                        single_byte(text).and_then(|byte| byte_ids.get_mut(usize::from(byte)))
                    {
                        *place = id;
                    }
                }
                Kind::Special => {
                    let len = text.len() as u32;
                    put(&mut specials, Special { id, start: special_start, len })?;
                    special_start = special_start.saturating_add(len);
                    text.bytes().try_for_each(|byte| put(&mut special_bytes, byte))?;
                }
                Kind::Unused => {}
            }
            Ok(())
        })?;
        Ok(put(&mut starts, next_start)?)
    }

    /// Reads the merges twice: how many each token on the left has says where they go.
    fn fill_merges<S: Store>(
        &mut self,
        store: &mut S,
        source: &Source,
        names: &Index<'_>,
    ) -> Result<(), TextError> {
        let tokens = &*self.starts;
        let normal = |id: &u32| tokens.get(*id as usize).is_some_and(|start| start & LITERAL == 0);
        // A token is looked up in two parts, which for a result are the sides of the merge.
        let find = |first: &[u8], second: &[u8], rank: u32, part: MergePart| {
            names.find(Hash::of(first).and(second)).filter(normal).ok_or_else(|| {
                let mut found = Name::new(first);
                found.push(second);
                TableError::MergeToken { rank, part, found }
            })
        };
        let starts = &mut *self.merge_starts;
        for_each_merge(store, source, |rank, left, _| {
            let left = find(left, b"", rank, MergePart::Left)?;
            let start = starts.get_mut(left as usize).ok_or(TableError::Changed)?;
            *start = start.saturating_add(1);
            Ok(())
        })?;
        let mut end = 0u32;
        for start in starts.iter_mut() {
            end = end.saturating_add(*start);
            *start = end;
        }
        // Each start is at the end of its merges now, and each merge takes the place before it.
        for_each_merge(store, source, |rank, left, right| {
            let start = starts.get_mut(find(left, b"", rank, MergePart::Left)? as usize);
            let start = start.ok_or(TableError::Changed)?;
            *start = start.checked_sub(1).ok_or(TableError::Changed)?;
            let place = self.merges.get_mut(*start as usize).ok_or(TableError::Changed)?;
            *place = Merge {
                right: find(right, b"", rank, MergePart::Right)?,
                rank,
                result: find(left, right, rank, MergePart::Result)?,
            };
            Ok(())
        })?;
        for (start, end) in starts.iter().zip(starts.iter().skip(1)) {
            let merges = self.merges.get_mut(*start as usize..*end as usize).unwrap_or_default();
            sort_by_key(merges, |merge| (merge.right, merge.rank));
        }
        Ok(())
    }
}

/// Calls `each` with the rank and the two sides of every merge, in order.
fn for_each_merge<S: Store>(
    store: &mut S,
    source: &Source,
    mut each: impl FnMut(u32, &[u8], &[u8]) -> Result<(), TableError>,
) -> Result<(), TextError> {
    let mut lines = source.merges.strings(store)?;
    let mut rank = 0;
    while let Some((_, line)) = lines.next()? {
        let (left, right) =
            split_at_space(line).ok_or_else(|| TableError::MergeSyntax { rank, found: Name::new(line) })?;
        each(rank, left, right)?;
        rank = rank.saturating_add(1);
    }
    Ok(())
}

fn put<T>(places: &mut core::slice::IterMut<'_, T>, value: T) -> Result<(), TableError> {
    *places.next().ok_or(TableError::Changed)? = value;
    Ok(())
}

/// The byte that a token in the byte alphabet is, if it is only one.
fn single_byte(text: &str) -> Option<u8> {
    let mut chars = text.chars();
    chars.next().filter(|_| chars.as_str().is_empty()).and_then(alphabet::byte)
}

/// The two sides of the only space, which stands for itself in no token: the alphabet has none.
fn split_at_space(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let (left, right) = (line.get(..space)?, line.get(space.checked_add(1)?..)?);
    let ok = !left.is_empty() && !right.is_empty() && !right.contains(&b' ');
    ok.then_some((left, right))
}
