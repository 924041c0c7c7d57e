//! Texts become ids, each in a call of a function that Valgrind looks for:
//! `tests/tests/instructions/` runs this in it and counts the instructions.
//!
//! Standard output gets a line per text: `TEXT BYTES`.

use ouro_runtime::gguf::Gguf;
use ouro_runtime::store::SliceStore;
use ouro_runtime::text::{Needs, Specials, Symbol, Tokenizer};
use ouro_tests::harness::{arena, golden};
use ouro_tests::{TokenizerFile, ouro_counted};
use std::fs;

fn main() {
    let file = doubling().to_gguf();
    let tokenizer = open(&file);
    let prose = fs::read_to_string(golden("README.md")).expect("golden data");
    for (kind, text) in [("prose", prose), ("one letter", "a".repeat(1 << 18))] {
        let needs = Needs::of_text(text.len());
        let (mut scratch, mut ids) = (vec![Symbol::default(); needs.scratch], vec![0; needs.ids]);
        let mut encode = || {
            let count = tokenizer.encode(&text, Specials::Recognize, &mut scratch, &mut ids);
            assert!(count.is_ok_and(|count| count > 0));
        };
        ouro_counted(&mut encode);
        println!("{kind} {}", text.len());
    }
}

/// The golden tokenizer, and tokens of 2, 4, ... 64 letters, so that a word of one letter merges nearly
/// as often as it has letters.
fn doubling() -> TokenizerFile {
    let json = fs::read_to_string(golden("tokenizer/tokenizer.json")).expect("golden data");
    let mut file = TokenizerFile::from_json(&json);
    for power in 0..6 {
        let half = "a".repeat(1 << power);
        let whole = half.repeat(2);
        if !file.tokens.contains(&whole) {
            file.merges.push(format!("{half} {half}"));
            file.tokens.push(whole);
            file.types.push(1);
        }
    }
    file
}

fn open(file: &[u8]) -> Tokenizer<'static> {
    let mut store = SliceStore::new(file);
    let bytes = Gguf::arena_bytes(&mut store).expect("a GGUF");
    let gguf = Gguf::open(&mut store, &mut arena(bytes)).expect("a GGUF");
    let bytes = Tokenizer::arena_bytes(&mut store, &gguf).expect("a tokenizer");
    Tokenizer::open(&mut store, &gguf, &mut arena(bytes)).expect("a tokenizer")
}
