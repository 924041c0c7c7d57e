//! The board's memory layout, the model, and the linker's scripts.

include!("../common/build/board.rs");

fn main() {
    println!("cargo:rustc-check-cfg=cfg(armv8m)");
    if env::var("TARGET").is_ok_and(|target| target.starts_with("thumbv8m")) {
        println!("cargo:rustc-cfg=armv8m");
    }
    build("mps2-an386", &["--nmagic", "-Tlink.x", "-Tdefmt.x"]);
}
