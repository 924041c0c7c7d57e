// What the build.rs of every board does; it includes this file.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Picks the board's memory layout (`OURO_BOARD`, of the folder `boards/`) and the model that goes
/// into flash (`OURO_MODEL`, a GGUF file), and hands the linker its scripts.
pub fn build(default_board: &str, link_arguments: &[&str]) {
    let board = setting("OURO_BOARD").unwrap_or_else(|| default_board.into());
    println!("cargo:rustc-env=OURO_BOARD={board}");
    // A folder of its own, or one for all that are alike but for the processor.
    let own = Path::new("boards").join(&board);
    let alike = Path::new("boards").join(board.split('-').next().unwrap_or_default());
    let layout = if own.exists() { own } else { alike }.join("memory.x");
    println!("cargo:rerun-if-changed={}", layout.display());
    let layout =
        fs::read(&layout).unwrap_or_else(|error| panic!("OURO_BOARD={board}: {}: {error}", layout.display()));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("memory.x"), layout).expect("OUT_DIR can be written to");
    println!("cargo:rustc-link-search={}", out.display());
    let shared = Path::new("../common/build").canonicalize().expect("a folder of this repository");
    println!("cargo:rustc-link-search={}", shared.display());
    println!("cargo:rerun-if-changed={}", shared.join("model.x").display());
    for argument in link_arguments.iter().chain(&["-Tmodel.x"]) {
        println!("cargo:rustc-link-arg-bins={argument}");
    }

    let model = setting("OURO_MODEL").unwrap_or_else(|| "../../models/ouro-pico/ouro-pico-Q4_0.gguf".into());
    let model = Path::new(&model)
        .canonicalize()
        .unwrap_or_else(|error| panic!("OURO_MODEL={model}: {error}; give the path of a GGUF file"));
    // include_bytes! makes cargo watch the file itself.
    println!("cargo:rustc-env=OURO_MODEL={}", model.display());
}

fn setting(name: &str) -> Option<String> {
    println!("cargo:rerun-if-env-changed={name}");
    env::var(name).ok().filter(|value| !value.is_empty())
}
