//! The board's memory layout, the model, and the linker's scripts.

include!("../common/build/board.rs");

fn main() {
    build("virt-rv32imac", &["-Tmemory.x", "-Tlink.x", "-Tdefmt.x"]);
}
