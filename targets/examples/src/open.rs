//! From a file to a model and a tokenizer, and from a question to token ids.

use crate::Failure;
use heapless::Vec;
use ouro_runtime::arena::Arena;
use ouro_runtime::gguf::Gguf;
use ouro_runtime::model::Model;
use ouro_runtime::store::Store;
use ouro_runtime::text::{Message, Role, Tokenizer};

/// The most tokens of a question: so many rows of activations a session needs.
pub const PROMPT: usize = 32;

/// A model and its tokenizer.
pub struct Opened<'a> {
    /// The model; sessions borrow it.
    pub model: Model<'a>,
    /// Text to ids and back.
    pub tokenizer: Tokenizer<'a>,
}

impl<'a> Opened<'a> {
    /// Reads and checks the file behind `store`; what is kept of it goes into `arena`.
    ///
    /// # Errors
    /// If it is no model that runs here, or the arena is too small.
    pub fn new<S: Store>(store: &mut S, arena: &mut Arena<'a>) -> Result<Self, Failure> {
        let gguf = Gguf::open(store, arena)?;
        let model = Model::open(store, &gguf, arena)?;
        let tokenizer = Tokenizer::open(store, &gguf, arena)?;
        Ok(Self { model, tokenizer })
    }
}

/// The ids of a conversation that begins with `question`, up to where the model speaks.
///
/// # Errors
/// If they are more than [`PROMPT`], or a word of the question is longer than 64 bytes.
pub fn prompt(tokenizer: &Tokenizer<'_>, question: &str) -> Result<Vec<u32, PROMPT>, Failure> {
    let message = Message { role: Role::User, content: question };
    let mut ids = [0; PROMPT];
    let count = tokenizer.chatml(&[message], &mut [], &mut ids)?;
    Ok(ids.into_iter().take(count).collect())
}
