//! The integer kernels of small cores, under QEMU: every back end gives the bits of the scalar
//! definition, and takes no more instructions for a product than a core's owner was promised.
//!
//! Instructions are counted, not timed, so these limits are exact and the same on every machine. A
//! vector instruction counts as one, however long it takes.

use ouro_tests::skip;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Of cross.sh, when there is no toolchain for the target.
const NO_TOOLCHAIN: i32 = 69;

/// A machine that QEMU emulates, and the image for it.
struct Board {
    name: &'static str,
    target: &'static str,
    /// Of the crate, comma-separated.
    features: &'static str,
    qemu: &'static str,
    package: &'static str,
    machine: &'static [&'static str],
    /// Ticks of the counter for an instruction.
    ticks: f64,
    /// Back ends besides scalar.
    backends: &'static [&'static str],
    /// Instructions for a product with one position at most: back end, format, and limit.
    limits: &'static [(&'static str, &'static str, f64)],
}

/// Code for a Cortex-M0+ (ARMv6-M) on a Cortex-M4, since QEMU has no such board with enough memory:
/// the instructions are those that an M0+ would take.
#[test]
fn cortex_m0() {
    check(&Board {
        name: "mps2-an386",
        target: "thumbv6m-none-eabi",
        features: "",
        qemu: "qemu-system-arm",
        package: "qemu-system-arm",
        machine: &["-M", "mps2-an386", "-icount", "shift=3"],
        ticks: 0.2,
        backends: &["scalar"],
        limits: &[("scalar", "Q4_0", 13.5), ("scalar", "Q8_0", 16.5)],
    });
}

#[test]
fn cortex_m4() {
    check(&Board {
        name: "mps2-an386",
        target: "thumbv7em-none-eabihf",
        features: "",
        qemu: "qemu-system-arm",
        package: "qemu-system-arm",
        machine: &["-M", "mps2-an386", "-icount", "shift=3"],
        ticks: 0.2,
        backends: &["dsp"],
        limits: &[("dsp", "Q4_0", 1.6), ("dsp", "Q8_0", 1.8), ("dsp", "Q4_K", 4.1), ("dsp", "Q5_K", 5.8)],
    });
}

#[test]
fn cortex_m33() {
    check(&Board {
        name: "mps2-an505",
        target: "thumbv8m.main-none-eabihf",
        features: "dsp",
        qemu: "qemu-system-arm",
        package: "qemu-system-arm",
        machine: &["-M", "mps2-an505", "-icount", "shift=3"],
        ticks: 0.16,
        backends: &["dsp"],
        limits: &[("dsp", "Q4_0", 1.6), ("dsp", "Q8_0", 1.8)],
    });
}

#[test]
fn cortex_m55() {
    check(&Board {
        name: "mps3-an547",
        target: "thumbv8m.main-none-eabihf",
        features: "dsp,helium",
        qemu: "qemu-system-arm",
        package: "qemu-system-arm",
        machine: &["-M", "mps3-an547", "-icount", "shift=3"],
        ticks: 0.256,
        backends: &["dsp", "helium"],
        limits: &[("helium", "Q4_0", 0.47), ("helium", "Q8_0", 0.45)],
    });
}

/// Without floating point.
#[test]
fn riscv32() {
    check(&Board {
        name: "virt",
        target: "riscv32imac-unknown-none-elf",
        features: "",
        qemu: "qemu-system-riscv32",
        package: "qemu-system-misc",
        machine: &["-M", "virt", "-bios", "none", "-icount", "shift=0"],
        ticks: 1.0,
        backends: &["scalar"],
        limits: &[("scalar", "Q4_0", 9.0), ("scalar", "Q8_0", 10.0)],
    });
}

#[test]
fn riscv64_with_vectors() {
    riscv64(&[
        "-M",
        "virt",
        "-bios",
        "none",
        "-icount",
        "shift=0",
        "-cpu",
        "rv64,v=true,vlen=128,rvv_ta_all_1s=true,rvv_ma_all_1s=true",
    ]);
}

#[test]
fn riscv64_with_longer_vectors() {
    riscv64(&[
        "-M",
        "virt",
        "-bios",
        "none",
        "-icount",
        "shift=0",
        "-cpu",
        "rv64,v=true,vlen=256,rvv_ta_all_1s=true,rvv_ma_all_1s=true",
    ]);
}

fn riscv64(machine: &'static [&'static str]) {
    check(&Board {
        name: "virt",
        target: "riscv64gc-unknown-none-elf",
        features: "rvv",
        qemu: "qemu-system-riscv64",
        package: "qemu-system-misc",
        machine,
        ticks: 1.0,
        backends: &["rvv"],
        limits: &[("rvv", "Q4_0", 0.6), ("rvv", "Q8_0", 0.6)],
    });
}

/// Builds the image, runs it, and reads what it says.
fn check(board: &Board) {
    if Command::new(board.qemu).arg("--version").stdout(Stdio::null()).status().is_err() {
        skip(format!("no {}: apt-get install {}", board.qemu, board.package));
        return;
    }
    let Some(image) = image(board) else { return };
    // An image that hangs would never end by itself.
    let output = Command::new("timeout")
        .args(["300", board.qemu])
        .args(board.machine)
        .args(["-nographic", "-semihosting-config", "enable=on,target=native", "-kernel"])
        .arg(image)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{}: {text}", board.name);
    let said = |line: &str| text.lines().any(|found| found == line);
    for backend in board.backends {
        for format in ["Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"] {
            assert!(said(&format!("same {backend} {format}")), "{}: {backend}, {format}: {text}", board.name);
        }
    }
    let mut counted = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("count ")) {
        let fields: Vec<&str> = line.split(' ').collect();
        let [backend, format, positions, ticks, products] = fields[..] else { panic!("{line}") };
        let number = |text: &str| text.parse::<f64>().unwrap();
        let each = number(ticks) / board.ticks / number(products);
        println!(
            "{} {backend} {format}, {positions} position(s): {each:.2} instructions a product",
            board.name
        );
        if positions == "1" {
            counted.push((backend, format, each));
        }
    }
    for &(backend, format, limit) in board.limits {
        let found = counted.iter().find(|found| (found.0, found.1) == (backend, format));
        let (_, _, each) = found.unwrap_or_else(|| panic!("{}: no count of {backend} {format}", board.name));
        assert!(*each <= limit, "{}, {backend} {format}: {each}", board.name);
    }
}

/// Builds the image. `None` where that is not possible.
fn image(board: &Board) -> Option<PathBuf> {
    /// Images of several boards have one name, so each is copied before the next is built.
    static BUILD: Mutex<()> = Mutex::new(());
    let _alone = BUILD.lock();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    // Beside the other cross builds, or wherever this test itself was built.
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("cross");
    let output = Command::new(repository.join("host-tools/scripts/cross.sh"))
        .args([board.target, "build", "--locked", "--release", "--features", board.features])
        .current_dir(repository.join("targets/kernels"))
        .env("CARGO_TARGET_DIR", &built)
        .env("OURO_BOARD", board.name)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(NO_TOOLCHAIN) {
        skip(said.trim_end());
        return None;
    }
    assert!(output.status.success(), "{said}");
    let machine = board.machine.last().unwrap(); // of one target there are several
    let image = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kernels-{}-{machine}", board.target));
    fs::copy(built.join(board.target).join("release/ouro-kernels"), &image).unwrap();
    Some(image)
}
