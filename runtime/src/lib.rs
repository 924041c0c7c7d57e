#![no_std]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]
//! A looped language model, from the bytes of a GGUF file to tokens.
//!
//! No allocation, no I/O, no panic on any input. What each module is for, from the file up:
//!
//! - [`store`]: where the file is, and how bytes of it are asked for, a tile at a time.
//! - [`arena`]: the one memory area that the caller lends.
//! - [`gguf`]: the file's directory: metadata and tensors, checked.
//! - [`model`]: the configuration, checked as a whole, and where the weights are.
//! - [`text`]: text to token ids and back.
//! - [`kernels`]: arithmetic. `forward` puts it together as the equations have it.
//! - [`kv`]: what positions leave behind for later ones.
//! - [`depth`]: when a token has run enough loops, and what it may cost.
//! - [`clock`]: the seam to whatever tells the time.
//! - [`session`]: the machine that does all this step by step.
//! - [`sample`]: from logits to a token.
//! - [`fingerprint`]: a fixed run by which machines are compared.
//!
//! A whole program, with a model in memory (or in flash that is mapped into memory):
//!
//! ```
//! use ouro_runtime::{arena::Arena, depth::QExit, gguf::Gguf, model::Model, sample::argmax};
//! use ouro_runtime::session::{Feed, Session, Settings};
//! use ouro_runtime::store::SliceStore;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let file = std::fs::read("../tests/golden/lively/lively-gate-f32.gguf")?;
//! let mut memory = vec![0; 200_000];
//!
//! let mut store = SliceStore::new(&file);
//! let mut arena = Arena::new(&mut memory);
//! let gguf = Gguf::open(&mut store, &mut arena)?;
//! let model = Model::open(&mut store, &gguf, &mut arena)?;
//! let mut session = Session::new(&model, Settings::new(&model, 64, 16), &mut arena)?;
//!
//! session.feed(&[175, 462, 33], Feed::Prompt)?;
//! for _ in 0..10 {
//!     let depth = session.run(&mut store, &QExit(0.5))?;
//!     let token = argmax(session.logits());
//!     println!("token {token} after {} loops: {}", depth.loops, depth.reason);
//!     session.feed(&[token], Feed::Generated)?;
//! }
//! # Ok(())
//! # }
//! ```

#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod arena;
pub mod clock;
pub mod depth;
pub mod fingerprint;
mod forward;
pub mod gguf;
pub mod kernels;
pub mod kv;
pub mod model;
mod rows;
pub mod sample;
pub mod session;
mod sort;
pub mod store;
pub mod text;
