//! No panic is left in a release image: `targets/minimal` links only then. And how large that image
//! is, part by part, compared with what `targets/minimal/sizes.txt` says.
//!
//! `OURO_UPDATE=1 cargo test --test panic_free` writes that table anew.

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

/// Nothing but token ids in and out, and weights in one format; all formats; text too; everything.
const IMAGES: [&str; 4] = ["", "formats", "formats,text", "formats,text,policies,sampling,nor,messages"];

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
    for features in IMAGES {
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
