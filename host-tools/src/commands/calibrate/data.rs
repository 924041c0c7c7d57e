//! What a model is calibrated on: texts as ids, and which of their positions count.

use crate::error::Error;
use crate::json_lines::Line;
use crate::template::ChatTemplate;
use crate::text::{Conversation, encode};
use ouro_runtime::text::{Specials, Tokenizer};
use std::ops::Range;
use std::path::Path;

/// Long texts are cut into windows of this many positions, each from an empty cache.
const WINDOW: usize = 512;

/// Ids to run through a model at once.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) ids: Vec<u32>,
    /// The positions whose next token counts.
    pub(super) scored: Range<usize>,
    /// How many of the ids a run reads at once; the others come one by one.
    pub(super) prompt: usize,
    /// Whether the others are the right answer to the prompt: then a run goes on with its own.
    pub(super) is_answered: bool,
}

/// Reads the data: JSON Lines where the name ends so, else plain text.
///
/// # Errors
/// [`Error::BadInput`] with the number of the first line that is wrong.
pub(super) fn read(
    path: &Path,
    tokenizer: &Tokenizer<'_>,
    template: &ChatTemplate,
    context: usize,
) -> Result<Vec<Text>, Error> {
    let window = WINDOW.min(context);
    if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl")) {
        let bytes = std::fs::read(path).map_err(|error| Error::reading(path, &error))?;
        let bad = |problem: &str| Error::BadInput(format!("{}: {problem}", path.display()));
        let text = String::from_utf8(bytes).map_err(|error| bad(&format!("not UTF-8: {error}")))?;
        if text.trim().is_empty() {
            return Err(bad("the file is empty; expected text, or JSON Lines in a file named .jsonl"));
        }
        return Ok(windows(&encode(tokenizer, &text, Specials::PlainText)?, window));
    }
    let mut texts = Vec::new();
    for line in Line::read_all(path)? {
        match line.optional("text")? {
            Some(text) => texts.extend(windows(&encode(tokenizer, text, Specials::Recognize)?, window)),
            None => texts.push(exchange(&line, tokenizer, template, context)?),
        }
    }
    Ok(texts)
}

fn windows(ids: &[u32], window: usize) -> Vec<Text> {
    let text = |ids: &[u32]| Text {
        ids: ids.to_vec(),
        scored: 0..ids.len(),
        prompt: ids.len().div_ceil(2),
        is_answered: false,
    };
    ids.chunks(window).map(text).collect()
}

/// A prompt and its answer: the positions that choose the answer's tokens count, with the one that
/// ends it.
fn exchange(
    line: &Line<'_>,
    tokenizer: &Tokenizer<'_>,
    template: &ChatTemplate,
    context: usize,
) -> Result<Text, Error> {
    let (Some(question), Some(answer)) = (line.optional("prompt")?, line.optional("answer")?) else {
        return Err(line.error("neither `text` nor both of `prompt` and `answer` are there"));
    };
    let mut ids = Conversation::new(tokenizer, template, None, None).user(question)?.ids().to_vec();
    let prompt = ids.len();
    ids.extend(encode(tokenizer, answer, Specials::PlainText)?);
    if ids.len() > context {
        let found = ids.len();
        return Err(line.error(format!(
            "prompt and answer have {found} tokens, but the model's context is {context}; leave this line out"
        )));
    }
    Ok(Text { scored: prompt.saturating_sub(1)..ids.len(), ids, prompt, is_answered: true })
}

/// About `positions` scored positions at most, from texts evenly spread over all.
pub(super) fn thin_out(texts: Vec<Text>, positions: usize) -> Vec<Text> {
    let total: usize = texts.iter().map(|text| text.scored.len()).sum();
    let all = texts.len();
    let keep = (all * positions / total.max(1)).clamp(1, all.max(1));
    let numbered = texts.into_iter().enumerate();
    numbered.filter(|(i, _)| (i + 1) * keep / all > i * keep / all).map(|(_, text)| text).collect()
}
