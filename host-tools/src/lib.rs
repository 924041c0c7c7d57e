//! The command `ouro`: converts, runs and looks inside looped language models.

pub mod args;
pub mod budget;
pub mod checkpoint;
mod checksums;
mod cli;
pub mod commands;
pub mod compute;
mod counted;
pub mod error;
pub mod generate;
pub mod gguf_writer;
pub mod interrupt;
pub mod json_lines;
pub mod kv_file;
pub mod open;
pub mod plan;
pub mod power;
mod progress;
pub mod quantize;
pub mod ram;
pub mod report;
pub mod store;
pub mod template;
mod temporary;
pub mod text;
pub mod turns;

pub use cli::main;
