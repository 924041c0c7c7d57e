//! Products of each vector back end of this CPU, each in a call of a function that Valgrind looks
//! for: `tests/tests/instructions.rs` runs this in it and counts the instructions.
//!
//! Standard output gets a line per call: `BACKEND FORMAT POSITIONS PRODUCTS`.

#[allow(dead_code)] // the checks, which runtime/tests/kernels.rs does for this CPU
#[path = "../../../targets/kernels/src/cases.rs"]
mod cases;

use ouro_runtime::kernels::Backend;
use ouro_tests::ouro_counted;

fn main() {
    for backend in cases::backends().filter(|backend| *backend != Backend::SCALAR) {
        for format in cases::formats() {
            for &positions in cases::COUNTED {
                let measure = |work: &mut dyn FnMut()| {
                    ouro_counted(work);
                    0 // Valgrind knows
                };
                let (_, products) = cases::count(measure, backend, format, positions);
                println!("{backend} {format} {positions} {products}");
            }
        }
    }
}
