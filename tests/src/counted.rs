//! Work whose instructions are counted.

/// Does `work`. Valgrind finds this function by its name, and counts in it alone.
#[inline(never)]
#[allow(unsafe_code)]
// SAFETY: nothing else has this name.
#[unsafe(no_mangle)]
pub fn ouro_counted(work: &mut dyn FnMut()) {
    work();
}
