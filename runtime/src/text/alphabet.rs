//! The 256 printable characters in which byte-level BPE tables write bytes.

/// The byte that `c` stands for.
///
/// Printable characters of Latin-1 stand for themselves; the other bytes, in order, have the
/// characters from U+0100 on (GPT-2, `encoder.py`, `bytes_to_unicode`).
pub(super) fn byte(c: char) -> Option<u8> {
    let code = u32::from(c);
    let byte = match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

#[cfg(test)]
mod tests {
    use super::byte;
    use std::vec::Vec;

    /// The construction in GPT-2's own words.
    #[test]
    fn is_gpt2s() {
        let printable = |b: &u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let mut others = 0x100..;
        let expected: Vec<(char, u8)> = (0..=255)
            .map(|b| {
                let code = if printable(&b) { b.into() } else { others.next().unwrap() };
                (char::from_u32(code).unwrap(), b)
            })
            .collect();
        for (c, b) in &expected {
            assert_eq!(byte(*c), Some(*b), "{c:?}");
        }
        assert_eq!(('\0'..=char::MAX).filter(|c| byte(*c).is_some()).count(), 256);
    }
}
