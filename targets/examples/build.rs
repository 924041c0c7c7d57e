//! Where the linker finds memory.x and model.x.

fn main() {
    println!("cargo:rerun-if-changed=memory.x");
    println!("cargo:rerun-if-changed=../common/build/model.x");
    for folder in ["", "/../common/build"] {
        println!("cargo:rustc-link-search={}{folder}", env!("CARGO_MANIFEST_DIR"));
    }
    for argument in ["--nmagic", "-Tlink.x", "-Tdefmt.x", "-Tmodel.x"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
