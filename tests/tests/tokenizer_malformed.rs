//! Tokenizer tables that contradict themselves or each other, each in one way: what the tokenizer
//! says, from memory and through a small page; and tables that only look strange.

use ouro_runtime::gguf::{Gguf, GgufError};
use ouro_runtime::store::{MIN_TILE, SliceStore, Store, StoreError};
use ouro_runtime::text::{MergePart, Specials, TableError as Table, TextError, Tokenizer};
use ouro_tests::harness::arena;
use ouro_tests::{
    GgufBuilder, PagedStore, assert_helpful, check_tokenizer, gguf_string as string, soon, value_type,
};
use std::fs;
use std::path::Path;

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const PAD: &str = "tokenizer.ggml.padding_token_id";
const VOCAB_SIZE: &str = "ouro.vocab_size";

/// Types: normal, control, user-defined, unused.
const N: i32 = 1;
const C: i32 = 3;
const U: i32 = 4;
const X: i32 = 5;

/// A good set of keys, one of which a case replaces or leaves out.
fn file(without: &str, with: impl FnOnce(GgufBuilder) -> GgufBuilder) -> Vec<u8> {
    let tokens = ["<end>", "a", "b", "Ġ", "ab", "Ġab", "<|x|>"];
    let types = [C, N, N, N, N, N, U];
    type Add<'k> = (&'k str, &'k dyn Fn(GgufBuilder) -> GgufBuilder);
    let keys: [Add<'_>; 10] = [
        ("general.architecture", &|file| file.string("general.architecture", "ouro")),
        (MODEL, &|file| file.string(MODEL, "gpt2")),
        (PRE, &|file| file.string(PRE, "smollm")),
        (TOKENS, &|file| file.strings(TOKENS, &tokens)),
        (TYPES, &|file| file.i32s(TYPES, &types)),
        (MERGES, &|file| file.strings(MERGES, &["a b", "Ġ ab"])),
        (BOS, &|file| file.u32(BOS, 0)),
        (EOS, &|file| file.u32(EOS, 0)),
        (PAD, &|file| file.u32(PAD, 6)),
        (VOCAB_SIZE, &|file| file.u32(VOCAB_SIZE, 7)),
    ];
    let kept = keys.into_iter().filter(|(key, _)| *key != without);
    with(kept.fold(GgufBuilder::new(), |file, (_, add)| add(file))).build()
}

/// Nothing but these tokens, of these types.
fn tokens(tokens: &[&str], types: &[i32]) -> Vec<u8> {
    let file = GgufBuilder::new().string(MODEL, "gpt2").strings(TOKENS, tokens);
    file.i32s(TYPES, types).strings::<&str>(MERGES, &[]).build()
}

fn merges(lines: &[&str]) -> Vec<u8> {
    file(MERGES, |file| file.strings(MERGES, lines))
}

fn open<S: Store>(store: &mut S) -> Result<Tokenizer<'static>, TextError> {
    let bytes = Gguf::arena_bytes(store).unwrap();
    let gguf = Gguf::open(store, &mut arena(bytes)).unwrap();
    // What can't be measured can't be opened; other faults are seen later.
    let bytes = Tokenizer::arena_bytes(store, &gguf)?;
    Tokenizer::open(store, &gguf, &mut arena(bytes))
}

/// Name, file, error, and what its message must contain: what was found, and what was expected.
type Case = (&'static str, Vec<u8>, fn(&TextError) -> bool, &'static [&'static str]);

/// The pattern of a table error.
macro_rules! table {
    ($pattern:pat) => {
        |error| matches!(error, TextError::Table($pattern))
    };
}

/// The pattern of an error of the reader.
macro_rules! gguf {
    ($pattern:pat) => {
        |error| matches!(error, TextError::Gguf($pattern))
    };
}

fn key_cases() -> Vec<Case> {
    vec![
        (
            "no model",
            file(MODEL, |file| file),
            table!(Table::MissingKey { key: MODEL }),
            &[MODEL, "expected in every file"],
        ),
        (
            "no tokens",
            file(TOKENS, |file| file),
            table!(Table::MissingKey { key: TOKENS }),
            &[TOKENS, "expected in every file"],
        ),
        (
            "no merges",
            file(MERGES, |file| file),
            table!(Table::MissingKey { key: MERGES }),
            &[MERGES, "expected in every file"],
        ),
        (
            "SentencePiece model",
            file(MODEL, |file| file.string(MODEL, "llama")),
            table!(Table::Model { .. }),
            &["\"llama\"", "expected \"gpt2\" (byte-level BPE)"],
        ),
        (
            "model is a number",
            file(MODEL, |file| file.u32(MODEL, 2)),
            gguf!(GgufError::WrongType { .. }),
            &[MODEL, "expected string"],
        ),
        (
            "unknown pre-tokenizer",
            file(PRE, |file| file.string(PRE, "qwen2")),
            table!(Table::PreTokenizer { .. }),
            &["\"qwen2\"", "expected \"smollm\", \"gpt-2\" or \"default\""],
        ),
        (
            "pre-tokenizer with a very long name",
            file(PRE, |file| file.string(PRE, &"smollm".repeat(1000))),
            table!(Table::PreTokenizer { .. }),
            &["\"smollmsmollm", "expected \"smollm\", \"gpt-2\" or \"default\""],
        ),
        (
            "tokens are numbers",
            file(TOKENS, |file| file.i32s(TOKENS, &[1; 7])),
            gguf!(GgufError::WrongType { .. }),
            &[TOKENS, "expected an array of string"],
        ),
        (
            "tokens are one string",
            file(TOKENS, |file| file.string(TOKENS, "abc")),
            gguf!(GgufError::WrongType { .. }),
            &[TOKENS, "expected an array of string"],
        ),
        (
            "merges are numbers",
            file(MERGES, |file| file.i32s(MERGES, &[1])),
            gguf!(GgufError::WrongType { .. }),
            &[MERGES, "expected an array of string"],
        ),
        (
            "types are strings",
            file(TYPES, |file| file.strings(TYPES, &["1"; 7])),
            gguf!(GgufError::WrongType { .. }),
            &[TYPES, "expected an array of i32"],
        ),
        (
            "types are one number",
            file(TYPES, |file| file.u32(TYPES, 1)),
            gguf!(GgufError::WrongType { .. }),
            &[TYPES, "expected an array of i32"],
        ),
        (
            "one type too few",
            file(TYPES, |file| file.i32s(TYPES, &[C, N, N, N, N, N])),
            table!(Table::Length { key: TYPES, found: 6, tokens: 7 }),
            &["has 6 elements", "expected one for each of the 7 tokens"],
        ),
        (
            "no type at all",
            file(TYPES, |file| file.i32s(TYPES, &[])),
            table!(Table::Length { key: TYPES, found: 0, tokens: 7 }),
            &["has 0 elements", "expected one for each of the 7 tokens"],
        ),
        (
            "one score too many",
            file("", |file| file.f32s(SCORES, &[0.0; 8])),
            table!(Table::Length { key: SCORES, found: 8, tokens: 7 }),
            &["has 8 elements", "expected one for each of the 7 tokens"],
        ),
        (
            "more tokens than the vocabulary",
            file(VOCAB_SIZE, |file| file.u32(VOCAB_SIZE, 6)),
            table!(Table::Vocabulary { tokens: 7, vocab_size: 6 }),
            &["has 7 elements", "expected at most the model's vocab_size 6"],
        ),
        (
            "bos is no token",
            file(BOS, |file| file.u32(BOS, 7)),
            table!(Table::SpecialId { key: BOS, found: 7, tokens: 7 }),
            &["is 7", "expected an id below 7"],
        ),
        (
            "eos is the largest id",
            file(EOS, |file| file.u32(EOS, u32::MAX)),
            table!(Table::SpecialId { key: EOS, found: 0xFFFF_FFFF, .. }),
            &["is 4294967295", "expected an id below 7"],
        ),
        (
            "pad is larger than any id",
            file(PAD, |file| file.entry(PAD, value_type::U64, &u64::MAX.to_le_bytes())),
            table!(Table::SpecialId { key: PAD, found: u64::MAX, .. }),
            &[PAD, "expected an id below 7"],
        ),
        (
            "bos is negative",
            file(BOS, |file| file.entry(BOS, value_type::I32, &(-1i32).to_le_bytes())),
            gguf!(GgufError::Negative { .. }),
            &[BOS, "expected 0 or more"],
        ),
        (
            "eos is a string",
            file(EOS, |file| file.string(EOS, "<end>")),
            gguf!(GgufError::WrongType { .. }),
            &[EOS, "expected an integer"],
        ),
    ]
}

fn token_cases() -> Vec<Case> {
    let long = "x".repeat(257);
    let invalid = [string(b"a"), string(b"\xFFa")].concat();
    vec![
        (
            "no tokens in the array",
            tokens(&[], &[]),
            table!(Table::TokenCount { found: 0 }),
            &["has 0 elements", "expected 1 to 2^31"],
        ),
        (
            "token type 0",
            tokens(&["a", "b"], &[N, 0]),
            table!(Table::TokenType { id: 1, found: 0 }),
            &["token 1 is 0", "expected 1 (normal) to 5 (unused)"],
        ),
        (
            "token type 6 (byte)",
            tokens(&["<0x0A>"], &[6]),
            table!(Table::TokenType { id: 0, found: 6 }),
            &["is 6", "expected 1 (normal) to 5 (unused)"],
        ),
        (
            "negative token type",
            tokens(&["a"], &[-3]),
            table!(Table::TokenType { id: 0, found: -3 }),
            &["is -3", "expected 1 (normal) to 5 (unused)"],
        ),
        (
            "empty token",
            tokens(&["a", ""], &[N, N]),
            table!(Table::EmptyToken { id: 1 }),
            &["token 1 is empty", "expected at least one character"],
        ),
        (
            "empty special token",
            tokens(&["a", ""], &[N, C]),
            table!(Table::EmptyToken { id: 1 }),
            &["token 1", "expected at least one character"],
        ),
        (
            "token that is no UTF-8",
            GgufBuilder::new()
                .string(MODEL, "gpt2")
                .array(TOKENS, value_type::STRING, 2, &invalid)
                .strings::<&str>(MERGES, &[])
                .build(),
            table!(Table::TokenNotUtf8 { id: 1 }),
            &["token 1", "expected text that is"],
        ),
        (
            "space in a normal token",
            tokens(&["a", "a b"], &[N, N]),
            table!(Table::Alphabet { id: 1, found: ' ' }),
            &["token 1 has the character U+0020", "expected only the 256 of the byte-level alphabet"],
        ),
        (
            "SentencePiece's space in a normal token",
            tokens(&["▁a"], &[N]),
            table!(Table::Alphabet { id: 0, found: '▁' }),
            &["U+2581", "expected only the 256 of the byte-level alphabet"],
        ),
        (
            "first character past the alphabet",
            tokens(&["\u{144}"], &[N]),
            table!(Table::Alphabet { id: 0, found: '\u{144}' }),
            &["U+0144", "expected only the 256 of the byte-level alphabet"],
        ),
        (
            "two normal tokens with one text",
            tokens(&["b", "a", "b"], &[N, N, N]),
            table!(Table::DuplicateToken { first: 0, second: 2 }),
            &["tokens 0 and 2", "expected every token once"],
        ),
        (
            "two special tokens with one text",
            tokens(&["<a>", "<a>"], &[C, U]),
            table!(Table::DuplicateToken { first: 0, second: 1 }),
            &["tokens 0 and 1", "expected every token once"],
        ),
        (
            "a special token with a normal one's text",
            tokens(&["a", "a"], &[C, N]),
            table!(Table::DuplicateToken { first: 0, second: 1 }),
            &["tokens 0 and 1", "expected every token once"],
        ),
        (
            "special token beyond the limit",
            tokens(&["a", &long], &[N, C]),
            table!(Table::SpecialLength { id: 1, found: 257 }),
            &["257 bytes", "expected at most 256"],
        ),
    ]
}

fn merge_cases() -> Vec<Case> {
    let missing = |part: MergePart| -> fn(&TextError) -> bool {
        match part {
            MergePart::Left => table!(Table::MergeToken { rank: 1, part: MergePart::Left, .. }),
            MergePart::Right => table!(Table::MergeToken { rank: 1, part: MergePart::Right, .. }),
            MergePart::Result => table!(Table::MergeToken { rank: 1, part: MergePart::Result, .. }),
        }
    };
    vec![
        (
            "merge of an unknown token",
            merges(&["a b", "c b"]),
            missing(MergePart::Left),
            &["first part of merge 1 is \"c\"", "expected a normal token"],
        ),
        (
            "merge with an unknown token",
            merges(&["a b", "a c"]),
            missing(MergePart::Right),
            &["second part of merge 1", "expected a normal token"],
        ),
        (
            "merge into an unknown token",
            merges(&["a b", "b a"]),
            missing(MergePart::Result),
            &["result of merge 1 is \"ba\"", "expected a normal token"],
        ),
        (
            "merge of a special token",
            merges(&["a b", "<end> a"]),
            missing(MergePart::Left),
            &["first part of merge 1", "expected a normal token"],
        ),
        (
            "merge into a special token",
            GgufBuilder::new()
                .string(MODEL, "gpt2")
                .strings(TOKENS, &["a", "b", "ab", "ba"])
                .i32s(TYPES, &[N, N, N, C])
                .strings(MERGES, &["a b", "b a"])
                .build(),
            missing(MergePart::Result),
            &["result of merge 1", "expected a normal token"],
        ),
        (
            "merge without a space",
            merges(&["ab"]),
            table!(Table::MergeSyntax { rank: 0, .. }),
            &["merge 0 is \"ab\"", "expected two tokens with one space"],
        ),
        (
            "merge with two spaces",
            merges(&["a b", "a  b"]),
            table!(Table::MergeSyntax { rank: 1, .. }),
            &["merge 1", "expected two tokens with one space between them"],
        ),
        (
            "merge of three",
            merges(&["a b a"]),
            table!(Table::MergeSyntax { rank: 0, .. }),
            &["merge 0 is \"a b a\"", "expected two tokens with one space"],
        ),
        (
            "merge of nothing",
            merges(&[" b"]),
            table!(Table::MergeSyntax { rank: 0, .. }),
            &["merge 0", "expected two tokens with one space between them"],
        ),
        (
            "merge with nothing",
            merges(&["a "]),
            table!(Table::MergeSyntax { rank: 0, .. }),
            &["merge 0", "expected two tokens with one space between them"],
        ),
        (
            "empty merge",
            merges(&["a b", "", "Ġ ab"]),
            table!(Table::MergeSyntax { rank: 1, .. }),
            &["merge 1", "expected two tokens with one space between them"],
        ),
    ]
}

#[test]
fn malformed_tables_are_named() {
    let cases = [key_cases(), token_cases(), merge_cases()].concat();
    println!("{} malformed tokenizers", cases.len());
    assert!(cases.len() >= 40);
    for (name, file, is_expected, says) in cases {
        let errors = [
            soon(name, || open(&mut SliceStore::new(&file))),
            soon(name, || open(&mut PagedStore::new(&file, 512))),
        ];
        for error in errors.map(Result::err) {
            let error = error.unwrap_or_else(|| panic!("{name}: no error"));
            assert!(is_expected(&error), "{name}: {error:?}");
            assert_helpful(name, &error.to_string(), says);
        }
    }
}

/// A token longer than the page: a matter of the store, not of the file.
#[test]
fn small_page() {
    let long = "a".repeat(400);
    let file = tokens(&["a", "b", &long], &[N, N, N]);
    assert!(open(&mut PagedStore::new(&file, 512)).is_ok());
    let error = open(&mut PagedStore::new(&file, MIN_TILE)).err();
    let store_error = match error {
        Some(TextError::Store(error) | TextError::Gguf(GgufError::Store(error))) => Some(error),
        _ => None,
    };
    assert!(matches!(store_error, Some(StoreError::TooLarge { max: MIN_TILE, .. })), "{error:?}");
}

#[test]
fn strange_tables_work() {
    let many: Vec<String> = (0..700).map(|number| format!("[PAD{number}]")).collect();
    let padded: Vec<&str> = ["a", "b", "ab"].into_iter().chain(many.iter().map(String::as_str)).collect();
    let padded_types: Vec<i32> = (0..padded.len()).map(|id| if id < 3 { N } else { X }).collect();
    let types_u32: Vec<u8> = [C, N, N, N, N, N, U].iter().flat_map(|kind| kind.to_le_bytes()).collect();
    // Name, file, text, ids.
    let cases: [(&str, Vec<u8>, &str, &[u32]); 11] = [
        ("as it should be", file("", |file| file), "ab ab<end>a<|x|>", &[4, 5, 0, 1, 6]),
        ("no pre-tokenizer named", file(PRE, |file| file), "ab ab", &[4, 5]),
        (
            "no types: all are normal",
            {
                let file = GgufBuilder::new().string(MODEL, "gpt2").strings(TOKENS, &["b", "a", "ab"]);
                file.strings(MERGES, &["a b"]).build()
            },
            "ab",
            &[2],
        ),
        (
            "types are u32",
            file(TYPES, |file| file.array(TYPES, value_type::U32, 7, &types_u32)),
            "ab<end>",
            &[4, 0],
        ),
        ("scores", file("", |file| file.f32s(SCORES, &[0.0; 7])), "ab", &[4]),
        ("no merge", merges(&[]), "ab", &[1, 2]),
        (
            "a merge listed twice counts where it stands last",
            {
                let file = GgufBuilder::new().string(MODEL, "gpt2").strings(TOKENS, &["a", "b", "ab", "ba"]);
                file.strings(MERGES, &["a b", "b a", "a b"]).build()
            },
            "aba",
            &[0, 3],
        ),
        ("bytes without a token", file("", |file| file), "axb", &[4]),
        (
            "no special ids, no vocabulary size",
            {
                let file = GgufBuilder::new().string(MODEL, "gpt2").strings(TOKENS, &["a"]);
                file.strings::<&str>(MERGES, &[]).build()
            },
            "aa",
            &[0, 0],
        ),
        ("larger vocabulary", file(VOCAB_SIZE, |file| file.u32(VOCAB_SIZE, 64)), "ab", &[4]),
        (
            "padded table of more than one batch",
            {
                let file = GgufBuilder::new().string(MODEL, "gpt2").strings(TOKENS, &padded);
                file.i32s(TYPES, &padded_types).strings(MERGES, &["a b"]).build()
            },
            "ab[PAD1]",
            &[2],
        ),
    ];
    for (name, file, text, expected) in cases {
        let stores = [open(&mut SliceStore::new(&file)), open(&mut PagedStore::new(&file, MIN_TILE))];
        for tokenizer in stores {
            let tokenizer = tokenizer.unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut out = [0; 32];
            let len = tokenizer.encode(text, Specials::Recognize, &mut [], &mut out).unwrap();
            assert_eq!(out[..len], *expected, "{name}");
        }
    }
}

/// The seeds of the fuzz target, of which the names of those that can't be opened are known.
#[test]
fn seeds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/tokenizer");
    let mut refused = Vec::new();
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        if !check_tokenizer(&fs::read(&path).unwrap()) {
            refused.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    refused.sort();
    assert_eq!(refused, ["duplicate", "empty", "no-such-merge"]);
}
