//! Chores of this repository: `cargo xtask COMMAND`. Tests use the same code.

pub mod board;
pub mod boards;
pub mod build;
pub mod dist;
pub mod example;
pub mod report;
pub mod table;
