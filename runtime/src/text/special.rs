//! Finding special tokens in a text.

use bytemuck::{Pod, Zeroable};

/// One special token.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(super) struct Special {
    pub(super) id: u32,
    /// Where its text is among the bytes of all.
    pub(super) start: u32,
    pub(super) len: u32,
}

/// Most bytes of a special token's text. It bounds the work for each byte of a text.
pub(super) const MAX_SPECIAL_LEN: usize = 256;

/// The special tokens in order of their text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Specials<'a> {
    sorted: &'a [Special],
    bytes: &'a [u8],
    /// Bit `b` is set if one of them begins with byte `b`.
    first_bytes: [u32; 8],
}

impl<'a> Specials<'a> {
    /// `sorted` must be in order of [`text`]; the texts must not be empty.
    pub(super) fn new(sorted: &'a [Special], bytes: &'a [u8]) -> Self {
        let mut first_bytes = [0; 8];
        for first in sorted.iter().filter_map(|special| text(bytes, *special).first()) {
            if let Some(word) = first_bytes.get_mut(usize::from(*first >> 5)) {
                *word |= 1 << (first & 31);
            }
        }
        Self { sorted, bytes, first_bytes }
    }

    /// The token whose text is exactly `wanted`.
    pub(super) fn find(&self, wanted: &[u8]) -> Option<u32> {
        let place = self.sorted.partition_point(|special| self.text(*special) < wanted);
        self.sorted.get(place).filter(|special| self.text(**special) == wanted).map(|special| special.id)
    }

    /// The first special token in `haystack`, the longest of those that begin there: where it
    /// begins, its length, its id.
    pub(super) fn search(&self, haystack: &[u8]) -> Option<(usize, usize, u32)> {
        if self.sorted.is_empty() {
            return None;
        }
        haystack.iter().enumerate().find_map(|(start, first)| {
            let word = self.first_bytes.get(usize::from(*first >> 5))?;
            if word & (1 << (first & 31)) == 0 {
                return None;
            }
            let (len, id) = self.longest_prefix(haystack.get(start..)?)?;
            Some((start, len, id))
        })
    }

    /// The longest special token that `text` begins with. Tokens that share its first bytes are
    /// neighbours, and the one that ends there is the first of them.
    fn longest_prefix(&self, text: &[u8]) -> Option<(usize, u32)> {
        let (mut range, mut longest) = (self.sorted, None);
        for (at, byte) in text.iter().enumerate() {
            let next = |special: &Special| self.text(*special).get(at).copied();
            let start = range.partition_point(|special| next(special) < Some(*byte));
            let end = range.partition_point(|special| next(special) <= Some(*byte));
            range = range.get(start..end).unwrap_or_default();
            let Some(first) = range.first() else { break };
            let len = at.saturating_add(1);
            if first.len as usize == len {
                longest = Some((len, first.id));
            }
        }
        longest
    }

    fn text(&self, special: Special) -> &'a [u8] {
        text(self.bytes, special)
    }
}

/// The text of `special` in `bytes`.
pub(super) fn text(bytes: &[u8], special: Special) -> &[u8] {
    let start = special.start as usize;
    bytes.get(start..start.saturating_add(special.len as usize)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Special, Specials};
    use std::vec::Vec;

    #[test]
    fn leftmost_longest() {
        let texts = ["<", "<a>", "<a><b>", "<ab", "b", "é"];
        let bytes = texts.concat();
        let mut start = 0;
        let specials: Vec<Special> = (0..)
            .zip(texts)
            .map(|(id, text)| {
                start += text.len() as u32;
                Special { id, start: start - text.len() as u32, len: text.len() as u32 }
            })
            .collect();
        let specials = Specials::new(&specials, bytes.as_bytes());
        let cases = [
            ("", None),
            ("xyz", None),
            ("xx<", Some((2, 1, 0))),
            ("x<a", Some((1, 1, 0))),
            ("x<a>", Some((1, 3, 1))),
            ("<a><a><b>", Some((0, 3, 1))),
            ("<a><b>", Some((0, 6, 2))),
            ("<a><b", Some((0, 3, 1))),
            ("<abc", Some((0, 3, 3))),
            ("è é", Some((3, 2, 5))),
        ];
        for (text, expected) in cases {
            assert_eq!(specials.search(text.as_bytes()), expected, "{text}");
        }
        for (id, text) in (0..).zip(texts) {
            assert_eq!(specials.find(text.as_bytes()), Some(id));
        }
        assert_eq!(specials.find(b"<a"), None);
    }
}
