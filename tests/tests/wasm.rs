//! `targets/wasm` under Node.js: its kernels give the bits of the definition, and its hash of a model
//! is that of every other machine, on vector and on scalar code.

use ouro_tests::skip;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use xtask::build::repository;

const TARGET: &str = "wasm32-unknown-unknown";
const TOKENS: &str = "175,462,33,245,459,222,73";
/// Of cross.sh, when there is no toolchain for the target.
const NO_TOOLCHAIN: i32 = 69;

#[test]
fn one_answer_here_and_there() {
    let Some(module) = module() else { return };
    let ran = node(&module, &["kernels"]);
    for backend in ["scalar", "simd128"] {
        for format in ["Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"] {
            let same = format!("same {backend} {format}");
            assert!(text(&ran).lines().any(|line| line == same), "no {same:?}: {}", text(&ran));
        }
    }
    for line in include_str!("../data/hashes.txt").lines() {
        let (model, expected) = line.split_once(' ').unwrap();
        for (choice, backend) in [("fastest", "simd128"), ("scalar", "scalar")] {
            let model = repository().join(model);
            let ran = node(&module, &["hash", choice, model.to_str().unwrap(), TOKENS]);
            assert_eq!(text(&ran), format!("{expected} {backend}\n"), "{}", model.display());
        }
    }
    // A bad file is an error and no trap.
    let no_model = repository().join("README.md");
    let ran = node(&module, &["hash", "fastest", no_model.to_str().unwrap(), TOKENS]);
    assert!(ran.status.code() == Some(1) && text(&ran).starts_with("error: "), "{ran:?}");
}

fn text(ran: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr))
}

fn node(module: &Path, args: &[&str]) -> Output {
    let host = repository().join("targets/wasm/run.mjs");
    Command::new("node").arg(host).arg(module).args(args).output().unwrap()
}

/// Builds the module. `None` where that, or running it, is not possible.
fn module() -> Option<PathBuf> {
    if Command::new("node").arg("--version").stdout(Stdio::null()).status().is_err() {
        skip("no Node.js: apt-get install nodejs");
        return None;
    }
    // Beside the other cross builds, or wherever this test itself was built.
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("cross");
    let output = Command::new(repository().join("host-tools/scripts/cross.sh"))
        .args([TARGET, "build", "--locked", "--release"])
        .current_dir(repository().join("targets/wasm"))
        .env("CARGO_TARGET_DIR", &built)
        .env("RUSTFLAGS", "-C target-feature=+simd128")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(NO_TOOLCHAIN) {
        skip(said.trim_end());
        return None;
    }
    assert!(output.status.success(), "{said}");
    Some(built.join(TARGET).join("release/ouro_wasm.wasm"))
}
