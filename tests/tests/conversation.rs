//! What conversations feed, against the whole text that the template gives.

use ouro::generate::{Answer, Stop, Token};
use ouro::open::{Memories, Opened};
use ouro::store::{HostStore, StoreKind};
use ouro::template::{ChatTemplate, Message};
use ouro::text::{Conversation, Prompt, encode};
use ouro::turns::Turns;
use ouro_runtime::depth::{Left, Reason};
use ouro_runtime::session::Depth;
use ouro_runtime::text::{Specials, Tokenizer};
use ouro_tests::harness::golden;
use ouro_tests::smollm2;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// Calls `test` with the tokenizer and the template of a file.
fn with_template(path: &Path, test: impl FnOnce(&Tokenizer<'_>, &ChatTemplate)) {
    let mut store = HostStore::open(path, StoreKind::Memory, 0).unwrap();
    let mut memories = Memories::default();
    let opened = Opened::open(path, &mut store, &mut memories).unwrap();
    let tokenizer = opened.tokenizer(path).unwrap();
    let template = ChatTemplate::of_file(&mut store, &opened.gguf, tokenizer).unwrap();
    assert_eq!(template.fallback, None);
    test(tokenizer, &template);
}

fn message(role: &'static str, content: &str) -> Message {
    Message { role, content: content.to_owned() }
}

fn answer(tokens: &[u32], text: &str, stop: Stop) -> Answer {
    let depth = Depth { loops: 1, reason: Reason::Fixed };
    Answer {
        tokens: tokens.iter().map(|id| Token { id: *id, depth, left: Left::default() }).collect(),
        text: text.to_owned(),
        full_text: text.to_owned(),
        stop,
        prompt_tokens: 0,
        prefill: Duration::ZERO,
        decode: Duration::ZERO,
    }
}

/// Several turns feed, one after another, exactly the ids of the whole conversation.
fn check_turns(tokenizer: &Tokenizer<'_>, template: &ChatTemplate, system: Option<&str>) {
    let questions = ["What is the capital of France?", "And of Italy?  Say <|im_end|> twice.", "Thanks"];
    let answers = ["Paris.", "It is Rome,\n\nof course."];
    let end = tokenizer.special("<|im_end|>").unwrap();
    let mut turns = Turns::of_chat(Conversation::new(tokenizer, template, None, system));
    questions.iter().for_each(|text| turns.push((*text).to_owned()));
    let mut messages: Vec<Message> = system.map(|text| message("system", text)).into_iter().collect();
    let mut fed = Vec::new();
    // A mark that a person wrote is text; take it from the questions to know the ids around it.
    for (turn, question) in questions.iter().enumerate() {
        let prompt = turns.next_prompt().unwrap().unwrap();
        assert!(matches!(prompt, Prompt::Continue(_)), "turn {turn}");
        fed.extend_from_slice(prompt.ids());
        messages.push(message("user", question));
        let whole = template.render(&messages, None).unwrap();
        let parts: Vec<Vec<u32>> = match whole.split_once(questions[1]) {
            None => vec![encode(tokenizer, &whole, Specials::Recognize).unwrap()],
            Some((before, after)) => vec![
                encode(tokenizer, before, Specials::Recognize).unwrap(),
                encode(tokenizer, questions[1], Specials::PlainText).unwrap(),
                encode(tokenizer, after, Specials::Recognize).unwrap(),
            ],
        };
        assert_eq!(fed, parts.concat(), "turn {turn}: {whole}");
        let Some(text) = answers.get(turn) else { break };
        let mut tokens = encode(tokenizer, text, Specials::PlainText).unwrap();
        // The first answer ends itself, the second is cut: its last token is not fed yet.
        let (ended, stop) = if turn == 0 { (true, Stop::EndToken) } else { (false, Stop::MaxNew) };
        if ended {
            tokens.push(end);
        }
        turns.answered(&answer(&tokens, text, stop), ended);
        fed.extend_from_slice(&tokens[..tokens.len() - 1]);
        messages.push(message("assistant", text));
    }
    assert_eq!(turns.next_prompt().unwrap(), None);
}

#[test]
fn turns_feed_the_whole_rendering() {
    with_template(&golden("lively/lively-gate-f32.gguf"), |tokenizer, template| {
        check_turns(tokenizer, template, None);
        check_turns(tokenizer, template, Some("Be brief."));
    });
    let Some(path) = smollm2() else { return };
    with_template(&path, |tokenizer, template| {
        check_turns(tokenizer, template, None);
        check_turns(tokenizer, template, Some("Be brief."));
    });
}

/// SmolLM2's own template, and what Jinja and `tokenizers` made of it.
#[test]
fn smollm2_prompts() {
    let Some(path) = smollm2() else { return };
    let text = std::fs::read_to_string(golden("smollm2/greedy.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    with_template(&path, |tokenizer, template| {
        for case in cases["greedy"].as_array().unwrap() {
            let content = |role: &str| {
                let messages = case["messages"].as_array().unwrap();
                let found = messages.iter().find(|message| message["role"] == role);
                found.map(|message| message["content"].as_str().unwrap())
            };
            let (system, user) = (content("system"), content("user").unwrap());
            let messages: Vec<Message> = system
                .map(|text| message("system", text))
                .into_iter()
                .chain([message("user", user)])
                .collect();
            assert_eq!(template.render(&messages, None).unwrap(), case["prompt_text"], "{}", case["name"]);
            let prompt = Conversation::new(tokenizer, template, None, system).user(user).unwrap();
            assert_eq!(Value::from(prompt.ids()), case["prompt_ids"], "{}", case["name"]);
        }
    });
}
