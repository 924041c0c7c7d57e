//! `ouro hash`, as typed: one value for all back ends and any number of threads, and the flags
//! that choose them.

use ouro_runtime::kernels::Backend;
use ouro_tests::{Ran, run_command};
use std::path::Path;

const TOKENS: &str = "175,462,33,245,459,222,73";

/// What this machine, or any other, computed when this was written: a file and its hash. It changes
/// only with the definition of the numerics.
fn hashes() -> impl Iterator<Item = (&'static str, &'static str)> {
    include_str!("../data/hashes.txt").lines().map(|line| line.split_once(' ').expect("two words"))
}

fn ouro(args: &[&str]) -> Ran {
    run_command(env!("CARGO_BIN_EXE_ouro-tested"), args, &[])
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn hash(model: &str, args: &[&str]) -> String {
    let model = repository().join(model);
    let args = [&["hash", "-m", model.to_str().unwrap(), "--tokens", TOKENS], args].concat();
    ouro(&args).text().trim_end().to_owned()
}

#[test]
fn one_hash_for_every_back_end_and_any_number_of_threads() {
    for (model, expected) in hashes() {
        for backend in Backend::available().filter(|backend| backend.is_integer()) {
            assert_eq!(hash(model, &["--backend", backend.name()]), expected, "{model}, {backend}");
        }
        for threads in ["1", "2", "3", "7"] {
            assert_eq!(hash(model, &["--threads", threads]), expected, "{model}, {threads} threads");
        }
        assert_ne!(hash(model, &["--backend", "reference"]), expected, "{model}");
    }
}

#[test]
fn json_says_what_was_computed() {
    let (model, expected) = hashes().nth(2).unwrap();
    let model = repository().join(model);
    let model = model.to_str().unwrap();
    let json = ouro(&["hash", "-m", model, "--tokens", TOKENS, "--backend", "scalar", "--json"]).json();
    assert_eq!((&json["sha256"], &json["backend"]), (&expected.into(), &"scalar".into()));
    assert_eq!(json["tokens"].as_array().unwrap().len(), 16);
    assert_eq!(json["depths"].as_array().unwrap().len(), 16);
}

#[test]
fn back_ends_that_cannot_run_are_wrong_usage() {
    let unavailable = |name: &&&str| Backend::named(name).is_err();
    for name in Backend::NAMES.iter().filter(unavailable) {
        for command in ["hash", "trace", "run"] {
            let ran = ouro(&[command, "--tokens", "1", "--backend", name]);
            assert_eq!(ran.code, Some(2), "{command}: {}", ran.stderr);
            assert!(ran.stderr.contains("this CPU lacks the instructions"), "{}", ran.stderr);
        }
    }
    for args in [["--backend", "mmx"], ["--threads", "0"], ["--tokens", "x"]] {
        let ran = ouro(&[&["hash", "--tokens", "1"], &args[..]].concat());
        assert_eq!(ran.code, Some(2), "{args:?}: {}", ran.stderr);
    }
}
