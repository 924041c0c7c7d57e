//! One module per command.

pub mod bench;
pub mod calibrate;
pub mod chat;
pub mod eval;
pub mod hash;
mod input;
pub mod inspect;
pub mod layout;
pub mod manual;
pub(crate) mod output;
mod pieces;
pub mod plan;
pub mod random;
pub mod run;
pub mod tokenize;
pub mod trace;
