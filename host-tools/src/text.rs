//! Text in and out of a model's tokenizer, with memory from the heap.

use crate::error::Error;
use crate::store::HostStore;
use crate::template::{ChatTemplate, Message, first_line};
use ouro_runtime::gguf::{Gguf, GgufError};
use ouro_runtime::store::{Span, Store, StoreError};
use ouro_runtime::text::{Needs, Specials, Symbol, TableError, TextError, Tokenizer};

/// The ids of a text.
///
/// # Errors
/// [`Error::BadInput`]; only a broken tokenizer can be the reason.
pub fn encode(tokenizer: &Tokenizer<'_>, text: &str, specials: Specials) -> Result<Vec<u32>, Error> {
    let needs = Needs::of_text(text.len());
    let mut scratch = vec![Symbol::default(); needs.scratch];
    let mut ids = vec![0; needs.ids];
    let count = tokenizer.encode(text, specials, &mut scratch, &mut ids).map_err(text_error)?;
    ids.truncate(count);
    Ok(ids)
}

/// How a tokenizer's error ends a command.
#[must_use]
pub fn text_error(error: TextError) -> Error {
    Error::BadInput(error.to_string())
}

/// Whether a file has another kind of tokenizer than those known here, or none, rather than a broken
/// one.
#[must_use]
pub(crate) fn is_unknown_kind(error: &TextError) -> bool {
    use TableError::{MissingKey, Model, PreTokenizer};
    matches!(error, TextError::Table(Model { .. } | PreTokenizer { .. } | MissingKey { .. }))
}

/// A string of the metadata, however long.
///
/// # Errors
/// The store's, or that the value is no string.
pub fn metadata_string(
    store: &mut HostStore,
    gguf: &Gguf<'_>,
    key: &str,
) -> Result<Option<String>, GgufError> {
    let Some(span) = gguf.string(store, key)? else { return Ok(None) };
    Ok(Some(read_string(store, span)?))
}

/// The text at `span`; what is no UTF-8 in it becomes U+FFFD.
///
/// # Errors
/// The store's.
pub fn read_string(store: &mut impl Store, span: Span) -> Result<String, StoreError> {
    let mut bytes = Vec::new();
    let mut left = span;
    while left.len > 0 {
        let part = Span { len: left.len.min(store.max_tile()), ..left };
        store.load(part, None)?;
        bytes.extend_from_slice(store.tile());
        left = Span { offset: part.end(), len: left.len - part.len };
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A conversation as the model's template writes it, and its ids.
#[derive(Debug)]
pub struct Conversation<'t, 'a> {
    tokenizer: &'t Tokenizer<'a>,
    template: &'t ChatTemplate,
    thinking: Option<bool>,
    messages: Vec<Message>,
    /// What the model has seen or said so far.
    seen: String,
}

/// What to feed for the next turn.
#[derive(Debug, PartialEq, Eq)]
pub enum Prompt {
    /// These ids follow what the model has seen.
    Continue(Vec<u32>),
    /// The template writes earlier turns differently now: everything again, from the beginning.
    Restart(Vec<u32>),
}

impl Prompt {
    /// The ids, wherever they go.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        match self {
            Self::Continue(ids) | Self::Restart(ids) => ids,
        }
    }
}

impl<'t, 'a> Conversation<'t, 'a> {
    /// A conversation that has not begun, or that begins with a system message.
    #[must_use]
    pub fn new(
        tokenizer: &'t Tokenizer<'a>,
        template: &'t ChatTemplate,
        thinking: Option<bool>,
        system: Option<&str>,
    ) -> Self {
        let system = system.map(|content| Message { role: "system", content: content.to_owned() });
        Self { tokenizer, template, thinking, messages: system.into_iter().collect(), seen: String::new() }
    }

    /// What was said so far, and what the model has seen of it.
    #[must_use]
    pub fn transcript(&self) -> (&[Message], &str) {
        (&self.messages, &self.seen)
    }

    /// Goes on from what was said in another process.
    pub fn resume(&mut self, messages: Vec<Message>, seen: String) {
        (self.messages, self.seen) = (messages, seen);
    }

    /// The ids with which the conversation begins whatever the user says first.
    ///
    /// # Errors
    /// [`Error::BadInput`] if the template refuses.
    pub fn beginning(&self) -> Result<Vec<u32>, Error> {
        let begun = |first: &str| {
            let (tokenizer, template, thinking) = (self.tokenizer, self.template, self.thinking);
            let mut conversation =
                Self { tokenizer, template, thinking, messages: self.messages.clone(), seen: String::new() };
            conversation.user(first).map(|prompt| prompt.ids().to_vec())
        };
        // What follows may become one token with the end of what is common to all.
        let mut common = begun("a")?;
        for first in ["1", " ", "\n", "\n\n", "?"] {
            let same = common.iter().zip(begun(first)?).take_while(|(a, b)| *a == b).count();
            common.truncate(same);
        }
        Ok(common)
    }

    /// The user speaks: what is to be fed so that the assistant can answer.
    ///
    /// # Errors
    /// [`Error::BadInput`] if the template refuses.
    pub fn user(&mut self, content: &str) -> Result<Prompt, Error> {
        self.messages.push(Message { role: "user", content: content.to_owned() });
        let text = self.render(&self.messages)?;
        let prompt = if self.seen.is_empty() {
            Prompt::Continue(self.encode_after("", 0)?)
        } else if text.starts_with(&self.seen) {
            Prompt::Continue(self.encode_after(&self.seen, self.messages.len() - 1)?)
        } else {
            Prompt::Restart(self.encode_after("", 0)?)
        };
        self.seen = text;
        Ok(prompt)
    }

    /// The assistant has answered; `text` is all that it said.
    pub fn assistant(&mut self, text: &str) {
        self.messages.push(Message { role: "assistant", content: text.to_owned() });
        self.seen.push_str(text);
    }

    fn render(&self, messages: &[Message]) -> Result<String, Error> {
        self.template.render(messages, self.thinking).map_err(|error| {
            Error::BadInput(format!("the chat template refuses this conversation: {}", first_line(&error)))
        })
    }

    /// The ids of what the rendered conversation says after `seen`, which ends before message
    /// number `first`. What looks like a special token is one in the template's own text, but not
    /// in what people said.
    fn encode_after(&self, seen: &str, first: usize) -> Result<Vec<u32>, Error> {
        let suspicious = |content: &str| -> Result<bool, Error> {
            Ok(encode(self.tokenizer, content, Specials::Recognize)?
                != encode(self.tokenizer, content, Specials::PlainText)?)
        };
        let mut marked = self.messages.clone();
        let mut contents = Vec::new();
        for message in marked.iter_mut().skip(first) {
            if suspicious(&message.content)? {
                let mark = mark(contents.len());
                contents.push(std::mem::replace(&mut message.content, mark));
            }
        }
        let text = self.render(&marked)?;
        let mut rest = text.strip_prefix(seen).unwrap_or(&text);
        let mut ids = Vec::new();
        for (number, content) in contents.iter().enumerate() {
            let Some((before, after)) = rest.split_once(&mark(number)) else { continue };
            ids.extend(encode(self.tokenizer, before, Specials::Recognize)?);
            ids.extend(encode(self.tokenizer, content, Specials::PlainText)?);
            rest = after;
        }
        ids.extend(encode(self.tokenizer, rest, Specials::Recognize)?);
        Ok(ids)
    }
}

/// Stands for a message in a rendered conversation: private-use characters around a number.
fn mark(number: usize) -> String {
    format!("\u{F8FF}{number}\u{F8FF}")
}
