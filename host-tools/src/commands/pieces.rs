//! Tokens as people read them.

use crate::error::Error;
use crate::text::text_error;
use ouro_runtime::store::Store;
use ouro_runtime::text::Tokenizer;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The bytes that a token stands for; often no whole characters.
pub(crate) fn token_bytes<S: Store>(
    tokenizer: &Tokenizer<'_>,
    store: &mut S,
    id: u32,
) -> Result<Vec<u8>, Error> {
    Ok(tokenizer.token_bytes(store, id).map_err(text_error)?.collect())
}

/// Bytes in quotes, with nothing in them that could move a terminal's cursor: control characters
/// escaped as in Rust, bytes that are no UTF-8 as `\xE2`.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from('"');
    for chunk in bytes.utf8_chunks() {
        let valid = format!("{:?}", chunk.valid());
        out.push_str(&valid[1..valid.len() - 1]);
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02X}"));
        }
    }
    out.push('"');
    out
}

/// As [`quoted`], cut to at most `width` columns of a terminal.
pub(crate) fn quoted_short(bytes: &[u8], width: usize) -> String {
    let whole = quoted(bytes);
    if whole.width() <= width {
        return whole;
    }
    let mut short = String::new();
    for char in whole.chars() {
        if short.width() + char.width().unwrap_or(0) + 2 > width {
            break;
        }
        short.push(char);
    }
    short + "…\""
}

/// Fills up with spaces to `width` columns of a terminal, in which some characters take two.
pub(crate) fn pad(text: &str, width: usize) -> String {
    format!("{text}{:1$}", "", width.saturating_sub(text.width()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting() {
        for (bytes, expected) in [
            (&b" Hello"[..], "\" Hello\""),
            (b"a\nb\x1b[2J\"", "\"a\\nb\\u{1b}[2J\\\"\""),
            (b"it's", "\"it's\""),
            (b"\xe2\x82", "\"\\xE2\\x82\""),
            ("日本".as_bytes(), "\"日本\""),
        ] {
            assert_eq!(quoted(bytes), expected);
        }
        assert_eq!(quoted_short(b"abcdefgh", 6), "\"abc…\"");
        assert_eq!(quoted_short(b"abcd", 6), "\"abcd\"");
        assert_eq!(quoted_short("日本語テキスト".as_bytes(), 8), "\"日本…\"");
        assert_eq!(pad("日本", 6), "日本  ");
    }
}
