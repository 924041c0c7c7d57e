//! Text that asks much of a tokenizer.

/// A small generator (splitmix64), the same on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit as u64) as usize
    }

    /// One of `values`.
    pub fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }
}

const SPACES: &[char] = &[
    ' ', ' ', ' ', '\t', '\n', '\n', '\r', '\u{B}', '\u{C}', '\u{85}', '\u{A0}', '\u{1680}', '\u{2000}',
    '\u{200A}', '\u{2028}', '\u{2029}', '\u{202F}', '\u{205F}', '\u{3000}',
    // These only look like white space.
    '\u{200B}', '\u{180E}', '\u{FEFF}', '\u{1C}', '\u{1F}', '\u{2060}',
];
const NUMBERS: &[char] = &[
    '0',
    '1',
    '7',
    '9',
    '²',
    '½',
    'Ⅷ',
    '①',
    '٣',
    '३',
    '〇',
    '㊿',
    '𝟗',
    '\u{10D40}',
    '\u{11DE0}',
    '\u{16FF4}',
    '一',
];
const PIECES: &[&str] = &[
    "'s",
    "'t",
    "'re",
    "'ve",
    "'m",
    "'ll",
    "'d",
    "'S",
    "'LL",
    "’s",
    "'",
    "''",
    "'r",
    "'l",
    "'v",
    " '",
    "n't",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|im_end|",
    "<|IM_END|>",
    "<|im_start|><|im_end|>",
    " <|im_end|> ",
    "<repo_name>",
    "<|",
    "|>",
    "the",
    " the",
    "The ",
    " a",
    "ing",
    "http://",
    "()",
    "{\n",
    "};",
    "    ",
    "\n\n",
    "\r\n",
    "e\u{301}",
    "ﬁ",
    "ǅ",
    "ß",
    "İ",
    "ʰ",
    "ª",
    "ー",
    "々",
    "👩\u{200D}👩\u{200D}👧",
    "🇩🇪",
    "👍🏽",
    "\0",
    "\u{4}",
    "\u{6}",
    "\u{13}",
    "\u{14}",
    "\u{16}",
    "\u{1D}",
    "\u{7F}",
    "\u{AD}",
    "\u{FFFD}",
    "\u{10FFFF}",
    "\u{40000}",
    "\u{80000}",
];
/// First character and length of stretches of one script.
const SCRIPTS: &[(u32, u32)] = &[
    (0x20, 95),
    (0xA0, 96),
    (0x100, 336),
    (0x2B0, 80),
    (0x300, 112),
    (0x370, 144),
    (0x400, 256),
    (0x530, 96),
    (0x590, 112),
    (0x600, 256),
    (0x900, 128),
    (0xE00, 128),
    (0x1100, 256),
    (0x13A0, 96),
    (0x1E00, 256),
    (0x2000, 112),
    (0x2070, 48),
    (0x2100, 144),
    (0x2460, 160),
    (0x2C80, 128),
    (0x3000, 64),
    (0x3040, 192),
    (0x4E00, 20992),
    (0xA640, 96),
    (0xAC00, 11172),
    (0xE000, 64),
    (0xFB00, 80),
    (0xFE00, 512),
    (0x10300, 256),
    (0x11D60, 160),
    (0x16FE0, 32),
    (0x1D400, 1024),
    (0x1E800, 512),
    (0x1F300, 1024),
    (0x20000, 4096),
    (0xE0000, 128),
];

/// A string of up to some dozens of characters from all over Unicode: mixed scripts, digits of all
/// kinds, kinds of white space, contractions, special tokens and things like them, control and
/// unassigned characters.
pub fn random_text(random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..random.below(12) {
        let len = 1 + random.below(6);
        match random.below(10) {
            0 => text.extend((0..len).map(|_| random.pick(SPACES))),
            1 => text.extend((0..len).map(|_| random.pick(NUMBERS))),
            2 | 3 => text.push_str(random.pick(PIECES)),
            4 => text.extend((0..len).filter_map(|_| char::from_u32(random.below(0x11_0000) as u32))),
            5 | 6 => {
                let (first, size) = random.pick(SCRIPTS);
                text.extend(
                    (0..len).filter_map(|_| char::from_u32(first + random.below(size as usize) as u32)),
                );
            }
            7 => {
                let (c, len) = (char::from_u32(random.below(0x3100) as u32), 1 + random.below(90));
                text.extend((0..len).filter_map(|_| c));
            }
            _ => {
                if random.below(2) == 0 {
                    text.push(' ');
                }
                text.extend((0..len).map(|_| char::from(b'a' + random.below(26) as u8)));
            }
        }
    }
    text
}
