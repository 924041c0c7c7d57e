//! Integration tests live in `tests/`.

mod checkpoint_check;
pub mod checkpoint_dir;
mod command;
pub mod convert;
mod counted;
mod gguf_builder;
mod gguf_contents;
pub mod harness;
mod helpful;
mod model_check;
pub mod model_draft;
mod paged_store;
mod random_text;
mod skip;
mod smollm2;
#[cfg(target_os = "linux")]
mod stretch;
mod tokenizer_check;
mod tokenizer_file;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
mod traced;
mod worst;

pub use checkpoint_check::Checkpoints;
pub use command::{Ran, run_command};
pub use counted::ouro_counted;
pub use gguf_builder::{GgufBuilder, string as gguf_string, value_type};
pub use gguf_contents::{Content, Contents, read_contents};
pub use helpful::{assert_helpful, soon};
pub use model_check::check_model;
pub use paged_store::PagedStore;
pub use random_text::{Random, random_text};
pub use skip::skip;
pub use smollm2::smollm2;
#[cfg(target_os = "linux")]
pub use stretch::{FORBIDDEN, MARK, be_traced, stretch};
pub use tokenizer_check::check_tokenizer;
pub use tokenizer_file::TokenizerFile;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
pub use traced::{Call, Then, run_traced};
pub use worst::worst;
