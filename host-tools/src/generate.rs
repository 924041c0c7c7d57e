//! Turns of a conversation: prompt in, tokens out.

use crate::error::Error;
use crate::interrupt;
use crate::open::session_error;
use crate::power::Power;
use crate::progress;
use crate::store::HostStore;
use crate::text::text_error;
use indicatif::ProgressBar;
use ouro_runtime::depth::{ExitPolicy, Left};
use ouro_runtime::sample::Sampler;
use ouro_runtime::session::{Depth, Feed, Session, SessionError, Step};
use ouro_runtime::text::{Tokenizer, Utf8Stream};
use serde::Serialize;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How many of the latest tokens the repetition penalty covers.
const PENALTY_WINDOW: usize = 64;

/// When an answer ends.
#[derive(Clone, Debug, Default)]
pub struct StopAt {
    /// Tokens that end it.
    pub tokens: Vec<u32>,
    /// Texts that end it; they are not part of it.
    pub texts: Vec<String>,
    /// The most tokens it may have.
    pub max_new: usize,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// A token that ends a sequence or a message.
    EndToken,
    /// One of the texts to stop at.
    StopText,
    /// As many tokens as were allowed.
    MaxNew,
    /// The KV cache is full.
    ContextFull,
    /// Ctrl-C.
    Interrupted,
    /// The budget of time was used up.
    OutOfTime,
}

impl Stop {
    /// Why the answer is shorter than the model might have had it; `None` if the model ended it.
    #[must_use]
    pub fn why(self) -> Option<&'static str> {
        match self {
            Self::EndToken => None,
            Self::StopText => Some("at a --stop text"),
            Self::MaxNew => Some("cut at --max-new"),
            Self::ContextFull => Some("the context is full"),
            Self::Interrupted => Some("interrupted"),
            Self::OutOfTime => Some("out of time"),
        }
    }
}

/// One generated token.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// The depth of the position that chose it.
    pub depth: Depth,
    /// What was left of the budget then.
    pub left: Left,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its tokens, with the one that ended it.
    pub tokens: Vec<Token>,
    /// Its text without that token and without the text that ended it.
    pub text: String,
    /// All the text that the model has in its cache.
    pub full_text: String,
    /// Why it ended.
    pub stop: Stop,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// From the prompt to the first token.
    pub prefill: Duration,
    /// From the first token to the last.
    pub decode: Duration,
}

impl Answer {
    /// Mean depth of its tokens.
    #[must_use]
    pub fn mean_depth(&self) -> f64 {
        let loops: usize = self.tokens.iter().map(|token| token.depth.loops).sum();
        loops as f64 / self.tokens.len().max(1) as f64
    }

    /// Whether it ended before its prompt was read to the end, so that nothing can follow.
    #[must_use]
    pub fn is_without_prompt(&self) -> bool {
        matches!(self.stop, Stop::Interrupted | Stop::OutOfTime) && self.tokens.is_empty()
    }
}

/// What an answer is made with.
pub struct Generator<'g, 's, 'a> {
    /// The weights.
    pub store: &'g mut HostStore,
    /// The conversation so far.
    pub session: &'g mut Session<'s>,
    /// When a token stops.
    pub policy: &'g dyn ExitPolicy,
    /// Which token comes next.
    pub sampler: Sampler,
    /// Turns tokens into text; without it answers have no text.
    pub tokenizer: Option<&'g Tokenizer<'a>>,
    /// Every token that was fed or sampled in this conversation.
    pub history: Vec<u32>,
    /// What lowers the budget of a machine that gets hot.
    pub power: Option<Power>,
    /// Whether a person waits for long prompts, and wants to see how far they are.
    pub show_prefill: bool,
}

impl Generator<'_, '_, '_> {
    /// Forgets the conversation.
    pub fn clear(&mut self) {
        self.session.clear();
        self.history.clear();
    }

    /// Feeds a prompt and generates until something ends the answer. `show` is called with every
    /// token and the text that became certain with it. A prompt longer than
    /// [`Settings::rows`](ouro_runtime::session::Settings::rows) is read in parts (who wants none gives rows for the
    /// longest prompt); parts that were read stay in the cache if a later one is not.
    ///
    /// # Errors
    /// [`Error`], also that of `show`; an interruption is none, the answer ends with what it has.
    pub fn answer(
        &mut self,
        prompt: &[u32],
        stop_at: &StopAt,
        show: &mut dyn FnMut(Token, &str) -> Result<(), Error>,
    ) -> Result<Answer, Error> {
        interrupt::watch();
        let start = Instant::now();
        let mut rest = self.feed(prompt, Feed::Prompt)?;
        // What is not in the cache, such as the last answer's last token, is in the prompt again.
        self.history.truncate(self.session.position());
        self.history.extend(prompt);
        let mut answer = Answer {
            tokens: Vec::new(),
            text: String::new(),
            full_text: String::new(),
            stop: Stop::Interrupted,
            prompt_tokens: prompt.len(),
            prefill: Duration::ZERO,
            decode: Duration::ZERO,
        };
        if stop_at.max_new == 0 {
            answer.stop = Stop::MaxNew;
        }
        let mut order = vec![0; self.session.logits().len()];
        let mut stream = Utf8Stream::new();
        let bar =
            if self.show_prefill { prefill_bar(self.session, prompt.len()) } else { ProgressBar::hidden() };
        loop {
            let depth = match self.next_depth(&mut rest, &bar)? {
                Ok(depth) => depth,
                Err(stop) => {
                    answer.stop = stop;
                    break;
                }
            };
            bar.finish_and_clear();
            if answer.tokens.is_empty() {
                answer.prefill = start.elapsed();
            }
            if stop_at.max_new == 0 {
                return Ok(answer);
            }
            let recent = self.history.get(self.history.len().saturating_sub(PENALTY_WINDOW)..);
            let id = if self.sampler.takes_the_best() {
                self.session.readout().best()
            } else {
                self.sampler.sample(self.session.logits(), recent.unwrap_or_default(), &mut order)
            };
            let token = Token { id, depth, left: self.session.budget_left() };
            self.history.push(id);
            answer.tokens.push(token);
            answer.decode = start.elapsed() - answer.prefill;
            let ends = stop_at.tokens.contains(&id);
            if !ends {
                self.append(id, &mut stream, &mut answer.full_text)?;
            }
            let (certain, stopped) = certain(&answer.full_text, &stop_at.texts);
            let certain = if ends && !stopped { answer.full_text.len() } else { certain };
            show(token, answer.full_text.get(answer.text.len()..certain).unwrap_or_default())?;
            answer.text = answer.full_text.get(..certain).unwrap_or_default().to_owned();
            answer.stop = if ends {
                Stop::EndToken
            } else if stopped {
                Stop::StopText
            } else if answer.tokens.len() == stop_at.max_new {
                Stop::MaxNew
            } else if self.session.position() == self.session.settings().context {
                Stop::ContextFull
            } else {
                if let Some(power) = &mut self.power {
                    power.adjust(self.session);
                }
                self.session.feed(&[id], Feed::Generated).map_err(session_error)?;
                continue;
            };
            break;
        }
        if answer.stop != Stop::StopText {
            let _ = stream.finish(&mut answer.full_text);
            let rest = answer.full_text.get(answer.text.len()..).unwrap_or_default();
            if !rest.is_empty()
                && let Some(&last) = answer.tokens.last()
            {
                show(last, rest)?;
            }
            answer.text.clone_from(&answer.full_text);
        }
        Ok(answer)
    }

    /// Puts a prompt in flight, or as much of it as can be; gives what is left of it.
    fn feed<'p>(&mut self, prompt: &'p [u32], feed: Feed) -> Result<&'p [u32], Error> {
        let fed = self.session.feed(prompt, feed);
        let (part, rest) = match fed {
            // Nothing else is wrong with it: there is room in the cache for all, and all are tokens.
            Err(SessionError::Prompt { found, rows }) if found > rows => prompt.split_at(rows),
            _ => return fed.map(|()| &[][..]).map_err(session_error),
        };
        self.session.feed(part, feed).map_err(session_error)?;
        self.session.skip_answer();
        Ok(rest)
    }

    /// Steps until `rest` of the prompt is read and the logits are there, or something ends the answer.
    fn next_depth(&mut self, rest: &mut &[u32], bar: &ProgressBar) -> Result<Result<Depth, Stop>, Error> {
        loop {
            if interrupt::is_set() {
                bar.finish_and_clear();
                return Ok(Err(Stop::Interrupted));
            }
            bar.inc(1);
            match self.session.step(self.store, self.policy) {
                Ok(Step::Done(depth)) if rest.is_empty() => return Ok(Ok(depth)),
                Ok(Step::Done(_)) => *rest = self.feed(rest, Feed::More)?,
                Ok(_) => {}
                Err(SessionError::OutOfTime { .. }) => {
                    bar.finish_and_clear();
                    return Ok(Err(Stop::OutOfTime));
                }
                Err(error) => return Err(session_error(error)),
            }
        }
    }

    fn append(&mut self, id: u32, stream: &mut Utf8Stream, text: &mut String) -> Result<(), Error> {
        // The vocabulary of a model may be larger than its tokenizer's: those tokens have no text.
        if let Some(tokenizer) = self.tokenizer.filter(|tokenizer| id < tokenizer.vocab_len()) {
            let bytes = tokenizer.token_bytes(self.store, id).map_err(text_error)?;
            let _ = stream.push(bytes, text);
        }
        Ok(())
    }
}

/// How much of `text` can be shown, and whether it is at its end since a text to stop at follows.
/// What may yet become such a text is held back.
fn certain(text: &str, stops: &[String]) -> (usize, bool) {
    if let Some(at) = stops.iter().filter_map(|stop| text.find(stop.as_str())).min() {
        return (at, true);
    }
    let held_back = |stop: &String| {
        let prefixes = stop.char_indices().map(|(at, _)| at).skip(1);
        prefixes.filter(|at| text.ends_with(&stop[..*at])).last().unwrap_or(0)
    };
    (text.len() - stops.iter().map(held_back).max().unwrap_or(0), false)
}

/// A bar over the steps of a prompt; hidden unless a person is looking and has to wait.
fn prefill_bar(session: &Session<'_>, tokens: usize) -> ProgressBar {
    if tokens < 16 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let parts = tokens.div_ceil(session.settings().rows);
    let steps = parts * session.settings().max_loops * (session.model().config().layers + 1);
    progress::bar(steps as u64, "reading {msg} tokens {wide_bar} {percent} %")
        .with_message(tokens.to_string())
}

#[cfg(test)]
mod tests {
    use super::certain;

    #[test]
    fn what_may_be_a_stop_text_is_held_back() {
        let stops = ["END".to_owned(), "\n\n".to_owned()];
        for (text, expected) in [
            ("", (0, false)),
            ("abc", (3, false)),
            ("abcE", (3, false)),
            ("abcEN", (3, false)),
            ("abcEND and more", (3, true)),
            ("abEx", (4, false)),
            ("a\n", (1, false)),
            ("a\n\nEND", (1, true)),
        ] {
            assert_eq!(certain(text, &stops), expected, "{text:?}");
        }
        assert_eq!(certain("abc", &[]), (3, false));
    }
}
