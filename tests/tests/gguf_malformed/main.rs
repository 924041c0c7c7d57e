//! GGUF files that are wrong in one way each: what the reader says, from memory and through a
//! small page; and files that only look strange.

mod metadata;
mod tensors;

use ouro_runtime::gguf::{Field, GgufError};
use ouro_runtime::store::{MIN_TILE, SliceStore};
use ouro_tests::value_type::*;
use ouro_tests::{
    Contents, GgufBuilder, PagedStore, assert_helpful, gguf_string as string, read_contents, soon,
};
use std::collections::HashMap;

const F32_TYPE: u32 = 0;
const Q8_0: u32 = 8;
const Q4_K: u32 = 12;

struct Case {
    name: &'static str,
    file: Vec<u8>,
    expected: &'static str,
    matches: fn(&GgufError) -> bool,
    /// What the message must contain: what was found.
    says: &'static str,
}

/// One line of the table: name, file, error, part of the message.
macro_rules! case {
    ($name:literal, $file:expr, $error:pat, $says:literal) => {
        Case {
            name: $name,
            file: $file,
            expected: stringify!($error),
            matches: |error| {
                use GgufError::*;
                matches!(error, $error)
            },
            says: $says,
        }
    };
}
use case;

fn new() -> GgufBuilder {
    GgufBuilder::new()
}

/// A well-formed file, to be cut.
fn small() -> Vec<u8> {
    new().u32("a", 1).tensor_f32("t", &[2], &[1.0, 2.0]).build()
}

fn cut(len: usize) -> Vec<u8> {
    small()[..len].to_vec()
}

/// A file with a string's or name's length field and nothing behind it.
fn key_of_length(len: u64) -> Vec<u8> {
    new().raw_entry(&len.to_le_bytes()).build()
}

fn string_of_length(len: u64) -> Vec<u8> {
    new().entry("key", STRING, &len.to_le_bytes()).build()
}

fn name_of_length(len: u64) -> Vec<u8> {
    new().raw_tensor(&len.to_le_bytes()).build()
}

fn aligned_to(type_id: u32, value: &[u8]) -> Vec<u8> {
    new().entry("general.alignment", type_id, value).build()
}

fn tensor(type_id: u32, dims: &[u64], offset: u64) -> Vec<u8> {
    new().tensor_at("blk.0.attn_q.weight", type_id, dims, offset).data(256).build()
}

/// 2^`levels` keys with one hash: two blocks after which FNV-1a is in one state, then two more.
fn collisions(levels: usize) -> GgufBuilder {
    let hash = |state: u32, block: &str| {
        block.bytes().fold(state, |state, byte| (state ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    };
    let mut state = 0x811c_9dc5;
    let mut pairs = Vec::new();
    for _ in 0..levels {
        let mut seen = HashMap::new();
        let blocks = (0u32..).map(|number| format!("{:08x}", number.wrapping_mul(0x9e37_79b9)));
        let (after, pair) = blocks
            .map(|block| (hash(state, &block), block))
            .find_map(|(after, block)| seen.insert(after, block.clone()).map(|other| (after, [other, block])))
            .expect("a collision");
        pairs.push(pair);
        state = after;
    }
    (0..1usize << levels).fold(new(), |file, choice| {
        let blocks = pairs.iter().enumerate().map(|(level, pair)| &*pair[choice >> level & 1]);
        file.u32(&blocks.collect::<String>(), 0)
    })
}

fn table() -> Vec<Case> {
    [metadata::cases(), tensors::cases()].into_iter().flatten().collect()
}

/// What the file gives from memory and through a page; both must be the same, and soon.
fn read(name: &str, file: &[u8]) -> Result<Contents, GgufError> {
    let found = soon(name, || read_contents(&mut SliceStore::new(file)));
    let paged = soon(name, || read_contents(&mut PagedStore::new(file, MIN_TILE)));
    assert_eq!(found, paged, "{name}: the stores differ");
    found
}

/// What the message must say was expected, which the error knows and not the line of the table.
fn said_of(error: &GgufError) -> String {
    use GgufError::*;
    let expected = match *error {
        Magic { .. } => "47 47 55 46 (\"GGUF\")",
        BigEndian { .. } => "little endian",
        Version { .. } => "2 or 3",
        Truncated { wanted, at, .. } => &format!("{wanted} more bytes from offset {at}"),
        Limit { limit, .. } => &format!("at most {limit}"),
        ValueType { .. } => "0 to 12",
        NestedArray { .. } => "an array of numbers, bools or strings",
        Bool { .. } => "0 or 1",
        Alignment { .. } => "a power of two from 8 to 1048576",
        Dimensions { .. } => "at most 4",
        EmptyTensor { .. } => "1 or more",
        TensorSize { .. } | Collisions { .. } => "fewer",
        TensorType { .. } => "a type of ggml",
        RowLength { block, .. } => &format!("a multiple of {block}"),
        Misaligned { alignment, .. } => &format!("a multiple of the alignment {alignment}"),
        OutsideFile { .. } => "all inside",
        Overlap { .. } => "none shared",
        DuplicateKey { .. } | DuplicateTensor { .. } => "once",
        WrongType { expected, .. } => &expected.to_string(),
        Negative { .. } => "0 or more",
        ElementType { .. } | ElementCount { .. } | Store(_) | Arena(_) => panic!("{error}: not of a file"),
    };
    format!("expected {expected}")
}

#[test]
fn malformed_files_are_refused_by_name() {
    let table = table();
    assert!(table.len() >= 60, "{} cases", table.len());
    let mut names: Vec<_> = table.iter().map(|case| case.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), table.len(), "two cases have one name");

    for Case { name, file, expected, matches, says } in table {
        let error = match read(name, &file) {
            Ok(contents) => panic!("{name}: expected {expected}, got {contents:?}"),
            Err(error) => error,
        };
        assert!(matches(&error), "{name}: expected {expected}, got {error:?}");
        assert_helpful(name, &error.to_string(), &[says, &said_of(&error)]);
    }
}

#[test]
fn strange_but_well_formed_files_are_read() {
    let table = [
        ("nothing in it", new().build()),
        ("version 2", new().version(2).u32("a", 1).build()),
        ("empty key, empty string", new().string("", "").build()),
        ("empty arrays", new().i32s("a", &[]).strings::<&str>("b", &[]).f32s("c", &[]).build()),
        ("longest key", new().u32(&"k".repeat(65_535), 1).build()),
        (
            "strings larger than a page",
            new().string("a", &"x".repeat(5000)).strings("b", &["y".repeat(700), "z".into()]).build(),
        ),
        (
            "a key that is no text",
            new().raw_entry(&[string(&[255, 0]), vec![0; 4], vec![1]].concat()).build(),
        ),
        ("a bool array with a 2, which is only met when read", new().array("a", BOOL, 2, &[1, 2]).build()),
        (
            "alignment 8",
            new().alignment(8).tensor_f32("t", &[1], &[1.0]).tensor_f32("u", &[1], &[1.0]).build(),
        ),
        ("alignment 2^20", new().alignment(1 << 20).tensor_f32("t", &[1], &[1.0]).build()),
        ("alignment as u8", aligned_to(U8, &[64])),
        ("no dimensions", new().tensor_f32("t", &[], &[1.0]).build()),
        ("a tensor without a name", new().tensor_f32("", &[1], &[1.0]).build()),
        ("no padding at the end", tensor(F32_TYPE, &[64], 0)),
        (
            "a gap and a reverse order",
            new().tensor_at("a", F32_TYPE, &[8], 128).tensor_at("b", F32_TYPE, &[8], 0).data(160).build(),
        ),
        ("a tensor and an entry of one name", new().u32("t", 1).tensor_f32("t", &[1], &[1.0]).build()),
        ("8 keys with one hash", collisions(3).build()),
    ];
    for (name, file) in table {
        if let Err(error) = read(name, &file) {
            panic!("{name}: {error}");
        }
    }
}

#[test]
fn hostile_numbers_of_names_take_no_time() {
    let many = (0..40_000u32).fold(new(), |file, number| file.u32(&format!("key.{number}"), number)).build();
    let tensors = (0..20_000u64).fold(new(), |file, number| {
        file.tensor_at(&format!("t{number}"), 24, &[1], (number * 7919 % 20_000) * 32)
    });
    let tensors = tensors.data(20_000 * 32).build();
    let hash = collisions(14).build();
    for (name, file, good) in [("keys", many, true), ("tensors", tensors, true), ("one hash", hash, false)] {
        let found = soon(name, || read_contents(&mut SliceStore::new(&file)));
        assert_eq!(found.is_ok(), good, "{name}, of {} bytes", file.len());
    }
}
