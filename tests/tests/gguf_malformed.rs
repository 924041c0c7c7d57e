//! GGUF files that are wrong in one way each: what the reader says, from memory and through a
//! small page; and files that only look strange.

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

fn headers() -> Vec<Case> {
    vec![
        case!(
            "empty file",
            vec![],
            Truncated { field: Field::Header, at: 0, len: 0, .. },
            "ends at offset 0"
        ),
        case!("three bytes", cut(3), Truncated { field: Field::Header, .. }, "ends at offset 3"),
        case!("ggml's old format", new().magic(*b"lmgg").build(), Magic { .. }, "6c 6d 67 67"),
        case!("magic backwards", new().magic(*b"FUGG").build(), Magic { .. }, "46 55 47 47"),
        case!("a zip archive", b"PK\x03\x04 and so on".to_vec(), Magic { .. }, "50 4b 03 04"),
        case!("lower-case magic", new().magic(*b"gguf").build(), Magic { .. }, "67 67 75 66"),
        case!("magic only", cut(4), Truncated { field: Field::Header, at: 4, .. }, "ends at offset 4"),
        case!(
            "cut in the version",
            cut(7),
            Truncated { field: Field::Header, at: 4, .. },
            "ends at offset 7"
        ),
        case!("version 0", new().version(0).build(), Version { found: 0 }, "version 0"),
        case!("version 1", new().version(1).build(), Version { found: 1 }, "August 2023"),
        case!("version 4", new().version(4).build(), Version { found: 4 }, "version 4"),
        case!("version 2^32 - 1", new().version(u32::MAX).build(), Version { .. }, "version 4294967295"),
        case!("big endian 1", new().version(1 << 24).build(), BigEndian { .. }, "big-endian"),
        case!("big endian 2", new().version(2 << 24).build(), BigEndian { .. }, "big-endian"),
        case!("big endian 3", new().version(3 << 24).build(), BigEndian { .. }, "0x03000000"),
        case!("no counts", cut(8), Truncated { field: Field::Header, at: 8, .. }, "ends at offset 8"),
        case!("one count", cut(16), Truncated { field: Field::Header, at: 16, .. }, "ends at offset 16"),
        case!("cut in a count", cut(23), Truncated { field: Field::Header, at: 16, .. }, "ends at offset 23"),
    ]
}

fn counts() -> Vec<Case> {
    let full = || new().u32("a", 1).tensor_f32("t", &[2], &[1.0, 2.0]);
    vec![
        case!(
            "one entry too many",
            new().u32("a", 1).claim_entries(2).build(),
            Truncated { field: Field::Key, .. },
            "length of a key"
        ),
        case!(
            "one entry too few",
            full().claim_entries(0).build(),
            EmptyTensor { dim: 3, .. },
            "tensor \"a\""
        ),
        case!(
            "one tensor too many",
            new().tensor_at("t", F32_TYPE, &[2], 0).claim_tensors(2).build(),
            Truncated { field: Field::TensorName, .. },
            "tensor's name"
        ),
        case!(
            "2^64 - 1 entries",
            full().claim_entries(u64::MAX).build(),
            Limit { field: Field::EntryCount, at: 16, .. },
            "18446744073709551615"
        ),
        case!(
            "2^64 - 1 tensors",
            full().claim_tensors(u64::MAX).build(),
            Limit { field: Field::TensorCount, at: 8, .. },
            "18446744073709551615"
        ),
        case!(
            "a negative number of entries",
            full().claim_entries(1 << 63).build(),
            Limit { field: Field::EntryCount, .. },
            "at most 65536"
        ),
        case!(
            "2^32 + 1 tensors, of which 32 bits say 1",
            full().claim_tensors((1 << 32) + 1).build(),
            Limit { field: Field::TensorCount, .. },
            "4294967297"
        ),
        case!(
            "one entry over the limit",
            full().claim_entries(65_537).build(),
            Limit { field: Field::EntryCount, .. },
            "65537"
        ),
        case!(
            "one tensor over the limit",
            full().claim_tensors(65_537).build(),
            Limit { field: Field::TensorCount, .. },
            "65537"
        ),
        case!(
            "as many entries as allowed, in an empty file",
            new().claim_entries(65_536).build(),
            Truncated { field: Field::Key, at: 24, .. },
            "ends at offset 24"
        ),
        case!(
            "as many tensors as allowed, in an empty file",
            new().claim_tensors(65_536).build(),
            Truncated { field: Field::TensorName, at: 24, .. },
            "ends at offset 24"
        ),
    ]
}

fn strings() -> Vec<Case> {
    vec![
        case!("key of 2^64 - 1", key_of_length(u64::MAX), Limit { field: Field::Key, .. }, "length of a key"),
        case!(
            "key that wraps",
            key_of_length(u64::MAX - 31),
            Limit { field: Field::Key, .. },
            "at most 65535"
        ),
        case!("key over the limit", key_of_length(65_536), Limit { field: Field::Key, .. }, "is 65536"),
        case!("key past the end", key_of_length(65_535), Truncated { field: Field::Key, .. }, "65535 more"),
        case!(
            "key without type",
            new().raw_entry(&string(b"a")).build(),
            Truncated { field: Field::Value, .. },
            "a value"
        ),
        case!("string of 2^64 - 1", string_of_length(u64::MAX), Limit { .. }, "18446744073709551615"),
        case!("string that wraps", string_of_length(u64::MAX - 46), Limit { .. }, "at most 1073741824"),
        case!("string over the limit", string_of_length((1 << 30) + 1), Limit { .. }, "1073741825"),
        case!("string past the end", string_of_length(1 << 30), Truncated { .. }, "1073741824 more"),
        case!("string one byte short", string_of_length(1), Truncated { .. }, "1 more"),
        case!(
            "name of 2^64 - 1",
            name_of_length(u64::MAX),
            Limit { field: Field::TensorName, .. },
            "tensor's name"
        ),
        case!("name over the limit", name_of_length(65_536), Limit { field: Field::TensorName, .. }, "65536"),
        case!("name past the end", name_of_length(7), Truncated { field: Field::TensorName, .. }, "7 more"),
    ]
}

fn values() -> Vec<Case> {
    let value = |type_id, bytes: &[u8]| new().entry("some.key", type_id, bytes).build();
    let array = |type_id, count, bytes: &[u8]| new().array("some.key", type_id, count, bytes).build();
    let nested = [&U8.to_le_bytes()[..], &1u64.to_le_bytes(), &[7]].concat();
    vec![
        case!("value type 13", value(13, &[0; 8]), ValueType { found: 13, .. }, "\"some.key\""),
        case!("value type 2^32 - 1", value(u32::MAX, &[0; 8]), ValueType { .. }, "4294967295"),
        case!("no value", value(U64, &[]), Truncated { field: Field::Value, wanted: 8, .. }, "8 more"),
        case!(
            "cut in a value",
            value(F64, &[0; 7]),
            Truncated { field: Field::Value, wanted: 8, .. },
            "8 more"
        ),
        case!("bool 2", value(BOOL, &[2]), Bool { found: 2, .. }, "is 2, expected 0 or 1"),
        case!("bool 255", value(BOOL, &[255]), Bool { found: 255, .. }, "is 255, expected 0 or 1"),
        case!("array in an array", array(ARRAY, 1, &nested), NestedArray { .. }, "array of arrays"),
        case!("no arrays in an array", array(ARRAY, 0, &[]), NestedArray { .. }, "\"some.key\""),
        case!("2^64 - 1 arrays", array(ARRAY, u64::MAX, &nested), NestedArray { .. }, "array of arrays"),
        case!("element type 13", array(13, 1, &[0; 8]), ValueType { found: 13, .. }, "type 13"),
        case!("array without type", value(ARRAY, &[0; 3]), Truncated { .. }, "4 more"),
        case!(
            "array without count",
            value(ARRAY, &[0; 11]),
            Truncated { field: Field::ArrayCount, .. },
            "8 more"
        ),
        case!(
            "2^64 - 1 bytes",
            array(U8, u64::MAX, &[0; 8]),
            Limit { field: Field::ArrayCount, .. },
            "at most 1073741824"
        ),
        case!(
            "a count that wraps",
            array(U64, 1 << 61, &[0; 8]),
            Limit { field: Field::ArrayCount, .. },
            "at most 134217728"
        ),
        case!(
            "2^64 - 1 strings",
            array(STRING, u64::MAX, &[0; 8]),
            Limit { field: Field::ArrayCount, .. },
            "18446744073709551615"
        ),
        case!(
            "elements past the end",
            array(U32, 3, &[0; 11]),
            Truncated { field: Field::ArrayElements, .. },
            "12 more"
        ),
        case!(
            "a GiB past the end",
            array(U8, 1 << 30, &[0; 8]),
            Truncated { field: Field::ArrayElements, .. },
            "1073741824 more"
        ),
        case!(
            "strings past the end",
            array(STRING, 1 << 27, &[0; 64]),
            Truncated { field: Field::ArrayElements, .. },
            "1073741824 more"
        ),
        case!(
            "last string past the end",
            array(STRING, 2, &[string(b"a"), 3u64.to_le_bytes().to_vec(), b"bc".to_vec()].concat()),
            Truncated { field: Field::Element, .. },
            "3 more"
        ),
        case!(
            "a string that leaves too little",
            array(STRING, 2, &string(b"abcdefgh")),
            Truncated { field: Field::Element, .. },
            "8 more"
        ),
        case!(
            "element of 2^64 - 1",
            array(STRING, 1, &[255; 8]),
            Limit { field: Field::Element, .. },
            "at most 1073741824"
        ),
    ]
}

fn alignments() -> Vec<Case> {
    let aligned = |alignment: u32| aligned_to(U32, &alignment.to_le_bytes());
    vec![
        case!("alignment 0", aligned(0), Alignment { found: 0 }, "is 0, expected a power of two"),
        case!("alignment 1", aligned(1), Alignment { found: 1 }, "is 1, expected a power of two"),
        case!("alignment 4", aligned(4), Alignment { found: 4 }, "from 8 to 1048576"),
        case!("alignment 12", aligned(12), Alignment { found: 12 }, "is 12"),
        case!("alignment 33", aligned(33), Alignment { found: 33 }, "is 33"),
        case!("alignment 2^21", aligned(1 << 21), Alignment { found: 0x20_0000 }, "is 2097152"),
        case!("alignment 2^31", aligned(1 << 31), Alignment { .. }, "is 2147483648"),
        case!(
            "alignment 2^63",
            aligned_to(U64, &(1u64 << 63).to_le_bytes()),
            Alignment { .. },
            "is 9223372036854775808"
        ),
        case!(
            "alignment -32",
            aligned_to(I32, &(-32i32).to_le_bytes()),
            Negative { found: -32, .. },
            "\"general.alignment\" is -32"
        ),
        case!(
            "alignment 32.0",
            aligned_to(F32, &32f32.to_le_bytes()),
            WrongType { .. },
            "\"general.alignment\" is f32"
        ),
        case!(
            "alignment \"32\"",
            aligned_to(STRING, &string(b"32")),
            WrongType { .. },
            "\"general.alignment\" is string"
        ),
        case!(
            "alignment [32]",
            new().i32s("general.alignment", &[32]).build(),
            WrongType { .. },
            "an array of i32"
        ),
        case!("alignment true", aligned_to(BOOL, &[1]), WrongType { .. }, "\"general.alignment\" is bool"),
    ]
}

fn tensors() -> Vec<Case> {
    let no_dims = new().raw_tensor(&[string(b"t"), vec![2, 0, 0, 0]].concat()).build();
    let raw =
        |dims: u32| new().raw_tensor(&[string(b"t"), dims.to_le_bytes().to_vec()].concat()).data(256).build();
    vec![
        case!("five dimensions", tensor(F32_TYPE, &[1; 5], 0), Dimensions { found: 5, .. }, "5 dimensions"),
        case!("2^32 - 1 dimensions", raw(u32::MAX), Dimensions { .. }, "4294967295 dimensions"),
        case!("no row", tensor(F32_TYPE, &[0], 0), EmptyTensor { dim: 0, .. }, "size 0 in dimension 0"),
        case!("no rows", tensor(F32_TYPE, &[4, 0], 0), EmptyTensor { dim: 1, .. }, "size 0 in dimension 1"),
        case!(
            "last of four is 0",
            tensor(F32_TYPE, &[1, 1, 1, 0], 0),
            EmptyTensor { dim: 3, .. },
            "dimension 3"
        ),
        case!(
            "0 hides an overflow",
            tensor(F32_TYPE, &[u64::MAX, 0, u64::MAX], 0),
            EmptyTensor { dim: 1, .. },
            "dimension 1"
        ),
        case!(
            "2^64 values",
            tensor(F32_TYPE, &[1 << 32, 1 << 32], 0),
            TensorSize { .. },
            "4294967296 x 4294967296 x 1 x 1"
        ),
        case!("2^63 values", tensor(F32_TYPE, &[1 << 63], 0), TensorSize { .. }, "9223372036854775808"),
        case!("2^64 - 1 values", tensor(24, &[u64::MAX], 0), TensorSize { .. }, "18446744073709551615"),
        case!("2^62 values of 4 bytes", tensor(F32_TYPE, &[1 << 62], 0), TensorSize { .. }, "2^63"),
        case!("2^61 values of 4 bytes", tensor(F32_TYPE, &[1 << 61], 0), TensorSize { .. }, "2^63"),
        case!(
            "2^60 values of 4 bytes",
            tensor(F32_TYPE, &[1 << 60], 0),
            OutsideFile { .. },
            "4611686018427387904 bytes"
        ),
        case!("withdrawn type 4", tensor(4, &[32], 0), TensorType { found: 4, .. }, "type 4"),
        case!("withdrawn type 5", tensor(5, &[32], 0), TensorType { found: 5, .. }, "type 5"),
        case!("withdrawn type 31", tensor(31, &[32], 0), TensorType { found: 31, .. }, "withdrawn"),
        case!("withdrawn type 33", tensor(33, &[32], 0), TensorType { found: 33, .. }, "type 33"),
        case!("withdrawn type 38", tensor(38, &[32], 0), TensorType { found: 38, .. }, "type 38"),
        case!("type 1000", tensor(1000, &[32], 0), TensorType { .. }, "\"blk.0.attn_q.weight\""),
        case!("type 2^32 - 1", tensor(u32::MAX, &[32], 0), TensorType { .. }, "4294967295"),
        case!("33 values of Q8_0", tensor(Q8_0, &[33, 2], 0), RowLength { found: 33, block: 32, .. }, "Q8_0"),
        case!(
            "half a block of Q4_K a row",
            tensor(Q4_K, &[128, 2], 0),
            RowLength { found: 128, block: 256, .. },
            "Q4_K"
        ),
        case!(
            "cut in the dimensions",
            no_dims,
            Truncated { field: Field::TensorInfo, wanted: 8, .. },
            "8 more"
        ),
        case!(
            "no type",
            new().raw_tensor(&[string(b"t"), vec![0; 4]].concat()).build(),
            Truncated { field: Field::TensorInfo, .. },
            "description of a tensor"
        ),
        case!(
            "no offset",
            new().raw_tensor(&[string(b"t"), vec![0; 8]].concat()).build(),
            Truncated { field: Field::TensorInfo, .. },
            "8 more"
        ),
    ]
}

fn places() -> Vec<Case> {
    let two = |a: u64, b: u64| {
        let file = new().tensor_at("first", F32_TYPE, &[16], a).tensor_at("second", F32_TYPE, &[16], b);
        file.data(1024).build()
    };
    let four_kib = || new().alignment(4096).tensor_at("t", F32_TYPE, &[1], 32).data(64).build();
    let short = |file: Vec<u8>, by: usize| file[..file.len() - by].to_vec();
    vec![
        case!(
            "offset 1",
            tensor(F32_TYPE, &[4], 1),
            Misaligned { offset: 1, alignment: 32, .. },
            "alignment 32"
        ),
        case!("offset 16", tensor(F32_TYPE, &[4], 16), Misaligned { offset: 16, .. }, "at 16"),
        case!(
            "offset 32 where 4096 is the alignment",
            four_kib(),
            Misaligned { alignment: 4096, .. },
            "alignment 4096"
        ),
        case!("offset 2^64 - 1", tensor(F32_TYPE, &[4], u64::MAX), Misaligned { .. }, "18446744073709551615"),
        case!(
            "offset that wraps",
            tensor(F32_TYPE, &[4], u64::MAX - 31),
            OutsideFile { .. },
            "+ 18446744073709551584"
        ),
        case!(
            "end that wraps",
            tensor(F32_TYPE, &[1 << 59], 1 << 63),
            OutsideFile { .. },
            "+ 9223372036854775808"
        ),
        case!(
            "offset at the end of the data",
            tensor(F32_TYPE, &[4], 256),
            OutsideFile { offset: 256, .. },
            "16 bytes"
        ),
        case!("data past the end", tensor(F32_TYPE, &[65], 0), OutsideFile { bytes: 260, .. }, "260 bytes"),
        case!("one byte missing", short(tensor(F32_TYPE, &[64], 0), 1), OutsideFile { .. }, "256 bytes"),
        case!(
            "no data at all",
            new().tensor_at("t", F32_TYPE, &[1], 0).build(),
            OutsideFile { .. },
            "4 bytes"
        ),
        case!("one offset for two", two(64, 64), Overlap { .. }, "\"first\" and \"second\""),
        case!("two share half", two(64, 96), Overlap { .. }, "\"first\" and \"second\""),
        case!("two share half, out of order", two(96, 64), Overlap { .. }, "\"second\" and \"first\""),
        case!(
            "one inside another",
            new().tensor_at("in", 24, &[1], 64).tensor_at("out", 24, &[200], 0).data(256).build(),
            Overlap { .. },
            "\"out\" and \"in\""
        ),
        case!(
            "first and last of three overlap",
            new()
                .tensor_at("a", 24, &[32], 32)
                .tensor_at("b", 24, &[32], 64)
                .tensor_at("c", 24, &[33], 0)
                .data(256)
                .build(),
            Overlap { .. },
            "\"c\" and \"a\""
        ),
    ]
}

fn names() -> Vec<Case> {
    let long = "k".repeat(65_535);
    let many = |last: &str| {
        let file = (0..500).fold(new(), |file, number| file.u32(&format!("key.{number}"), number));
        file.u32(last, 0).build()
    };
    let tensors = |a: &str, b: &str| {
        new().tensor_at(a, F32_TYPE, &[1], 0).tensor_at(b, F32_TYPE, &[1], 32).data(64).build()
    };
    vec![
        case!(
            "a key twice",
            new().u32("a", 1).u32("a", 1).build(),
            DuplicateKey { .. },
            "\"a\" is there twice"
        ),
        case!(
            "a key twice with two types",
            new().u32("a", 1).bool("a", true).build(),
            DuplicateKey { .. },
            "\"a\""
        ),
        case!("the first of 500 keys again", many("key.0"), DuplicateKey { .. }, "\"key.0\""),
        case!("the last of 500 keys again", many("key.499"), DuplicateKey { .. }, "\"key.499\""),
        case!("two empty keys", new().u32("", 1).u32("", 2).build(), DuplicateKey { .. }, "\"\""),
        case!(
            "a longest key twice",
            new().u32(&long, 1).u32(&long, 2).build(),
            DuplicateKey { .. },
            "kkk...\""
        ),
        case!(
            "alignment twice",
            new().alignment(32).alignment(64).build(),
            DuplicateKey { .. },
            "general.alignment"
        ),
        case!("a tensor twice", tensors("t", "t"), DuplicateTensor { .. }, "tensor \"t\" is there twice"),
        case!("two tensors without a name", tensors("", ""), DuplicateTensor { .. }, "tensor \"\""),
        case!(
            "a key of control characters",
            new().entry("a\n\u{1b}[2Jb\u{7f}", 13, &[]).build(),
            ValueType { .. },
            "\"a\u{fffd}\u{fffd}[2Jb\u{fffd}\""
        ),
        case!(
            "a key that is no UTF-8",
            new().raw_entry(&[string(b"a\xff\xfeb"), 13u32.to_le_bytes().to_vec()].concat()).build(),
            ValueType { .. },
            "\"a\u{fffd}\u{fffd}b\""
        ),
        case!(
            "a key cut inside a letter",
            new().entry(&format!("{}ßrest", "x".repeat(45)), 13, &[]).build(),
            ValueType { .. },
            "x...\" at offset 83"
        ),
        case!("16 keys with one hash", collisions(4).build(), Collisions { limit: 8, .. }, "more than 8"),
    ]
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
    [headers(), counts(), strings(), values(), alignments(), tensors(), places(), names()]
        .into_iter()
        .flatten()
        .collect()
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
