#![no_std]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]
//! GGML block formats: bytes to values and back.
//!
//! A [`Format`] stores a row of `f32` values as blocks of [`Format::block_len`] values in
//! [`Format::block_bytes`] bytes each; multi-byte fields are little endian. [`decode`] gives the
//! values that llama.cpp and the `gguf` package give, bit for bit. [`encode`] gives llama.cpp's
//! bytes, or for the K-quants bytes that are as close to the values.
//!
//! Nothing here allocates, panics or depends on the target: no fused multiply-add, no
//! reordering of sums, so every machine decodes and encodes the same bits. The exception is the
//! payload of a NaN, which only a damaged scale brings about.
//!
//! ```
//! use ouro_quant::{Format, decode, encode};
//!
//! let row: [f32; 32] = core::array::from_fn(|i| i as f32 - 16.0);
//! let mut bytes = [0; 18];
//! assert_eq!(Format::Q4_0.row_bytes(row.len()), Some(bytes.len()));
//! encode(Format::Q4_0, &row, None, &mut bytes)?;
//!
//! let mut back = [0.0; 32];
//! decode(Format::Q4_0, &bytes, &mut back)?;
//! assert_eq!(back[0], -16.0);
//! # Ok::<(), ouro_quant::QuantError>(())
//! ```
//!
//! # Adding a format
//! Write a file in `formats/` whose struct has the layout of a block and implements `Block`, and
//! name it in one line of the table in `formats.rs`.

#[cfg(test)]
extern crate std;

mod block;
mod codec;
mod error;
mod fit;
mod float;
mod formats;
mod superblock;

pub use codec::{decode, encode};
pub use error::QuantError;
pub use formats::Format;

/// Blocks as they are stored, for kernels that multiply without decoding to floats first.
pub mod layout {
    pub use crate::float::from_f16;
    pub use crate::formats::{Q4_0, Q4_1, Q4_K, Q5_K, Q6_K, Q8_0};
    pub use crate::superblock::Scales;
}
