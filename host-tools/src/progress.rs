//! Bars for people who wait: on stderr, and nothing where that is no terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `len` units in the look of an indicatif `template`.
pub(crate) fn bar(len: u64, template: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(len).with_style(style)
}

/// For what nobody knows the length of.
pub(crate) fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// For a file that is written.
pub(crate) fn writing(bytes: u64) -> ProgressBar {
    bar(bytes, "{bar:30} {percent}% of {total_bytes}, {bytes_per_sec}, {eta} left  {msg}")
}
