//! The header and the metadata.

use super::*;

pub(super) fn cases() -> Vec<Case> {
    [headers(), counts(), strings(), values()].into_iter().flatten().collect()
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
