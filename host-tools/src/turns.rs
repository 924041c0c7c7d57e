//! The prompts of a run, one turn after another.

use crate::args::parse_ids;
use crate::error::Error;
use crate::generate::Answer;
use crate::kv_file::Note;
use crate::text::{Conversation, Prompt, encode};
use ouro_runtime::text::{Specials, Tokenizer};
use std::collections::VecDeque;

/// What a turn says.
#[derive(Debug)]
enum Words {
    Ids(Vec<u32>),
    Text(String),
}

/// How what is said becomes ids.
#[derive(Debug)]
enum Reading<'t, 'a> {
    /// As it is. Without a tokenizer there are only ids.
    Raw(Option<&'t Tokenizer<'a>>),
    /// As the user's part in a conversation.
    Chat(Conversation<'t, 'a>),
}

/// The turns of a run that are still to come.
#[derive(Debug)]
pub struct Turns<'t, 'a> {
    words: VecDeque<Words>,
    reading: Reading<'t, 'a>,
    /// The last token of the answer before, which is not in the cache yet.
    last: Option<u32>,
    /// Ids of a conversation's beginning that are in the cache already.
    beginning: Option<Vec<u32>>,
}

impl<'t, 'a> Turns<'t, 'a> {
    /// Turns given as ids, separated by commas.
    ///
    /// # Errors
    /// [`Error::Usage`] if they are none.
    pub fn of_ids<'w>(turns: impl Iterator<Item = &'w str>) -> Result<Self, Error> {
        let words = turns.map(|turn| parse_ids(turn).map(Words::Ids)).collect::<Result<_, _>>();
        Ok(Self {
            words: words.map_err(Error::Usage)?,
            reading: Reading::Raw(None),
            last: None,
            beginning: None,
        })
    }

    /// Turns of text that is not changed, to be [pushed](Self::push).
    #[must_use]
    pub fn of_text(tokenizer: &'t Tokenizer<'a>) -> Self {
        Self { words: VecDeque::new(), reading: Reading::Raw(Some(tokenizer)), last: None, beginning: None }
    }

    /// Turns of a conversation, to be [pushed](Self::push).
    #[must_use]
    pub fn of_chat(conversation: Conversation<'t, 'a>) -> Self {
        Self { words: VecDeque::new(), reading: Reading::Chat(conversation), last: None, beginning: None }
    }

    /// Goes on from a saved state, whose cache holds `ids`.
    ///
    /// # Errors
    /// [`Error::BadInput`] if it is one of another kind.
    pub fn resume(&mut self, note: &Note, ids: &[u32]) -> Result<(), Error> {
        self.last = note.last;
        if let Reading::Chat(conversation) = &mut self.reading {
            if note.messages.is_empty() {
                let text = "saved by --raw or --tokens, so there is no conversation to go on with; give --raw or --tokens, too";
                return Err(Error::BadInput(text.to_owned()));
            }
            conversation.resume(note.messages()?, note.seen.clone());
            self.beginning = note.is_beginning().then(|| ids.to_vec());
        }
        Ok(())
    }

    /// The ids that the conversation begins with, whatever is said first.
    ///
    /// # Errors
    /// [`Error::Usage`] if it begins with nothing.
    pub fn beginning(&self) -> Result<Vec<u32>, Error> {
        let ids = match &self.reading {
            Reading::Chat(conversation) if !conversation.transcript().0.is_empty() => {
                conversation.beginning()?
            }
            _ => Vec::new(),
        };
        if ids.is_empty() {
            let text = "there is nothing to keep: give a prompt, or --system TEXT to keep what it says";
            return Err(Error::Usage(text.to_owned()));
        }
        Ok(ids)
    }

    /// What another process has to know to go on.
    #[must_use]
    pub fn note(&self, sampler: u64) -> Note {
        match &self.reading {
            Reading::Raw(_) => Note::new(&[], "", self.last, sampler),
            Reading::Chat(conversation) => {
                let (messages, seen) = conversation.transcript();
                Note::new(messages, seen, self.last, sampler)
            }
        }
    }

    /// One more turn, after all others.
    pub fn push(&mut self, text: String) {
        self.words.push_back(Words::Text(text));
    }

    /// What is to be fed next; `None` after the last turn.
    ///
    /// # Errors
    /// [`Error::BadInput`] if the template or the tokenizer fails.
    pub fn next_prompt(&mut self) -> Result<Option<Prompt>, Error> {
        let Some(words) = self.words.pop_front() else { return Ok(None) };
        let prompt = match (&mut self.reading, words) {
            (_, Words::Ids(ids)) => Prompt::Continue(ids),
            (Reading::Raw(None), Words::Text(_)) => Prompt::Continue(Vec::new()),
            (Reading::Raw(Some(tokenizer)), Words::Text(text)) => {
                Prompt::Continue(encode(tokenizer, &text, Specials::Recognize)?)
            }
            (Reading::Chat(conversation), Words::Text(text)) => conversation.user(&text)?,
        };
        if let Some(beginning) = self.beginning.take() {
            return Ok(Some(match prompt.ids().strip_prefix(beginning.as_slice()) {
                Some(rest) if !rest.is_empty() => Prompt::Continue(rest.to_vec()),
                _ => Prompt::Restart(prompt.ids().to_vec()),
            }));
        }
        Ok(Some(match (prompt, self.last.take()) {
            (Prompt::Continue(ids), Some(last)) => Prompt::Continue([&[last], ids.as_slice()].concat()),
            (prompt, _) => prompt,
        }))
    }

    /// Takes note of an answer. `ended` says whether its last token ended the message: a chat
    /// template writes that itself.
    pub fn answered(&mut self, answer: &Answer, ended: bool) {
        let chat = matches!(self.reading, Reading::Chat(_));
        self.last = answer.tokens.last().map(|token| token.id).filter(|_| !(chat && ended));
        if let Reading::Chat(conversation) = &mut self.reading {
            conversation.assistant(&answer.full_text);
        }
    }

    /// Positions that the turns to come may need, with answers of `max_new` tokens each; a text
    /// has at most one token per byte, and a template adds a few.
    #[must_use]
    pub fn positions(&self, max_new: usize) -> usize {
        const TEMPLATE: usize = 64;
        let of_turn = |words: &Words| match words {
            Words::Ids(ids) => ids.len() + 1,
            Words::Text(text) => text.len() + TEMPLATE,
        };
        let positions = self.words.iter().map(|words| of_turn(words).saturating_add(max_new));
        positions.fold(0, usize::saturating_add)
    }

    /// The most tokens that one of the turns to come can have; `None` if only the context bounds
    /// them, since a template may have it all read again.
    #[must_use]
    pub fn rows(&self) -> Option<usize> {
        let of_turn = |words: &Words| match words {
            Words::Ids(ids) => Some(ids.len() + 1),
            Words::Text(_) => None,
        };
        self.words.iter().map(of_turn).try_fold(0, |most, rows| Some(most.max(rows?)))
    }
}
