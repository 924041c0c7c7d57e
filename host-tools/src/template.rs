//! Chat templates: the file's own, rendered as Hugging Face renders it, or else plain ChatML.

use crate::store::HostStore;
use crate::text::metadata_string;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use ouro_runtime::gguf::Gguf;
use ouro_runtime::text::Tokenizer;
use serde::Serialize;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// What was said.
    pub content: String,
}

/// ChatML with the generation prompt behind it, for files that bring no template that works.
const CHATML: &str = "\
{%- for message in messages -%}
{{ '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ '<|im_end|>\n' }}
{%- endfor -%}
{{ '<|im_start|>assistant\n' }}";

/// Instructions of the template engine that one rendering may take. A conversation of a thousand
/// messages takes some ten thousand; loops without end take more.
const FUEL: u64 = 5_000_000;

/// A template that is known to work.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// The texts of tokens that a template may write.
    marks: Marks,
    /// Whether it asks if the model should think first.
    pub knows_thinking: bool,
    /// Why ChatML takes the place of the file's own template, if it does.
    pub fallback: Option<String>,
}

/// `bos_token` and `eos_token` as a template knows them; empty where there is no such token.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// What begins a sequence.
    pub bos: String,
    /// What ends one.
    pub eos: String,
}

impl ChatTemplate {
    /// The template of a file (`tokenizer.chat_template`), if it has one and it renders.
    #[must_use]
    pub fn new(source: Option<String>, marks: Marks) -> Self {
        let reason = match source {
            None => "the file has no chat template".to_owned(),
            Some(source) => match Self::parse(source, marks) {
                Ok(template) => return template,
                Err(error) => format!("the file's chat template does not render ({})", first_line(&error)),
            },
        };
        let mut environment = Environment::new();
        let parsed = environment.add_template(NAME, CHATML);
        debug_assert!(parsed.is_ok());
        Self { environment, marks: Marks::default(), knows_thinking: false, fallback: Some(reason) }
    }

    /// The template of a model file; says so on stderr if ChatML takes its place, and if the
    /// tokenizer does not know ChatML's marks either.
    ///
    /// # Errors
    /// [`BadInput`](crate::error::Error::BadInput) if it can't be read.
    pub fn of_file(
        store: &mut HostStore,
        gguf: &Gguf<'_>,
        tokenizer: &Tokenizer<'_>,
    ) -> Result<Self, crate::error::Error> {
        let source = metadata_string(store, gguf, "tokenizer.chat_template");
        let source = source.map_err(|error| crate::error::Error::BadInput(error.to_string()))?;
        let mut text = |id: Option<u32>| match id.map(|id| tokenizer.token_bytes(store, id)) {
            Some(Ok(bytes)) => String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned(),
            _ => String::new(),
        };
        let marks = Marks { bos: text(tokenizer.bos()), eos: text(tokenizer.eos()) };
        let template = Self::new(source, marks);
        if let Some(reason) = &template.fallback {
            eprintln!("note: {reason}; using ChatML");
            for mark in ["<|im_start|>", "<|im_end|>"] {
                if tokenizer.special(mark).is_none() {
                    eprintln!(
                        "note: the tokenizer has no special token {mark}, which ChatML needs; try --raw"
                    );
                }
            }
        }
        Ok(template)
    }

    /// Says on stderr if the template can't do what `--think` or `--no-think` ask for.
    pub fn note_thinking(&self, thinking: Option<bool>) {
        if thinking.is_some() && !self.knows_thinking {
            eprintln!("note: the chat template does not know --think and --no-think");
        }
    }

    fn parse(source: String, marks: Marks) -> Result<Self, Error> {
        let knows_thinking = source.contains("enable_thinking");
        let mut environment = Environment::new();
        // What transformers sets and offers; templates rely on it.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned(NAME, source)?;
        let template = Self { environment, marks, knows_thinking, fallback: None };
        template.render(&[Message { role: "user", content: "Hello".to_owned() }], None)?;
        Ok(template)
    }

    /// A conversation as text, up to where the assistant is to go on.
    ///
    /// # Errors
    /// The template's own, such as that it does not allow this order of roles.
    pub fn render(&self, messages: &[Message], thinking: Option<bool>) -> Result<String, Error> {
        let template = self.environment.get_template(NAME)?;
        let messages = Value::from(Serde(messages));
        let Marks { bos, eos } = &self.marks;
        let all = context! { messages, add_generation_prompt => true, bos_token => bos, eos_token => eos };
        match thinking {
            Some(enable_thinking) => template.render(context! { enable_thinking, ..all }),
            None => template.render(all),
        }
    }
}

/// An error without the excerpt of the template that may follow.
#[must_use]
pub(crate) fn first_line(error: &Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

const NAME: &str = "chat";

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter;

    fn user(content: &str) -> Message {
        Message { role: "user", content: content.to_owned() }
    }

    #[test]
    fn chatml_where_there_is_no_template_or_a_broken_one() {
        let endless = "{% for a in range(10000) %}{% for b in range(10000) %}{% for c in range(10000) %}\
                       {% endfor %}{% endfor %}{% endfor %}";
        let broken = ["{% if %}", "{{ raise_exception('no') }}", endless];
        for source in iter::once(None).chain(broken.map(|source| Some(source.to_owned()))) {
            let template = ChatTemplate::new(source, Marks::default());
            assert!(template.fallback.is_some());
            assert_eq!(
                template.render(&[user("  Hi\n")], None).unwrap(),
                "<|im_start|>user\n  Hi\n<|im_end|>\n<|im_start|>assistant\n"
            );
        }
    }

    #[test]
    fn python_methods_and_thinking() {
        let source = "{% for m in messages %}{{ m.role.upper() }}:{{ m['content'].strip() }}\n{% endfor %}\
                      {% if enable_thinking is defined and enable_thinking %}<think>{% endif %}";
        let template = ChatTemplate::new(Some(source.to_owned()), Marks::default());
        assert_eq!((template.fallback.as_ref(), template.knows_thinking), (None, true));
        assert_eq!(template.render(&[user(" a ")], None).unwrap(), "USER:a\n");
        assert_eq!(template.render(&[user("a")], Some(true)).unwrap(), "USER:a\n<think>");
        assert_eq!(template.render(&[user("a")], Some(false)).unwrap(), "USER:a\n");
    }

    #[test]
    fn texts_of_tokens() {
        let source = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}";
        let marks = Marks { bos: "<s>".to_owned(), eos: "</s>".to_owned() };
        let template = ChatTemplate::new(Some(source.to_owned()), marks);
        assert_eq!(template.render(&[user("a")], None).unwrap(), "<s>a</s>");
    }
}
