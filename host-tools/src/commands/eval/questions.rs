//! What is asked: the lines of the file, as the model reads them.

use super::ALL;
use crate::error::Error;
use crate::json_lines::Line;
use crate::report::counted;
use crate::template::ChatTemplate;
use crate::text::{Conversation, encode};
use ouro_runtime::text::{Specials, Tokenizer};
use std::path::Path;

/// The longest tag, in characters: it heads a row of the table.
const LONGEST_TAG: usize = 32;

/// A question and the answer that is right.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) answer: String,
    pub(super) tag: String,
    /// The prompt in the chat template.
    pub(super) prompt: Vec<u32>,
    /// Tokens of the answer.
    pub(super) answer_tokens: usize,
}

/// Reads the questions of a file. `tags` are the only ones allowed, unless there are none.
///
/// # Errors
/// [`Error::BadInput`] with the number of the first line that is wrong or longer than `context`.
pub(super) fn read(
    path: &Path,
    tokenizer: &Tokenizer<'_>,
    template: &ChatTemplate,
    context: usize,
    tags: &[String],
) -> Result<Vec<Question>, Error> {
    let question = |line: &Line<'_>| {
        let (prompt, answer, tag) = (line.text("prompt")?, line.text("answer")?, line.text("tag")?);
        check_tag(tag, tags).map_err(|problem| line.error(problem))?;
        let prompt = Conversation::new(tokenizer, template, None, None).user(prompt)?.ids().to_vec();
        let answer_tokens = encode(tokenizer, answer, Specials::PlainText)?.len();
        // One more token ends the answer.
        let positions = prompt.len() + answer_tokens + 1;
        if positions > context {
            return Err(line.error(format!(
                "the prompt has {} and the answer {answer_tokens}: {positions} positions, but the \
                 context has {context}; leave this line out, or raise --ctx if it was given",
                counted(prompt.len(), "token")
            )));
        }
        Ok(Question { answer: answer.trim().to_owned(), tag: tag.to_owned(), prompt, answer_tokens })
    };
    Line::read_all(path)?.iter().map(question).collect()
}

fn check_tag(tag: &str, tags: &[String]) -> Result<(), String> {
    if tag == ALL {
        Err(format!("the tag `{ALL}` is taken: it stands for all questions"))
    } else if tag.chars().count() > LONGEST_TAG || tag.chars().any(char::is_control) {
        Err(format!("the tag {tag:?}: expected at most {LONGEST_TAG} printable characters"))
    } else if !tags.is_empty() && !tags.iter().any(|allowed| allowed == tag) {
        let tags = tags.join(", ");
        Err(format!("the tag {tag:?}: expected one of {tags}; correct it here, or add it to --tags"))
    } else {
        Ok(())
    }
}
