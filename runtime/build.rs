//! Which of the instruction sets of small cores an image is built for. Stable Rust tells a program
//! nothing about the features of an Arm target, so its name has to do; of other cores only the
//! firmware's author knows, and says it by cargo features.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=OURO_WRONG_KERNELS");
    println!(
        "cargo:rustc-check-cfg=cfg(ouro_dsp, ouro_helium, ouro_rvv, ouro_packed, ouro_soft_float, ouro_short_multiply, ouro_vsqrt, ouro_size, ouro_soft_double, ouro_wrong_kernels, fuzzing)"
    );
    let target = env::var("TARGET").unwrap_or_default();
    let feature = |name: &str| env::var_os(format!("CARGO_FEATURE_{name}")).is_some();
    let v8m = target.starts_with("thumbv8m.main");
    let dsp = target.starts_with("thumbv7em") || v8m && feature("DSP");
    let hard_float = target.ends_with("eabihf");
    // Cores without vector instructions, and those of them that lack more: `kernels/packed`.
    let riscv = target.starts_with("riscv");
    let small = target.starts_with("thumb") || riscv && !target.contains("linux");
    let instructions = target.split('-').next().unwrap_or_default();
    let soft_float =
        if riscv { !instructions.ends_with("gc") && !instructions.contains("af") } else { !hard_float };
    // Built for size rather than speed: fewer forms of the same.
    let size = env::var("OPT_LEVEL").is_ok_and(|level| level == "s" || level == "z");
    let short_multiply = target.starts_with("thumbv6m") || target.starts_with("thumbv8m.base");
    for (cfg, set) in [
        ("ouro_dsp", dsp && hard_float),
        ("ouro_helium", v8m && feature("HELIUM")),
        ("ouro_rvv", riscv && feature("RVV")),
        ("ouro_packed", small),
        ("ouro_soft_float", small && soft_float),
        ("ouro_short_multiply", short_multiply),
        // For tests of what becomes of kernels that compute wrong: all but the definition do.
        ("ouro_wrong_kernels", env::var_os("OURO_WRONG_KERNELS").is_some()),
        ("ouro_size", small && size),
        // No small core but RISC-V's largest computes with doubles.
        ("ouro_soft_double", small && size && !instructions.ends_with("gc")),
        ("ouro_vsqrt", target.starts_with("thumb") && hard_float),
    ] {
        if set {
            println!("cargo:rustc-cfg={cfg}");
        }
    }
}
