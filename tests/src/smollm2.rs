//! SmolLM2-135M-Instruct: real weights and a real tokenizer, not kept in the repository.

use crate::skip::skip;
use std::env;
use std::path::PathBuf;

const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const FETCH: &str = "host-tools/scripts/fetch-smollm2.py";

/// The path of the GGUF that `host-tools/scripts/fetch-smollm2.py` fetches: `OURO_SMOLLM2` if set,
/// else in `OURO_CACHE` or `~/.cache/ouro`. Where it is absent this says so and gives `None`: the
/// test that asked is to return at once and counts as skipped.
///
/// # Panics
/// If the file is absent where `CI=true`: there the test must run.
#[must_use]
pub fn smollm2() -> Option<PathBuf> {
    let path = path();
    if path.is_file() {
        return Some(path);
    }
    skip(format_args!("{} is absent; run {FETCH} to have this test run", path.display()));
    None
}

fn path() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("OURO_SMOLLM2").unwrap_or_else(|| {
        let home = || set("HOME").or_else(|| set("USERPROFILE")).unwrap_or_default();
        set("OURO_CACHE").unwrap_or_else(|| home().join(".cache").join("ouro")).join(FILE)
    })
}
