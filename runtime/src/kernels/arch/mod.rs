//! Instruction sets. This is where instructions are enabled, and each file holds only what its
//! instruction set does differently.
//!
//! Each architecture has an `Isa`: one that exists is an instruction set that this CPU has.

#[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
mod aarch64;
#[cfg(any(ouro_dsp, ouro_helium))]
mod arm;
mod none;
#[cfg(ouro_rvv)]
mod riscv;
#[cfg(any(ouro_dsp, ouro_helium, ouro_rvv))]
mod small;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm32;
#[cfg(all(target_arch = "x86_64", not(fuzzing)))] // instrumented, it compiles for minutes
mod x86_64;

cfg_select! {
    all(target_arch = "x86_64", not(fuzzing)) => { pub(super) use x86_64::Isa; }
    all(target_arch = "aarch64", target_feature = "neon", target_endian = "little") => {
        pub(super) use aarch64::Isa;
    }
    all(target_arch = "wasm32", target_feature = "simd128") => { pub(super) use wasm32::Isa; }
    any(ouro_dsp, ouro_helium) => { pub(super) use arm::Isa; }
    ouro_rvv => { pub(super) use riscv::Isa; }
    _ => { pub(super) use none::Isa; }
}
