//! Splitting text into the words within which byte pairs merge.
//!
//! The rules are those of the regular expression that GPT-2 came with, alternatives in order,
//!
//! ```text
//! 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//! ```
//!
//! written as a scanner that looks at each character a small number of times and needs no memory.

use super::unicode::{Class, class};

/// How text is split before merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PreTokenizer {
    /// The regular expression alone.
    Gpt2,
    /// Each numeric character is a word of its own, and the regular expression splits what lies
    /// between: SmolLM's and Ouro's way. An end of such a piece is an end of the text to
    /// `\s+(?!\S)`, so a space never joins a digit.
    SmolLm,
}

impl PreTokenizer {
    /// The words of `text`; put together they are `text`.
    #[must_use]
    pub fn words(self, text: &str) -> Words<'_> {
        Words { rest: text, pre: self }
    }

    /// The class of `c`, or `None` if a piece ends before it.
    fn class(self, c: char) -> Option<Class> {
        match self {
            // The original tokenizer asks exactly this function, not `\p{N}`.
            Self::SmolLm if c.is_numeric() => None,
            _ => Some(class(c)),
        }
    }
}

/// Iterator over the words of a text, see [`PreTokenizer::words`].
#[derive(Clone, Debug)]
pub struct Words<'t> {
    rest: &'t str,
    pre: PreTokenizer,
}

impl<'t> Iterator for Words<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        self.take(self.word_len()?)
    }
}

impl<'t> Words<'t> {
    /// The white space at the front that belongs to the same word as white space before it.
    pub(super) fn joining_space(&mut self) -> &'t str {
        self.take(self.joining_space_len()).unwrap_or_default()
    }

    fn take(&mut self, len: usize) -> Option<&'t str> {
        let (word, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(word)
    }

    fn word_len(&self) -> Option<usize> {
        let mut chars = self.rest.chars();
        let first = chars.next()?;
        let Some(first_class) = self.pre.class(first) else { return Some(first.len_utf8()) };
        if let Some(len) = contraction_len(self.rest) {
            return Some(len);
        }
        if first_class != Class::Space {
            return Some(self.run_len(self.rest, first_class));
        }
        // A space joins the word behind it, but not more white space.
        let second_class = chars.clone().next().and_then(|second| self.pre.class(second));
        match second_class {
            Some(class) if first == ' ' && class != Class::Space => {
                Some(self.run_len(chars.as_str(), class).saturating_add(first.len_utf8()))
            }
            _ => Some(self.joining_space_len().max(first.len_utf8())),
        }
    }

    /// Length of the characters of one class at the front of `text`.
    fn run_len(&self, text: &str, class: Class) -> usize {
        text.chars().take_while(|c| self.pre.class(*c) == Some(class)).map(char::len_utf8).sum()
    }

    /// Length of `\s*(?!\S)` at the front: all white space, less its last character if something
    /// else follows in the piece.
    fn joining_space_len(&self) -> usize {
        let (mut len, mut last) = (0usize, 0);
        for c in self.rest.chars() {
            match self.pre.class(c) {
                Some(Class::Space) => {
                    last = c.len_utf8();
                    len = len.saturating_add(last);
                }
                Some(_) => return len.saturating_sub(last),
                None => return len,
            }
        }
        len
    }
}

fn contraction_len(text: &str) -> Option<usize> {
    let tail = text.as_bytes().strip_prefix(b"'")?;
    match tail {
        [b's' | b't' | b'm' | b'd', ..] => Some(2),
        [b'r' | b'v', b'e', ..] | [b'l', b'l', ..] => Some(3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::PreTokenizer::{self, Gpt2, SmolLm};
    use std::vec::Vec;

    /// Written by hand from the regular expression; the `tests` crate compares with the original.
    #[test]
    fn words() {
        let cases: &[(PreTokenizer, &str, &[&str])] = &[
            (Gpt2, "", &[]),
            (Gpt2, "Hello, world!", &["Hello", ",", " world", "!"]),
            (Gpt2, "a  1", &["a", " ", " 1"]),
            (SmolLm, "a  1", &["a", "  ", "1"]),
            (Gpt2, "x 12.5", &["x", " 12", ".", "5"]),
            (SmolLm, "x 12.5", &["x", " ", "1", "2", ".", "5"]),
            (Gpt2, "a   b", &["a", "  ", " b"]),
            (Gpt2, "a \n b", &["a", " \n", " b"]),
            (Gpt2, "a\nb", &["a", "\n", "b"]),
            (Gpt2, "a\n\nb", &["a", "\n", "\n", "b"]),
            (Gpt2, "a \u{3000}b", &["a", " ", "\u{3000}", "b"]),
            (Gpt2, "a  ", &["a", "  "]),
            (Gpt2, "don't 'sister 'Sam", &["don", "'t", " '", "sister", " '", "Sam"]),
            (Gpt2, "'sister we'lll", &["'s", "ister", " we", "'ll", "l"]),
            (SmolLm, "½x²\u{200B}", &["½", "x", "²", "\u{200B}"]),
            (SmolLm, "'7s", &["'", "7", "s"]),
            (Gpt2, "e\u{301}a", &["e", "\u{301}", "a"]),
        ];
        for (pre, text, expected) in cases {
            assert_eq!(pre.words(text).collect::<Vec<_>>(), *expected, "{pre:?} {text:?}");
        }
    }

    #[test]
    fn joining_space() {
        for (pre, text, expected) in [
            (Gpt2, "  a", " "),
            (Gpt2, "  1", " "),
            (SmolLm, "  1", "  "),
            (Gpt2, "a", ""),
            (Gpt2, "\t\n", "\t\n"),
        ] {
            let mut words = pre.words(text);
            assert_eq!(words.joining_space(), expected, "{text:?}");
            assert_eq!(words.rest.len() + expected.len(), text.len());
        }
    }
}
