//! Looking things up in a GGUF file: typed values, arrays read in every way, tensor types.

use ouro_quant::Format;
use ouro_runtime::arena::{Aligned, Arena, ArenaFull};
use ouro_runtime::gguf::{Array, ElementType, Gguf, GgufError, Kind, TensorType, Value, span_eq};
use ouro_runtime::store::{MIN_TILE, SliceStore, Span, Store, StoreError};
use ouro_tests::value_type::*;
use ouro_tests::{GgufBuilder, PagedStore};

fn open<'a, S: Store>(store: &mut S, memory: &'a mut Aligned<4096>) -> Gguf<'a> {
    Gguf::open(store, &mut Arena::new(&mut memory.0)).unwrap()
}

#[test]
fn integers_of_any_type_are_one() {
    let integers: [(u32, &[u8], Result<u64, i64>); 12] = [
        (U8, &[200], Ok(200)),
        (I8, &[100], Ok(100)),
        (I8, &[0x80], Err(-128)),
        (U16, &[0, 0x80], Ok(0x8000)),
        (I16, &[0xff, 0x7f], Ok(0x7fff)),
        (I16, &[0xfe, 0xff], Err(-2)),
        (U32, &[0, 0, 0, 0x80], Ok(0x8000_0000)),
        (I32, &[1, 0, 0, 0], Ok(1)),
        (I32, &[0xff; 4], Err(-1)),
        (U64, &[0xff; 8], Ok(u64::MAX)),
        (I64, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], Ok(i64::MAX as u64)),
        (I64, &[0, 0, 0, 0, 0, 0, 0, 0x80], Err(i64::MIN)),
    ];
    for (type_id, bytes, expected) in integers {
        let file = GgufBuilder::new().entry("some.key", type_id, bytes).build();
        let mut store = PagedStore::new(&file, MIN_TILE);
        let mut memory = Aligned([0; 4096]);
        let found = open(&mut store, &mut memory).u64(&mut store, "some.key");
        match (found, expected) {
            (Ok(Some(found)), Ok(expected)) => assert_eq!(found, expected, "type {type_id}"),
            (Err(error), Err(negative)) => {
                assert!(matches!(error, GgufError::Negative { found, .. } if found == negative), "{error:?}");
                let text = format!("key \"some.key\" is {negative}, expected 0 or more");
                assert!(error.to_string().starts_with(&text), "{error}");
            }
            (found, expected) => panic!("type {type_id}: {found:?} for {expected:?}"),
        }
    }
}

#[test]
fn a_wrong_type_is_named() {
    let file = GgufBuilder::new()
        .u32("int", 7)
        .f32("float", 0.5)
        .bool("bool", true)
        .string("string", "text")
        .i32s("ints", &[1, 2])
        .build();
    let mut store = SliceStore::new(&file[..]);
    let mut memory = Aligned([0; 4096]);
    let gguf = open(&mut store, &mut memory);
    let store = &mut store;

    for key in ["", "in", "int.", "INT", "no such key"] {
        assert_eq!(gguf.get(store, key), Ok(None));
        assert_eq!(gguf.u64(store, key), Ok(None));
        assert_eq!(gguf.f32(store, key), Ok(None));
        assert_eq!(gguf.bool(store, key), Ok(None));
        assert_eq!(gguf.string(store, key), Ok(None));
        assert_eq!(gguf.array(store, key, ElementType::I32), Ok(None));
    }
    assert_eq!(gguf.u64(store, "int"), Ok(Some(7)));
    assert_eq!(gguf.f32(store, "float"), Ok(Some(0.5)));
    assert_eq!(gguf.bool(store, "bool"), Ok(Some(true)));
    let span = gguf.string(store, "string").unwrap().unwrap();
    assert_eq!(span_eq(store, span, b"text"), Ok(true));
    let array = gguf.array(store, "ints", ElementType::I32).unwrap().unwrap();
    assert_eq!((array.element, array.count, array.data.len), (ElementType::I32, 2, 8));

    let texts = [
        (gguf.u64(store, "float").map(drop), "key \"float\" is f32, expected an integer; "),
        (gguf.u64(store, "ints").map(drop), "key \"ints\" is an array of i32, expected an integer; "),
        (gguf.f32(store, "int").map(drop), "key \"int\" is u32, expected f32; "),
        (gguf.bool(store, "int").map(drop), "key \"int\" is u32, expected bool; "),
        (gguf.string(store, "bool").map(drop), "key \"bool\" is bool, expected string; "),
        (
            gguf.array(store, "ints", ElementType::F32).map(drop),
            "key \"ints\" is an array of i32, expected an array of f32; ",
        ),
        (
            gguf.array(store, "string", ElementType::String).map(drop),
            "key \"string\" is string, expected an array of string; ",
        ),
    ];
    for (found, text) in texts {
        let error = found.unwrap_err();
        assert!(matches!(error, GgufError::WrongType { .. }), "{error:?}");
        assert!(error.to_string().starts_with(text), "{error}");
    }
    assert_eq!(Value::Bool(true).kind(), Kind::One(ElementType::Bool));
}

#[test]
fn arrays_are_read_whole_or_not_at_all() {
    let values: Vec<f32> = (0..300).map(|number| number as f32 / 7.0).collect();
    let file = GgufBuilder::new().f32s("floats", &values).i32s("ints", &[1, 2, 3]).build();
    let mut store = PagedStore::new(&file, MIN_TILE);
    let mut memory = Aligned([0; 4096]);
    let gguf = open(&mut store, &mut memory);
    let floats = gguf.array(&mut store, "floats", ElementType::F32).unwrap().unwrap();
    let ints = gguf.array(&mut store, "ints", ElementType::I32).unwrap().unwrap();

    let mut out = [0.0; 300];
    floats.read_f32(&mut store, &mut out).unwrap();
    assert_eq!(out[..], values);
    for len in [0, 299, 301] {
        let error = floats.read_f32(&mut store, &mut vec![0.0; len]).unwrap_err();
        let (at, expected) = (floats.data.offset, len as u64);
        assert_eq!(error, GgufError::ElementCount { at, found: 300, expected });
        assert!(error.to_string().contains(&format!("has 300 elements, expected {len}; ")), "{error}");
    }
    let (at, found) = (ints.data.offset, ElementType::I32);
    let wrong = |expected| GgufError::ElementType { at, found, expected };
    assert_eq!(ints.read_f32(&mut store, &mut [0.0; 3]), Err(wrong(ElementType::F32)));
    let error = ints.strings(&mut store).unwrap_err();
    assert_eq!(error, wrong(ElementType::String));
    assert!(error.to_string().contains("elements of type i32, expected string; "), "{error}");
}

/// Reading must cost what the bytes cost, also when the caller reads the strings in between.
#[test]
fn elements_are_read_in_linear_time() {
    let tokens: Vec<String> = (0..20_000).map(|number| format!("token {number}")).collect();
    let file = GgufBuilder::new().strings("tokens", &tokens).build();
    let len = file.len() as u64;
    for page in [MIN_TILE, 65_536] {
        let mut store = PagedStore::new(&file, page);
        let mut memory = Aligned([0; 4096]);
        let gguf = open(&mut store, &mut memory);
        let array = gguf.array(&mut store, "tokens", ElementType::String).unwrap().unwrap();

        let mut read = |walk: &dyn Fn(&mut PagedStore<'_>, Array)| {
            let before = store.counters();
            walk(&mut store, array);
            (store.counters().tiles - before.tiles, store.counters().bytes - before.bytes)
        };
        let (tiles, bytes) = read(&|store, array| {
            let mut strings = array.strings(store).unwrap();
            for token in &tokens {
                assert_eq!(strings.next().unwrap().unwrap().1, token.as_bytes());
            }
            assert_eq!(strings.next(), Ok(None));
        });
        assert!(bytes < len * 6 / 5, "strings: {bytes} bytes");
        assert!(tiles < len / (page as u64 / 2), "strings: {tiles} tiles");

        let (tiles, bytes) = read(&|store, array| {
            let mut elements = array.elements();
            while elements.next(store).unwrap().is_some() {}
        });
        assert!(bytes < len * 6 / 5, "elements: {bytes} bytes");
        assert!(tiles < len / (MIN_TILE as u64 / 2), "elements: {tiles} tiles");

        let (tiles, bytes) = read(&|store, array| {
            let mut elements = array.elements();
            for token in &tokens {
                let Some(Value::String(span)) = elements.next(store).unwrap() else { panic!("no string") };
                store.load(span, None).unwrap();
                assert_eq!(store.tile(), token.as_bytes());
            }
        });
        assert_eq!(tiles, 2 * array.count, "elements and strings");
        assert!(bytes < (MIN_TILE as u64 + 16) * array.count, "elements and strings: {bytes} bytes");
    }
}

#[test]
fn a_broken_bool_is_met_when_it_is_read() {
    let file = GgufBuilder::new().array("bools", BOOL, 3, &[1, 0, 3]).build();
    let mut store = SliceStore::new(&file[..]);
    let mut memory = Aligned([0; 4096]);
    let gguf = open(&mut store, &mut memory);
    let array = gguf.array(&mut store, "bools", ElementType::Bool).unwrap().unwrap();
    let mut elements = array.elements();
    assert_eq!(elements.next(&mut store), Ok(Some(Value::Bool(true))));
    assert_eq!(elements.next(&mut store), Ok(Some(Value::Bool(false))));
    let broken = Err(GgufError::Bool { at: array.data.offset + 2, found: 3 });
    assert_eq!(elements.next(&mut store), broken);
    assert_eq!(elements.next(&mut store), broken);
}

#[test]
fn spans_are_compared_in_pieces() {
    let file: Vec<u8> = (0..2000u32).map(|number| (number % 251) as u8).collect();
    let mut store = PagedStore::new(&file, MIN_TILE);
    let span = Span { offset: 100, len: 1500 };
    let mut bytes = file[100..1600].to_vec();
    assert_eq!(span_eq(&mut store, span, &bytes), Ok(true));
    assert_eq!(span_eq(&mut store, span, &bytes[1..]), Ok(false));
    bytes[1499] ^= 1;
    assert_eq!(span_eq(&mut store, span, &bytes), Ok(false));
    assert_eq!(span_eq(&mut store, Span::EMPTY, b""), Ok(true));
    let outside = Span { offset: 1999, len: 2 };
    let error = span_eq(&mut store, outside, &file[..2]).unwrap_err();
    assert_eq!(error, StoreError::OutOfRange { span: outside, len: 2000 });
}

#[test]
fn an_arena_too_small_is_said_so() {
    let file = GgufBuilder::new().u32("a", 1).u32("b", 2).tensor_f32("t", &[1], &[1.0]).build();
    let mut store = SliceStore::new(&file[..]);
    let bytes = Gguf::arena_bytes(&mut store).unwrap();
    let mut memory = Aligned([0; 4096]);
    for len in [0, 16, bytes - 16] {
        let error = Gguf::open(&mut store, &mut Arena::new(&mut memory.0[..len])).unwrap_err();
        assert!(matches!(error, GgufError::Arena(ArenaFull { .. })), "{len}: {error:?}");
    }
    assert!(Gguf::open(&mut store, &mut Arena::new(&mut memory.0[..bytes])).is_ok());
    assert!(size_of::<GgufError>() <= 128, "errors have {} bytes", size_of::<GgufError>());
}

/// Block sizes as in `gguf.constants.GGML_QUANT_SIZES` of PyPI's gguf 0.19.0, but for Q8_1 (36
/// bytes since both of its floats are halves) and Q2_0 (new since), which are as in `ggml-common.h`.
#[test]
fn tensor_types_are_those_of_ggml() {
    let known = [
        (0, "F32", 1, 4),
        (1, "F16", 1, 2),
        (2, "Q4_0", 32, 18),
        (3, "Q4_1", 32, 20),
        (6, "Q5_0", 32, 22),
        (7, "Q5_1", 32, 24),
        (8, "Q8_0", 32, 34),
        (9, "Q8_1", 32, 36),
        (10, "Q2_K", 256, 84),
        (11, "Q3_K", 256, 110),
        (12, "Q4_K", 256, 144),
        (13, "Q5_K", 256, 176),
        (14, "Q6_K", 256, 210),
        (15, "Q8_K", 256, 292),
        (16, "IQ2_XXS", 256, 66),
        (17, "IQ2_XS", 256, 74),
        (18, "IQ3_XXS", 256, 98),
        (19, "IQ1_S", 256, 50),
        (20, "IQ4_NL", 32, 18),
        (21, "IQ3_S", 256, 110),
        (22, "IQ2_S", 256, 82),
        (23, "IQ4_XS", 256, 136),
        (24, "I8", 1, 1),
        (25, "I16", 1, 2),
        (26, "I32", 1, 4),
        (27, "I64", 1, 8),
        (28, "F64", 1, 8),
        (29, "IQ1_M", 256, 56),
        (30, "BF16", 1, 2),
        (34, "TQ1_0", 256, 54),
        (35, "TQ2_0", 256, 66),
        (39, "MXFP4", 32, 17),
        (40, "NVFP4", 64, 36),
        (41, "Q1_0", 128, 18),
        (42, "Q2_0", 64, 18),
    ];
    for (id, name, block_len, block_bytes) in known {
        assert_eq!(TensorType::from_id(id), Some(TensorType { name, block_len, block_bytes }));
    }
    let found: Vec<u32> = (0..=1000).filter(|id| TensorType::from_id(*id).is_some()).collect();
    assert_eq!(found, known.map(|(id, ..)| id));
    assert!(Format::ALL.iter().all(|format| found.contains(&format.id())));
}
