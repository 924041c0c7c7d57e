//! Alignment, the table of tensors, where they lie, and names that are not unique.

use super::*;

pub(super) fn cases() -> Vec<Case> {
    [alignments(), tensors(), places(), names()].into_iter().flatten().collect()
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
