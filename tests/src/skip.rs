//! Tests that need something which not every machine has.

use std::env;
use std::fmt::Display;
use std::io::{self, Write};

/// Says that the calling test is skipped, and why; the test is to return at once.
///
/// # Panics
/// If `CI=true`: there every test must run.
pub fn skip(why: impl Display) {
    assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "CI=true, so this must not be skipped: {why}");
    // Not eprintln!, which the test harness keeps to itself when a test passes.
    let _ = writeln!(io::stderr(), "skipped: {why}");
}
