//! No panic is left in a release image: `targets/minimal` links only then. And how large that image
//! is, part by part, compared with what `targets/minimal/sizes.txt` says.
//!
//! `OURO_UPDATE=1 cargo test --test panic_free` writes that table anew, and the one of `targets/README.md`.

use ouro_tests::skip;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use xtask::build::{Sizes, repository, sizes};

const TARGET: &str = "thumbv7em-none-eabihf";
/// Of cross.sh, when there is no toolchain for the target.
const NO_TOOLCHAIN: i32 = 69;
/// What another version of the compiler may make of the same source.
const TOLERANCE: f64 = 0.05;
/// The goal for RAM, in bytes.
const RAM_GOAL: u64 = 8 << 10;

/// Features of the image and what they are, each measured alone. Without any: weights in Q4_0 and mapped
/// flash, K and V in f16, token ids in and out, greedy, all loops.
const FEATURES: [(&str, &str); 10] = [
    ("q8_0", "weights in Q8_0 too"),
    ("k", "weights in Q2_K to Q6_K too"),
    ("kv-int8", "K and V in int8 too"),
    ("budget", "budgets of loops, bytes, energy and time"),
    ("policies", "the exit policy that the file asks for"),
    ("sampling", "temperature, top-k, top-p, min-p, repetition penalty"),
    ("text", "tokenizer and chat format"),
    ("nor", "a NOR chip behind its driver, in place of mapped flash"),
    ("names", "errors name the key or tensor that is wrong"),
    ("messages", "errors as sentences, with names"),
];
const EVERYTHING: &str =
    "q4_1,q5,q8_0,k,iq4,kv-f32,kv-int8,kv-int4,budget,policies,sampling,text,nor,messages";

fn images() -> impl Iterator<Item = &'static str> {
    [""].into_iter().chain(FEATURES.map(|(feature, _)| feature)).chain([EVERYTHING])
}

fn image(features: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("cross");
    let output = Command::new(repository().join("host-tools/scripts/cross.sh"))
        .args([TARGET, "build", "--locked", "--release", "--features", features])
        .current_dir(repository().join("targets/minimal"))
        .env("CARGO_TARGET_DIR", &folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(NO_TOOLCHAIN) {
        skip(said.trim_end());
        return None;
    }
    assert!(output.status.success(), "with the features {features:?}: {said}");
    Some(folder.join(TARGET).join("release/ouro-minimal"))
}

#[test]
fn nothing_panics_and_sizes_are_as_told() {
    let mut table = "# features, bytes of flash, bytes of RAM beside arena and stack\n".to_owned();
    for features in images() {
        let Some(image) = image(features) else { return };
        let Sizes { code, data, bss, .. } = sizes(&image).unwrap();
        let name = if features.is_empty() { "-" } else { features };
        let _ = writeln!(table, "{name} {} {}", code + data, data + bss);
    }
    let path = repository().join("targets/minimal/sizes.txt");
    if env::var_os("OURO_UPDATE").is_some() {
        fs::write(&path, &table).unwrap();
    }
    let told = fs::read_to_string(&path).unwrap();
    readme_tells(&told);
    assert_eq!(table.lines().count(), told.lines().count());
    for (found, told) in table.lines().zip(told.lines()).skip(1) {
        let parts = |line: &str| {
            let mut parts = line.split(' ').map(str::to_owned);
            let mut next = || parts.next().unwrap();
            (next(), next().parse::<u64>().unwrap(), next().parse::<u64>().unwrap())
        };
        let ((name, flash, ram), (told_name, told_flash, told_ram)) = (parts(found), parts(told));
        assert_eq!(name, told_name);
        let change = flash as f64 / told_flash as f64 - 1.0;
        assert!(change.abs() <= TOLERANCE, "{found}; told: {told}. Is that meant? Then OURO_UPDATE=1");
        assert!(
            ram <= told_ram && ram <= RAM_GOAL,
            "{found}; told: {told}. Is that meant? Then OURO_UPDATE=1"
        );
    }
}

/// `targets/README.md` has the table, with what each feature adds.
fn readme_tells(sizes: &str) {
    const BEGIN: &str = "<!-- tests/tests/panic_free.rs writes this table -->\n";
    let flash: Vec<u64> =
        sizes.lines().skip(1).map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
    let [smallest, features @ .., everything] = &*flash else { panic!("{sizes}") };
    let mut table = format!("{BEGIN}| feature of `minimal/` | | bytes of flash |\n|---|---|--:|\n");
    let _ = writeln!(
        table,
        "| none | weights in Q4_0, K and V in f16, token ids, greedy, all loops | {smallest} |"
    );
    for ((feature, what), flash) in FEATURES.iter().zip(features) {
        let _ = writeln!(table, "| `{feature}` | {what} | {:+} |", *flash as i64 - *smallest as i64);
    }
    let _ = writeln!(table, "| all of them | with the other formats and types | {everything} |");
    let path = repository().join("targets/README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    let fresh = format!("{before}{table}\n{after}");
    if env::var_os("OURO_UPDATE").is_some() {
        fs::write(&path, &fresh).unwrap();
    }
    assert!(
        readme == fresh || env::var_os("OURO_UPDATE").is_some(),
        "targets/README.md: run with OURO_UPDATE=1"
    );
}
