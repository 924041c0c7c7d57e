//! Puts the board's memory layout where the linker looks. `OURO_BOARD`: a file of `boards/`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-env-changed=OURO_BOARD");
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    let (board, arguments) = match &*arch {
        "arm" => ("mps2-an386", ["--nmagic", "-Tlink.x"]),
        "aarch64" => ("virt-aarch64", ["-Tmemory.x", "-Timage.ld"]),
        // riscv-rt's script does not include the layout by itself.
        _ => ("virt", ["-Tmemory.x", "-Tlink.x"]),
    };
    let board = env::var("OURO_BOARD").unwrap_or_else(|_| board.into());
    let layout = Path::new("boards").join(&board).with_extension("x");
    println!("cargo:rerun-if-changed={}", layout.display());
    let layout = fs::read(&layout).unwrap_or_else(|error| panic!("{}: {error}", layout.display()));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("memory.x"), layout).expect("OUT_DIR can be written to");
    println!("cargo:rustc-link-search={}", out.display());
    for argument in arguments {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
