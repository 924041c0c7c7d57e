//! Conversations in the ChatML format, for devices that have no template engine.
//!
//! ```text
//! <|im_start|>user
//! Hello<|im_end|>
//! <|im_start|>assistant
//! ```
//!
//! The ids are those of the rendered text with special tokens recognised, but what looks like a
//! special token in a message is plain text, so that no message can end itself.

use super::encode::Encoder;
use super::error::TextError;
use super::merge::Symbol;
use super::{Needs, Tokenizer};

const START: &str = "<|im_start|>";
const END: &str = "<|im_end|>";

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Role {
    /// Instructions for all of the conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name in the format.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Message<'m> {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: &'m str,
}

/// What [`Tokenizer::chatml`] can need for these messages.
#[must_use]
pub fn chatml_needs(messages: &[Message<'_>]) -> Needs {
    let header = |role: Role| Needs::of_text(role.name().len().saturating_add(2));
    messages.iter().fold(header(Role::Assistant).and(Needs::of_text(1)), |needs, message| {
        // White space at the front is in one word with the line break before it.
        let content = Needs::of_text(message.content.len().saturating_add(1));
        needs.and(header(message.role)).and(content).and(Needs::of_text(2))
    })
}

impl Tokenizer<'_> {
    /// Writes the ids of a conversation to `out`, up to the point where the assistant speaks, and
    /// gives their number.
    ///
    /// # Errors
    /// [`TextError::NotChatMl`] if the tokenizer lacks a token of the format, and those of
    /// [`encode`](Self::encode).
    pub fn chatml(
        &self,
        messages: &[Message<'_>],
        scratch: &mut [Symbol],
        out: &mut [u32],
    ) -> Result<usize, TextError> {
        let mut encoder = Encoder::new(self, scratch, out);
        encoder.messages(messages, self.tags()?)?;
        encoder.finish()
    }

    /// Like [`chatml`](Self::chatml), for messages that follow an answer which ended with
    /// `<|im_end|>`: the line break after it comes first.
    ///
    /// # Errors
    /// Those of [`chatml`](Self::chatml).
    pub fn chatml_reply(
        &self,
        messages: &[Message<'_>],
        scratch: &mut [Symbol],
        out: &mut [u32],
    ) -> Result<usize, TextError> {
        let mut encoder = Encoder::new(self, scratch, out);
        encoder.word("\n", "")?;
        encoder.messages(messages, self.tags()?)?;
        encoder.finish()
    }

    fn tags(&self) -> Result<Tags, TextError> {
        let find = |tag| self.special(tag).ok_or(TextError::NotChatMl { missing: tag });
        Ok(Tags { start: find(START)?, end: find(END)? })
    }
}

#[derive(Clone, Copy)]
struct Tags {
    start: u32,
    end: u32,
}

impl Encoder<'_> {
    fn messages(&mut self, messages: &[Message<'_>], tags: Tags) -> Result<(), TextError> {
        for message in messages {
            self.header(message.role, tags)?;
            self.content(message.content)?;
            self.push(tags.end);
            self.word("\n", "")?;
        }
        self.header(Role::Assistant, tags)?;
        self.word("\n", "")
    }

    /// The first line, without its end.
    fn header(&mut self, role: Role, tags: Tags) -> Result<(), TextError> {
        self.push(tags.start);
        self.plain(role.name())
    }

    /// The end of the first line and the content, which are one text to the pre-tokenizer.
    fn content(&mut self, content: &str) -> Result<(), TextError> {
        let mut words = self.split(content);
        let joining = words.joining_space();
        self.word("\n", joining)?;
        self.words(words)
    }
}
