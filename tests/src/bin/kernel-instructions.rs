//! Products and attention of each vector back end of x86-64, each a stretch whose instructions are
//! counted: `tests/tests/instructions/` runs this.
//!
//! Standard output gets a line per stretch: `BACKEND FORMAT POSITIONS PRODUCTS`, after one for the
//! choice of back ends and one for a stretch of nothing. For attention FORMAT is `attention-` and the
//! type of K and V, POSITIONS queries of one.

#[allow(dead_code)] // the checks, which the unit tests of attention do for this CPU
#[path = "../../../targets/kernels/src/attention.rs"]
mod attention;
#[allow(dead_code)] // the checks, which runtime/tests/kernels.rs does for this CPU
#[path = "../../../targets/kernels/src/cases.rs"]
mod cases;

#[cfg(target_os = "linux")]
fn main() {
    use ouro_runtime::kernels::Backend;
    use ouro_tests::{be_traced, stretch};

    be_traced();
    let mut backends = Vec::new();
    // Within a stretch the CPU seems to have all instructions.
    stretch(&mut || backends.extend(cases::backends()));
    println!("back ends");
    stretch(&mut || ());
    println!("nothing");
    let measure = |work: &mut dyn FnMut()| {
        stretch(work);
        0 // who traces this knows
    };
    for backend in backends.into_iter().filter(|backend| *backend != Backend::SCALAR) {
        for format in cases::formats() {
            for &positions in cases::COUNTED {
                let (_, products) = cases::count(measure, backend, format, positions);
                println!("{backend} {format} {positions} {products}");
            }
        }
        for (element, name) in attention::TYPES {
            for queries in attention::COUNTED {
                let (_, products) = attention::count(measure, backend, element, queries);
                println!("{backend} {name} {queries} {products}");
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {}
