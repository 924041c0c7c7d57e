//! The integer kernels once for all vector units.
//!
//! [`vector`] says what a unit has to offer, [`formats`] unpacks blocks and multiplies one group,
//! [`matmul`] walks over rows, blocks and positions, [`peak`] tells how many products there could be.
//! Everything is inlined into the functions of a [`Unit`], which is where instructions are enabled.

// Arrays of fixed lengths, indexed by constants and counters up to constants. Where there is no
// vector unit nobody calls it.
#![allow(
    unsafe_code,
    dead_code,
    unused_imports,
    unused_macros,
    clippy::indexing_slicing,
    clippy::needless_range_loop
)]

mod formats;
mod matmul;
mod peak;
mod vector;

pub(crate) use formats::Layout;
pub(crate) use matmul::{Unit, few, many, matmul, unit};
pub(crate) use peak::peak;
pub(crate) use vector::{Dot, Vector};
