//! The tokenizer against the original one: golden data made with it, and itself.

use ouro_runtime::gguf::Gguf;
use ouro_runtime::store::{MIN_TILE, SliceStore, Store};
use ouro_runtime::text::{
    Message, Needs, PreTokenizer, Role, Specials, Symbol, TextError, Tokenizer, Utf8Stream, chatml_needs,
};
use ouro_tests::convert::quantize;
use ouro_tests::harness::{arena, golden};
use ouro_tests::{PagedStore, Random, TokenizerFile, random_text, smollm2};
use serde::Deserialize;
use std::fs;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

/// Strings compared per tokenizer, of which there are four.
const STRINGS: usize = 20_000;
const SEED: u64 = 20_261_124;

fn open_gguf<S: Store>(store: &mut S) -> Gguf<'static> {
    let bytes = Gguf::arena_bytes(store).unwrap();
    Gguf::open(store, &mut arena(bytes)).unwrap()
}

fn open<S: Store>(store: &mut S) -> Tokenizer<'static> {
    let gguf = open_gguf(store);
    let bytes = Tokenizer::arena_bytes(store, &gguf).unwrap();
    let mut memory = arena(bytes);
    let tokenizer = Tokenizer::open(store, &gguf, &mut memory).unwrap();
    assert_eq!(memory.peak(), bytes, "the arena is known to the byte");
    assert!(Tokenizer::open(store, &gguf, &mut arena(bytes - 16)).is_err());
    tokenizer
}

fn encode(tokenizer: &Tokenizer<'_>, text: &str, specials: Specials) -> Vec<u32> {
    let needs = Needs::of_text(text.len());
    let (mut scratch, mut ids) = (vec![Symbol::default(); needs.scratch], vec![0; needs.ids]);
    let len = tokenizer.encode(text, specials, &mut scratch, &mut ids).unwrap();
    ids.truncate(len);
    ids
}

fn decode<S: Store>(tokenizer: &Tokenizer<'_>, store: &mut S, ids: &[u32]) -> String {
    let (mut stream, mut text) = (Utf8Stream::new(), String::new());
    for id in ids {
        stream.push(tokenizer.token_bytes(store, *id).unwrap(), &mut text).unwrap();
    }
    stream.finish(&mut text).unwrap();
    text
}

fn original(file: &TokenizerFile, specials: bool) -> tokenizers::Tokenizer {
    tokenizers::Tokenizer::from_bytes(file.to_json(specials)).unwrap()
}

fn golden_file() -> TokenizerFile {
    TokenizerFile::from_json(&fs::read_to_string(golden("tokenizer/tokenizer.json")).unwrap())
}

/// The tokenizer of SmolLM2, whose tables are in a file that is not always there.
fn smollm2_file() -> Option<(Vec<u8>, TokenizerFile)> {
    let bytes = fs::read(smollm2()?).unwrap();
    let mut store = SliceStore::new(&bytes);
    let gguf = open_gguf(&mut store);
    let file = TokenizerFile::from_gguf(&mut store, &gguf);
    Some((bytes, file))
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    /// Where it is not the text.
    decoded: Option<String>,
}

fn check_cases<S: Store>(store: &mut S, cases: &[Case]) {
    let tokenizer = open(store);
    for Case { text, ids, decoded } in cases {
        assert_eq!(encode(&tokenizer, text, Specials::Recognize), *ids, "{text:?}");
        assert_eq!(decode(&tokenizer, store, ids), *decoded.as_ref().unwrap_or(text), "{text:?}");
    }
}

#[test]
fn golden_cases() {
    let cases: Vec<Case> =
        serde_json::from_str(&fs::read_to_string(golden("tokenizer/cases.json")).unwrap()).unwrap();
    assert!(!cases.is_empty());
    let gguf = golden_file().to_gguf();
    check_cases(&mut SliceStore::new(&gguf), &cases);
    check_cases(&mut PagedStore::new(&gguf, MIN_TILE), &cases);
}

#[test]
fn smollm2_cases() {
    #[derive(Deserialize)]
    struct Cases {
        cases: Vec<Case>,
        plain_text_mode: Vec<Plain>,
        divergent_do_not_test: Vec<Divergent>,
    }
    #[derive(Deserialize)]
    struct Plain {
        text: String,
        ids_special: Vec<u32>,
        ids_plain: Vec<u32>,
    }
    /// Where llama.cpp does otherwise, we follow the original.
    #[derive(Deserialize)]
    struct Divergent {
        text: String,
        hf_tokenizers: Vec<u32>,
    }
    let Some((bytes, _)) = smollm2_file() else { return };
    let path = golden("smollm2/tokenizer_cases.json");
    let cases: Cases = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut store = SliceStore::new(&bytes);
    check_cases(&mut store, &cases.cases);
    let tokenizer = open(&mut store);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.pad()), (Some(1), Some(2), Some(2)));
    assert_eq!(tokenizer.special("<jupyter_output>"), Some(14));
    for Plain { text, ids_special, ids_plain } in cases.plain_text_mode {
        assert_eq!(encode(&tokenizer, &text, Specials::Recognize), ids_special, "{text:?}");
        assert_eq!(encode(&tokenizer, &text, Specials::PlainText), ids_plain, "{text:?}");
    }
    for Divergent { text, hf_tokenizers } in cases.divergent_do_not_test {
        assert_eq!(encode(&tokenizer, &text, Specials::Recognize), hf_tokenizers, "{text:?}");
    }
}

/// Ids, ids with special tokens as plain text, and text of random ids, for random strings.
fn compare_random(name: &str, gguf: &[u8], file: &TokenizerFile, seed: u64) {
    println!("{name}: {STRINGS} strings, seed {seed}");
    let mut store = SliceStore::new(gguf);
    let ours = open(&mut store);
    let [special, plain] = [true, false].map(|specials| original(file, specials));
    let mut random = Random::new(seed);
    for number in 0..STRINGS {
        let text = random_text(&mut random);
        let context = format!("{name}, seed {seed}, string {number}: {text:?}");
        for (specials, theirs) in [(Specials::Recognize, &special), (Specials::PlainText, &plain)] {
            let expected = theirs.encode_fast(&*text, false).unwrap();
            assert_eq!(encode(&ours, &text, specials), expected.get_ids(), "{specials:?}, {context}");
        }
        let ids: Vec<u32> = (0..random.below(20)).map(|_| random.below(file.tokens.len()) as u32).collect();
        let expected = special.decode(&ids, false).unwrap();
        assert_eq!(decode(&ours, &mut store, &ids), expected, "{ids:?}, {name}, seed {seed}");
    }
}

#[test]
fn random_strings_of_the_golden_tokenizer() {
    for (pre, file, seed) in
        [("smollm", golden_file(), SEED), ("gpt-2", golden_file().with_pre("gpt-2"), SEED + 1)]
    {
        compare_random(pre, &file.to_gguf(), &file, seed);
    }
}

#[test]
fn random_strings_of_smollm2() {
    let Some((_, file)) = smollm2_file() else { return };
    compare_random("SmolLM2", &file.to_gguf(), &file, SEED + 2);
}

/// What `ouro quantize` writes gives the ids that its folder's tokenizer.json gives.
#[test]
fn random_strings_of_a_converted_folder() {
    let out = tempfile::NamedTempFile::new().unwrap();
    quantize(&golden("lively"), out.path(), &["--type", "f16"]).unwrap();
    let file = TokenizerFile::from_json(&fs::read_to_string(golden("lively/tokenizer.json")).unwrap());
    compare_random("converted", &fs::read(out.path()).unwrap(), &file, SEED + 3);
}

/// Words, where ids could hide a difference: every character between letters, digits, punctuation
/// and spaces; and random strings. Planes 4 to 13 are empty, 15 and 16 for private use: of those
/// only some.
#[test]
fn words_are_the_originals() {
    let common =
        |c: &char| !matches!(u32::from(*c), 0x4_0000..0xE_0000 | 0xF_0000..) || u32::from(*c) % 61 == 0;
    let chars: Vec<char> = ('\0'..=char::MAX).filter(common).collect();
    let file = golden_file();
    for (ours, pre) in [(PreTokenizer::SmolLm, "smollm"), (PreTokenizer::Gpt2, "gpt-2")] {
        let theirs = original(&file.clone().with_pre(pre), true);
        let theirs = theirs.get_pre_tokenizer().unwrap();
        for chars in chars.chunks(64) {
            let text: String = chars.iter().map(|c| format!("a{c} {c}!{c}7{c}{c} \t")).collect();
            compare_words(ours, theirs, &text);
        }
        let mut random = Random::new(SEED + 3);
        println!("{pre}: {STRINGS} strings, seed {}", SEED + 3);
        for _ in 0..STRINGS {
            compare_words(ours, theirs, &random_text(&mut random));
        }
    }
}

fn compare_words(ours: PreTokenizer, theirs: &PreTokenizerWrapper, text: &str) {
    let mut split = PreTokenizedString::from(text);
    theirs.pre_tokenize(&mut split).unwrap();
    let splits = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
    let expected: Vec<&str> = splits.iter().map(|(_, (start, end), _)| &text[*start..*end]).collect();
    assert_eq!(ours.words(text).collect::<Vec<_>>(), expected, "{ours:?} {text:?}");
}

/// The ids of a conversation are those of its text, but for special tokens in messages.
#[test]
fn chatml_is_the_rendered_text() {
    let file = golden_file();
    let gguf = file.to_gguf();
    let tokenizer = open(&mut SliceStore::new(&gguf));
    let [special, plain] = [true, false].map(|specials| original(&file, specials));
    let [start, end] = ["<|im_start|>", "<|im_end|>"].map(|text| tokenizer.special(text).unwrap());
    let ids = |theirs: &tokenizers::Tokenizer, text: &str| {
        theirs.encode_fast(text, false).unwrap().get_ids().to_vec()
    };
    let newline = ids(&plain, "\n");
    println!("seed {}", SEED + 4);
    let mut random = Random::new(SEED + 4);
    for _ in 0..2000 {
        let contents: Vec<String> = (0..random.below(4)).map(|_| random_text(&mut random)).collect();
        let roles = [Role::System, Role::User, Role::Assistant];
        let messages: Vec<Message<'_>> =
            contents.iter().map(|content| Message { role: random.pick(&roles), content }).collect();
        let mut expected = Vec::new();
        for Message { role, content } in &messages {
            expected.push(start);
            expected.extend(ids(&plain, &format!("{}\n{content}", role.name())));
            expected.push(end);
            expected.extend(&newline);
        }
        expected.extend(ids(&special, "<|im_start|>assistant\n"));

        let needs = chatml_needs(&messages);
        let (mut scratch, mut out) = (vec![Symbol::default(); needs.scratch], vec![0; needs.ids]);
        let len = tokenizer.chatml(&messages, &mut scratch, &mut out).unwrap();
        assert_eq!(out[..len], expected, "{messages:?}");
        let len = tokenizer.chatml_reply(&messages, &mut scratch, &mut out).unwrap();
        assert_eq!(out[..len], [newline.clone(), expected].concat(), "{messages:?}");
    }
}

#[test]
fn errors_say_what_is_needed() {
    let gguf = golden_file().to_gguf();
    let mut store = SliceStore::new(&gguf);
    let tokenizer = open(&mut store);
    let long = "long".repeat(100);
    let text = format!("short words {long} short words");
    let ids = encode(&tokenizer, &text, Specials::Recognize);
    let run = |scratch: usize, out: usize| {
        let (mut scratch, mut out) = (vec![Symbol::default(); scratch], vec![0; out]);
        tokenizer.encode(&text, Specials::Recognize, &mut scratch, &mut out)
    };
    assert_eq!(run(401, ids.len()), Ok(ids.len()));
    assert_eq!(run(400, ids.len()), Err(TextError::ScratchTooSmall { needed: 401, found: 400 }));
    let (needed, found) = (ids.len(), ids.len() - 1);
    assert_eq!(run(401, found), Err(TextError::OutputTooSmall { needed, found }));

    let tokens = tokenizer.vocab_len();
    for id in [tokens, u32::MAX] {
        assert_eq!(tokenizer.token_bytes(&mut store, id).err(), Some(TextError::NoSuchToken { id, tokens }));
    }
    assert_eq!(tokenizer.special("<|im_end|> "), None);
    assert_eq!(tokenizer.special(""), None);

    let mut file = golden_file();
    file.tokens[2] = "<end>".to_owned();
    let tokenizer = open(&mut SliceStore::new(&file.to_gguf()));
    let error = tokenizer.chatml(&[], &mut [], &mut []);
    assert_eq!(error, Err(TextError::NotChatMl { missing: "<|im_end|>" }));
}
