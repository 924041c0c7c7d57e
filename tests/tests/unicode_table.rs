//! The character classes of the tokenizer: `runtime/src/text/unicode_table.rs` is what Unicode 16.0
//! says, the version that the regular expression engines of the `tokenizers` crate know.
//! `OURO_BLESS=1` writes the file anew.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};
use unicode_general_category::{GeneralCategory as Category, UNICODE_VERSION, get_general_category};

const FILE: &str = "../runtime/src/text/unicode_table.rs";
const HEAD: &str = "\
//! General categories L and N of Unicode 16.0.0, in runs of characters of one class.
//!
//! Written by `OURO_BLESS=1 cargo test -p ouro-tests --test unicode_table`; do not edit.

";
/// Runs in a block; the search is binary over blocks and linear in one.
const BLOCK: usize = 16;
/// Longest run that 14 bits hold.
const MAX_RUN: u32 = (1 << 14) - 1;

fn class(c: char) -> u16 {
    use Category as C;
    match get_general_category(c) {
        C::UppercaseLetter | C::LowercaseLetter | C::TitlecaseLetter | C::ModifierLetter | C::OtherLetter => {
            1
        }
        C::DecimalNumber | C::LetterNumber | C::OtherNumber => 2,
        _ => 0,
    }
}

/// Lengths of runs of one class, as `length << 2 | class`. Surrogates, which no text has, count as
/// the class before them; what follows the last run is of class 0.
fn runs() -> Vec<u16> {
    let (mut runs, mut start, mut current) = (Vec::new(), 0, 0);
    for c in '\0'..=char::MAX {
        if class(c) == current {
            continue;
        }
        let mut left = u32::from(c) - start;
        while left > 0 {
            let len = left.min(MAX_RUN);
            runs.push((len as u16) << 2 | current);
            left -= len;
        }
        (start, current) = (c.into(), class(c));
    }
    assert_eq!(current, 0);
    runs
}

fn source() -> String {
    let mut runs = runs();
    runs.resize(runs.len().next_multiple_of(BLOCK), 0);
    let blocks: Vec<&[u16]> = runs.chunks(BLOCK).collect();
    let mut source = HEAD.to_owned();
    let count = blocks.len();
    writeln!(
        source,
        "/// First character of each block.\n#[rustfmt::skip]\npub(super) static STARTS: [u32; {count}] = ["
    )
    .unwrap();
    let mut start = 0;
    for blocks in blocks.chunks(8) {
        source.push_str("   ");
        for block in blocks {
            write!(source, " 0x{start:05X},").unwrap();
            start += block.iter().map(|run| u32::from(run >> 2)).sum::<u32>();
        }
        source.push('\n');
    }
    source.push_str("];\n\n/// `length << 2 | class` of each run; class 1 is L, 2 is N, 0 all else.\n");
    writeln!(source, "#[rustfmt::skip]\npub(super) static RUNS: [[u16; {BLOCK}]; {count}] = [").unwrap();
    for block in &blocks {
        let block: Vec<String> = block.iter().map(u16::to_string).collect();
        writeln!(source, "    [{}],", block.join(", ")).unwrap();
    }
    source + "];\n"
}

#[test]
fn table_is_unicode_16() {
    assert_eq!(UNICODE_VERSION, (16, 0, 0));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let expected = source();
    if env::var_os("OURO_BLESS").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap() == expected, "{FILE} differs; OURO_BLESS=1 writes it anew");
}
