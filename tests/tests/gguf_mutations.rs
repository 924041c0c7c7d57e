//! Every truncation and every single-byte change of one small GGUF file that has a bit of
//! everything: never a panic, never slow, no memory in proportion to a lie, and the same through
//! a small page as from memory.

use ouro_runtime::gguf::{Gguf, GgufError};
use ouro_runtime::store::{MIN_TILE, SliceStore};
use ouro_tests::value_type::*;
use ouro_tests::{Contents, GgufBuilder, PagedStore, read_contents};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

/// All value types, arrays of all element types, four tensors.
fn everything() -> Vec<u8> {
    let numbers = [U8, I8, U16, I16, U32, I32, F32, BOOL, U64, I64, F64];
    let size = |id| match id {
        U8 | I8 | BOOL => 1,
        U16 | I16 => 2,
        U32 | I32 | F32 => 4,
        _ => 8,
    };
    let mut file = GgufBuilder::new().version(2).alignment(64).string("general.architecture", "ouro");
    for id in numbers {
        file = file.entry(&format!("n{id}"), id, &[1; 8][..size(id)]);
        file = file.array(&format!("a{id}"), id, 2, &[1; 16][..2 * size(id)]);
    }
    file.strings("tokens", &["", "a", "bc"])
        .tensor_f32("norm", &[3], &[1.0, 2.0, 3.0])
        .tensor("q", 8, &[32, 2], &[7; 68])
        .tensor("k", 12, &[256], &[7; 144])
        .tensor_f32("x", &[], &[1.0])
        .build()
}

/// Reads `file` both ways; the results must agree. Gives the time as well.
fn read(file: &[u8]) -> (Result<Contents, GgufError>, Duration) {
    let start = Instant::now();
    let found = read_contents(&mut SliceStore::new(file));
    let took = start.elapsed();
    assert_eq!(found, read_contents(&mut PagedStore::new(file, MIN_TILE)));
    (found, took)
}

/// The smallest entry has 13 bytes and takes 52 in the arena; the smallest tensor 24 and 76.
fn most_memory(file: &[u8]) -> usize {
    file.len() * 4 + 64
}

#[test]
fn the_file_itself_is_read() {
    let contents = read(&everything()).0.unwrap();
    assert_eq!((contents.entries.len(), contents.tensors.len()), (25, 4));
    assert_eq!((contents.version, contents.alignment), (2, 64));
    assert_eq!(contents.tensors.iter().map(|(_, tensor)| tensor.len).collect::<Vec<_>>(), [12, 68, 144, 4]);
}

#[test]
fn every_truncation_is_an_error() {
    let file = everything();
    let end = file.len() - 60; // the last tensor has 4 bytes, and 60 of padding
    for len in 0..end {
        let (found, took) = read(&file[..len]);
        assert!(
            matches!(found, Err(GgufError::Truncated { .. } | GgufError::OutsideFile { .. })),
            "{len}: {found:?}"
        );
        assert!(took < Duration::from_secs(1), "{len}: took {took:?}");
    }
    assert_eq!(read(&file[..end]).0, read(&file).0);
}

#[test]
fn every_changed_byte_is_survived() {
    let mut file = everything();
    let data = read(&file).0.unwrap().data_offset as usize;
    let (mut good, mut slowest) = (0, Duration::ZERO);
    for at in 0..file.len() {
        let original = file[at];
        let changes = if at < data { 255 } else { 1 }; // nothing looks at the data
        for change in 1..=changes {
            file[at] = original ^ change;
            let (found, took) = read(&file);
            good += usize::from(found.is_ok());
            slowest = slowest.max(took);
            if let Ok(bytes) = Gguf::arena_bytes(&mut SliceStore::new(&file)) {
                assert!(bytes <= most_memory(&file), "byte {at} ^ {change}: {bytes} bytes of arena");
            }
        }
        file[at] = original;
    }
    println!("{} bytes, {data} before the data, {good} changes harmless, slowest {slowest:?}", file.len());
    assert!(slowest < Duration::from_secs(1), "slowest {slowest:?}");
}

/// What the fuzzer starts from.
fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let new = GgufBuilder::new;
    let dims = [1, 2, 3, 4];
    let long = "long ".repeat(100);
    let tokenizer = new()
        .string("tokenizer.ggml.model", "gpt2")
        .strings("tokenizer.ggml.tokens", &["a", "b", "\u{120}", "ab", &long])
        .i32s("tokenizer.ggml.token_type", &[1, 1, 1, 1, 3])
        .strings("tokenizer.ggml.merges", &["a b"])
        .f32s("ouro.exit_gate.weight", &[0.5; 8]);
    let two = new().tensor_at("a", 24, &[33], 64).tensor_at("b", 24, &[64], 0);
    vec![
        ("empty", new().build()),
        ("everything", everything()),
        ("four-dimensions", new().tensor_f32("t", &dims, &[0.0; 24]).build()),
        ("reverse-order", two.data(128).build()),
        ("tokenizer", tokenizer.build()),
        (
            "aligned-to-8",
            new().alignment(8).tensor_f32("a", &[1], &[1.0]).tensor_f32("b", &[1], &[1.0]).build(),
        ),
        ("nested-array", new().array("a", ARRAY, 1, &[0; 12]).build()),
        ("duplicate-key", new().u32("a", 1).u32("a", 2).build()),
        ("version-1", new().version(1).build()),
        ("big-endian", new().version(3 << 24).build()),
    ]
}

/// Writes the seeds anew where `OURO_BLESS` is set.
#[test]
fn seeds_are_as_committed() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/gguf");
    for (name, file) in seeds() {
        let path = corpus.join(name);
        if env::var_os("OURO_BLESS").is_some() {
            fs::write(&path, &file).unwrap();
        }
        assert!(fs::read(&path).unwrap() == file, "{name} differs; set OURO_BLESS=1 to write it");
        assert!(read(&file).1 < Duration::from_secs(1), "{name}");
    }
}
