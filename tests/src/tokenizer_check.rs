//! What must hold of any tokenizer and any text. The fuzz target has this file too, so it uses
//! nothing but its neighbours and the runtime.

use super::gguf_builder::GgufBuilder;
use super::paged_store::PagedStore;
use ouro_runtime::arena::Arena;
use ouro_runtime::gguf::Gguf;
use ouro_runtime::store::{SliceStore, Store};
use ouro_runtime::text::{
    Message, Needs, Role, Specials, Symbol, TextError, Tokenizer, Utf8Stream, chatml_needs,
};

/// Makes a tokenizer and a text of `input`: types as digits, tokens as lines, merges as lines, and
/// the text, with a zero byte between each two. Gives whether the tokenizer could be opened.
///
/// # Panics
/// If the tokenizer does anything that it should not.
pub fn check_tokenizer(input: &[u8]) -> bool {
    let mut parts = input.splitn(4, |byte| *byte == 0).chain([&b""[..]].repeat(4));
    let [types, tokens, merges, text] = [(); 4].map(|()| parts.next().unwrap_or_default());
    let types: Vec<i32> = types.iter().map(|digit| i32::from(*digit) - i32::from(b'0')).collect();
    let lines = |part: &'static str, bytes: &[u8], file: GgufBuilder| {
        let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        file.strings(part, if bytes.is_empty() { &[] } else { &lines })
    };
    let file = GgufBuilder::new().string("tokenizer.ggml.model", "gpt2");
    let file = file.string("tokenizer.ggml.pre", if text.len() % 2 == 0 { "smollm" } else { "gpt-2" });
    let file = lines("tokenizer.ggml.tokens", tokens, file.i32s("tokenizer.ggml.token_type", &types));
    let file = lines("tokenizer.ggml.merges", merges, file).build();

    let mut store = SliceStore::new(&file);
    let (mut memory, mut paged_memory) = (Vec::new(), Vec::new());
    let opened = open(&mut store, &mut memory);
    let paged = open(&mut PagedStore::new(&file, file.len().max(512)), &mut paged_memory);
    assert_eq!(opened.as_ref().err(), paged.as_ref().err());
    let tokenizer = match opened {
        Ok(tokenizer) => tokenizer,
        Err(error) => {
            assert!(!matches!(error, TextError::Arena(_)), "{error}");
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    check_text(&tokenizer, &mut store, &String::from_utf8_lossy(text));
    true
}

fn open<'m, S: Store>(store: &mut S, memory: &'m mut Vec<u128>) -> Result<Tokenizer<'m>, TextError> {
    let bytes = Gguf::arena_bytes(store)?;
    let mut directory = vec![0u128; bytes.div_ceil(16)];
    let gguf = Gguf::open(store, &mut Arena::new(bytemuck::cast_slice_mut(&mut directory)))?;
    let bytes = Tokenizer::arena_bytes(store, &gguf)?;
    memory.resize(bytes.div_ceil(16), 0);
    let mut arena = Arena::new(bytemuck::cast_slice_mut(memory));
    let tokenizer = Tokenizer::open(store, &gguf, &mut arena)?;
    assert_eq!(arena.peak(), bytes);
    Ok(tokenizer)
}

fn check_text<S: Store>(tokenizer: &Tokenizer<'_>, store: &mut S, text: &str) {
    let needs = Needs::of_text(text.len());
    let (mut scratch, mut ids) = (vec![Symbol::default(); needs.scratch], vec![0; needs.ids]);
    tokenizer.encode(text, Specials::Recognize, &mut scratch, &mut ids).unwrap();
    let len = tokenizer.encode(text, Specials::PlainText, &mut scratch, &mut ids).unwrap();

    let (mut bytes, mut stream, mut decoded) = (Vec::new(), Utf8Stream::new(), String::new());
    for id in &ids[..len] {
        let token = tokenizer.token_bytes(store, *id).unwrap();
        bytes.extend(token.clone());
        stream.push(token, &mut decoded).unwrap();
    }
    stream.finish(&mut decoded).unwrap();
    assert_eq!(decoded, String::from_utf8_lossy(&bytes));
    // The tokens of a plain text are the text, but for bytes that no token has.
    let mut missing = text.bytes();
    for byte in &bytes {
        assert!(missing.any(|other| other == *byte), "{byte} in {text:?}");
    }

    let messages = [Message { role: Role::User, content: text }; 2];
    let needs = chatml_needs(&messages);
    let (mut scratch, mut ids) = (vec![Symbol::default(); needs.scratch], vec![0; needs.ids]);
    let result = tokenizer.chatml(&messages, &mut scratch, &mut ids);
    assert!(matches!(result, Ok(_) | Err(TextError::NotChatMl { .. })), "{result:?}");
}
