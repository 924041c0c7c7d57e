//! What kind of character the pre-tokenizer sees.

use super::unicode_table::{RUNS, STARTS};

/// The classes that the GPT-2 pre-tokenizer tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// `\p{L}`: general category L, which is narrower than "alphabetic".
    Letter,
    /// `\p{N}`: general category N.
    Number,
    /// `\s`: the property `White_Space`.
    Space,
    /// All else.
    Other,
}

/// The class of `c`, as the regular expressions of the original tokenizer see it.
pub(super) fn class(c: char) -> Class {
    match c {
        'a'..='z' | 'A'..='Z' => Class::Letter,
        '0'..='9' => Class::Number,
        _ if c.is_whitespace() => Class::Space,
        _ if c.is_ascii() => Class::Other,
        _ => search(c.into()),
    }
}

/// A block of runs is found by binary search, a run in it by adding up lengths.
fn search(code: u32) -> Class {
    let after = STARTS.partition_point(|start| *start <= code);
    let block = after.checked_sub(1).and_then(|block| Some((STARTS.get(block)?, RUNS.get(block)?)));
    let Some((start, runs)) = block else { return Class::Other };
    let mut end = *start;
    for run in runs {
        end = end.saturating_add(u32::from(*run >> 2));
        if code < end {
            return match run & 3 {
                1 => Class::Letter,
                2 => Class::Number,
                _ => Class::Other,
            };
        }
    }
    Class::Other
}
