//! The integer kernels without an operating system: every back end against the scalar definition,
//! bit for bit, and how many instructions each takes; on aarch64 the same of attention.
//!
//! Standard error gets a line per back end and format, `same BACKEND FORMAT` or where they differ,
//! and a line of counts, `count BACKEND FORMAT POSITIONS INSTRUCTIONS PRODUCTS`; for attention FORMAT
//! is `attention-` and the type of K and V, POSITIONS queries of one. Exits with 1 if anything differs.
//! Built and run by `tests/tests/small_kernels.rs`, for aarch64 by `instructions/`.

#![no_std]
#![no_main]

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
mod attention;
mod cases;
mod counter;

use counter::Counter;
use semihosting::{eprintln, process};

#[cfg(target_arch = "arm")]
#[cortex_m_rt::entry]
fn start() -> ! {
    main()
}

#[cfg(any(target_arch = "riscv32", target_arch = "riscv64"))]
#[riscv_rt::entry]
fn start() -> ! {
    // SAFETY: nothing else runs; the vector unit's registers are free.
    #[cfg(feature = "rvv")]
    unsafe {
        use riscv::register::mstatus::{VS, set_vs};
        set_vs(VS::Initial);
    }
    main()
}

fn main() -> ! {
    let mut counter = Counter::new();
    let mut differ = 0;
    for backend in cases::backends() {
        for format in cases::formats() {
            match cases::check(backend, format) {
                None => eprintln!("same {backend} {format}"),
                Some(case) => {
                    differ += 1;
                    eprintln!("differ {backend} {format}: {case:?}");
                }
            }
            for &positions in cases::COUNTED {
                let (instructions, products) =
                    cases::count(|work| counter.count(work), backend, format, positions);
                eprintln!("count {backend} {format} {positions} {instructions} {products}");
            }
        }
        #[cfg(target_arch = "aarch64")]
        for (element, name) in attention::TYPES {
            if attention::check(backend, element) {
                eprintln!("same {backend} {name}");
            } else {
                differ += 1;
                eprintln!("differ {backend} {name}");
            }
            for queries in attention::COUNTED {
                let (instructions, products) =
                    attention::count(|work| counter.count(work), backend, element, queries);
                eprintln!("count {backend} {name} {queries} {instructions} {products}");
            }
        }
    }
    process::exit(i32::from(differ > 0))
}
