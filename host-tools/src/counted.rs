//! Numbers of things, in words.

use std::fmt;

/// `1 token`, `2 tokens`: a number and what it counts, a noun whose plural takes an s.
#[must_use]
pub fn counted(number: impl fmt::Display, noun: &str) -> String {
    let number = number.to_string();
    let ending = if number == "1" { "" } else { "s" };
    format!("{number} {noun}{ending}")
}
