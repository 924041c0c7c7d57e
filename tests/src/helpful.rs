//! What holds of every refusal of bad input: it comes soon, and says what was found, what was expected
//! and what to do.

use std::time::{Duration, Instant};

/// How advice begins.
const IMPERATIVES: [&str; 13] = [
    "calibrate",
    "check",
    "convert",
    "copy",
    "correct",
    "don't",
    "give",
    "load",
    "take",
    "use",
    "write",
    "add",
    "enlarge",
];

/// Holds a message against what it must `say`: parts of it, of which at least one begins with
/// "expected". The clause after that must be advice.
///
/// # Panics
/// If something is missing.
pub fn assert_helpful(name: &str, message: &str, says: &[&str]) {
    for part in says {
        assert!(message.contains(part), "{name}: no {part:?} in: {message}");
    }
    assert!(says.iter().any(|part| part.starts_with("expected")), "{name}: what is expected?");
    let (found, rest) = message.split_once("expected").expect(name);
    assert!(!found.is_empty(), "{name}: what was found is missing in: {message}");
    let first_word = |clause: &str| clause.split_whitespace().next().map(str::to_owned);
    let is_advice = |word: String| IMPERATIVES.contains(&word.as_str());
    let advised = rest.split([':', ';', ',']).filter_map(first_word).any(is_advice);
    assert!(advised, "{name}: what to do is missing in: {message}");
}

/// What `read` gives, which must be within a second. On a busy machine it may be tried three times.
///
/// # Panics
/// If it takes longer.
pub fn soon<T>(name: &str, mut read: impl FnMut() -> T) -> T {
    let mut timed = || {
        let start = Instant::now();
        let found = read();
        (start.elapsed() < Duration::from_secs(1)).then_some(found)
    };
    (0..3).find_map(|_| timed()).unwrap_or_else(|| panic!("{name}: takes more than a second"))
}
