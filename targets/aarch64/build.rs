//! The board's memory layout, the model, and the linker's scripts.

include!("../common/build/board.rs");

fn main() {
    build("virt-aarch64", &["-Tmemory.x", "-Timage.ld", "-Tdefmt.x"]);
}
