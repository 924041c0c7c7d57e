//! Whole characters out of tokens that may end inside one.

use core::fmt;

/// Turns the bytes of one token after another into text. A character is passed on when its last
/// byte has come; bytes that are no UTF-8 become U+FFFD, in the places where
/// `String::from_utf8_lossy` over the whole output puts them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Utf8Stream {
    /// The beginning of a character; shorter than 4 between calls.
    pending: heapless::Vec<u8, 4>,
}

impl Utf8Stream {
    /// A stream at the start of a text.
    #[must_use]
    pub const fn new() -> Self {
        Self { pending: heapless::Vec::new() }
    }

    /// Writes the characters that `bytes` complete to `text`.
    ///
    /// # Errors
    /// Those of `text`; the bytes up to there are then used up.
    pub fn push(&mut self, bytes: impl IntoIterator<Item = u8>, text: &mut impl fmt::Write) -> fmt::Result {
        for byte in bytes {
            // There is room, as the loop below leaves at most the beginning of a character.
            let _ = self.pending.push(byte);
            while let Some((piece, used)) = first_piece(&self.pending) {
                let written = text.write_str(piece);
                self.drop_front(used);
                written?;
            }
        }
        Ok(())
    }

    /// Ends the text: the beginning of a character that never came to its end is one U+FFFD.
    /// The stream is then at the start of another text.
    ///
    /// # Errors
    /// Those of `text`.
    pub fn finish(&mut self, text: &mut impl fmt::Write) -> fmt::Result {
        let cut = !self.pending.is_empty();
        self.pending.clear();
        if cut { text.write_str(REPLACEMENT) } else { Ok(()) }
    }

    fn drop_front(&mut self, count: usize) {
        let rest = heapless::Vec::from_slice(self.pending.get(count..).unwrap_or_default());
        self.pending = rest.unwrap_or_default();
    }
}

const REPLACEMENT: &str = "\u{FFFD}";

/// What can be said already of the front of `bytes`: text, and how many bytes it stands for.
fn first_piece(bytes: &[u8]) -> Option<(&str, usize)> {
    match core::str::from_utf8(bytes) {
        Ok("") => None,
        Ok(text) => Some((text, bytes.len())),
        Err(error) if error.valid_up_to() > 0 => {
            let text = bytes.get(..error.valid_up_to()).and_then(|bytes| core::str::from_utf8(bytes).ok());
            text.map(|text| (text, text.len()))
        }
        Err(error) => error.error_len().map(|len| (REPLACEMENT, len)),
    }
}

#[cfg(test)]
mod tests {
    use super::Utf8Stream;
    use std::string::String;

    /// Every way to cut every sequence of bytes that are special to UTF-8.
    #[test]
    fn is_lossy_decoding_of_the_whole() {
        let bytes =
            [0x00, b'a', 0x80, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xE0, 0xE2, 0xED, 0xEF, 0xF0, 0xF3, 0xF4, 0xF5];
        for number in 0..bytes.len().pow(4) {
            let text = [0, 4, 8, 12].map(|shift| bytes[number >> shift & 15]);
            let (mut stream, mut found) = (Utf8Stream::new(), String::new());
            for byte in text {
                stream.push([byte], &mut found).unwrap();
            }
            stream.finish(&mut found).unwrap();
            assert_eq!(found, String::from_utf8_lossy(&text), "{text:x?}");
            assert_eq!(stream, Utf8Stream::new());
        }
    }

    #[test]
    fn a_character_is_never_cut() {
        let (mut stream, mut found) = (Utf8Stream::new(), String::new());
        let steps = [(&b"a\xF0\x9F"[..], "a"), (b"\x98", "a"), (b"\x80\xC3", "a😀"), (b"\xA9!", "a😀é!")];
        for (bytes, expected) in steps {
            stream.push(bytes.iter().copied(), &mut found).unwrap();
            assert_eq!(found, expected);
        }
    }
}
