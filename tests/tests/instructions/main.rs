//! Counted instructions, which no load of the machine disturbs: those that a product, of a matrix or in
//! attention, takes on each back end of x86-64 (step by step) and aarch64 (in QEMU), within a tolerance
//! of what `tests/data/instructions/` says, and those that the tokenizer takes for a byte (in Valgrind).
//! Small cores have theirs in `small_kernels.rs`.
//!
//! `OURO_UPDATE=1 cargo test -p ouro-tests --test instructions` writes the tables anew.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod stepping;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod unknown;

use ouro_tests::skip;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use xtask::build::repository;

/// What another version of the compiler may make of the same source.
const TOLERANCE: f64 = 0.05;
/// Of cross.sh, when there is no toolchain for the target.
const NO_TOOLCHAIN: i32 = 69;

/// Back end, format and positions (of attention queries), and instructions for a product of two numbers:
/// block scales and all else that a product of a matrix takes are in it, in attention the softmax.
type Count = (String, f64);

/// Compares with the table, or writes it.
fn check(table: &str, found: &[Count]) {
    let path = repository().join("tests/data/instructions").join(table);
    if env::var_os("OURO_UPDATE").is_some() {
        let mut text =
            "# back end, format or attention to K and V, positions or queries: instructions a product\n"
                .to_owned();
        for (what, each) in found {
            let _ = writeln!(text, "{what}: {each:.4}");
        }
        fs::write(&path, text).unwrap();
    }
    let told = fs::read_to_string(&path).unwrap();
    let told: Vec<_> = told.lines().skip(1).map(|line| line.split_once(": ").unwrap()).collect();
    let names = |(what, _): &Count| what.clone();
    assert_eq!(
        found.iter().map(names).collect::<Vec<_>>(),
        told.iter().map(|(what, _)| (*what).to_owned()).collect::<Vec<_>>(),
        "of {table}: is that meant? Then OURO_UPDATE=1"
    );
    let mut changed = String::new();
    for ((what, each), (_, told)) in found.iter().zip(told) {
        let change = each / told.parse::<f64>().unwrap() - 1.0;
        println!("{what}: {each:.4} instructions a product");
        if change.abs() > TOLERANCE {
            let _ = writeln!(changed, "{what}: {each:.4} instructions a product, expected {told}");
        }
    }
    assert!(
        changed.is_empty(),
        "more than {TOLERANCE} from {table}. Is that meant? Then OURO_UPDATE=1\n{changed}"
    );
}

/// The folder into which this test was built, and in it builds of others.
fn target_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn has_valgrind() -> bool {
    let found = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        skip("no valgrind: apt-get install valgrind");
    }
    found
}

/// Instructions of a program in each call of [`ouro_tests::ouro_counted`], for which it prints a line:
/// what it did, and how many times.
fn count_in_valgrind(program: &Path) -> Vec<Count> {
    // Each call of the function ends with a file of its own.
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("counts");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=ouro_counted", "--dump-after=ouro_counted"])
        .arg(format!("--callgrind-out-file={}", files.display()))
        .arg(program)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    let count = |(line, number): (&str, usize)| {
        let file = fs::read_to_string(files.with_extension(number.to_string())).unwrap();
        let total = file.lines().find_map(|line| line.strip_prefix("summary: ")).expect("a total");
        let (what, times) = line.rsplit_once(' ').unwrap();
        (what.to_owned(), total.parse::<f64>().unwrap() / times.parse::<f64>().unwrap())
    };
    lines.lines().zip(1..).map(count).collect()
}

/// Whatever the CPU has. The program is compiled as the command `ouro` is.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn x86_64_step_by_step() {
    let built = target_folder();
    let output = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--release", "--bin", "kernel-instructions"])
        .current_dir(repository())
        .env("CARGO_TARGET_DIR", &built)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let Some(counts) = stepping::count(&built.join("release/kernel-instructions")) else {
        skip("ptrace is forbidden here, as in some containers");
        return;
    };
    let [_, (_, nothing), counts @ ..] = &counts[..] else { panic!("{counts:?}") };
    let each = |(line, count): &(String, u64)| {
        let (what, products) = line.rsplit_once(' ').unwrap();
        (what.to_owned(), (count - nothing) as f64 / products.parse::<f64>().unwrap())
    };
    check("x86_64.txt", &counts.iter().map(each).collect::<Vec<_>>());
}

/// The tokenizer is nearly linear: a byte of one word of a quarter of a megabyte takes no more than this many times
/// what a byte of prose takes, whose words are short.
const ONE_WORD: f64 = 4.0;

#[test]
fn a_text_of_one_letter_in_valgrind() {
    if !has_valgrind() {
        return;
    }
    let found = count_in_valgrind(Path::new(env!("CARGO_BIN_EXE_tokenizer-instructions")));
    let [(_, prose), (_, letter)] = &found[..] else { panic!("{found:?}") };
    println!("{letter:.0} instructions for a byte of one letter, {prose:.0} for one of prose");
    assert!(*letter <= ONE_WORD * prose, "{letter:.0} instructions for a byte, {prose:.0} in prose");
}

/// An image without an operating system, for a CPU that has all there is.
#[test]
fn aarch64_in_qemu() {
    const TARGET: &str = "aarch64-unknown-none";
    const QEMU: &str = "qemu-system-aarch64";
    /// As on Linux, where loads may be unaligned: with the target's `strict-align` bytes are loaded
    /// one by one, and the same kernels take two to eight times as many instructions.
    const FLAGS: &str = "-C target-feature=+dotprod,+i8mm,-strict-align";
    if Command::new(QEMU).arg("--version").stdout(Stdio::null()).status().is_err() {
        skip(format!("no {QEMU}: apt-get install qemu-system-arm"));
        return;
    }
    let built = target_folder().join("cross");
    let output = Command::new(repository().join("host-tools/scripts/cross.sh"))
        .args([TARGET, "build", "--locked", "--release"])
        .current_dir(repository().join("targets/kernels"))
        .env("CARGO_TARGET_DIR", &built)
        .env("RUSTFLAGS", FLAGS)
        .output()
        .unwrap();
    if output.status.code() == Some(NO_TOOLCHAIN) {
        skip(String::from_utf8_lossy(&output.stderr).trim_end());
        return;
    }
    assert!(output.status.success(), "{}", text(&output));
    // An image that hangs would never end by itself.
    let output = Command::new("timeout")
        .args(["300", QEMU, "-M", "virt", "-cpu", "max", "-nic", "none", "-icount", "shift=0", "-nographic"])
        .args(["-semihosting-config", "enable=on,target=native", "-kernel"])
        .arg(built.join(TARGET).join("release/ouro-kernels"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = text(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let mut found = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("count ")) {
        let fields: Vec<&str> = line.split(' ').collect();
        let [backend, format, positions, instructions, products] = fields[..] else { panic!("{line}") };
        if backend != "scalar" {
            assert!(text.lines().any(|said| said == format!("same {backend} {format}")), "{text}");
            let each = instructions.parse::<f64>().unwrap() / products.parse::<f64>().unwrap();
            found.push((format!("{backend} {format} {positions}"), each));
        }
    }
    check("aarch64.txt", &found);
}
