//! The table of formats.

use crate::codec::{Codec, EncodeRow, encoder};
use core::fmt;

/// Makes the modules, [`Format`] and what it knows from the table below. What is not built is
/// compiled, but nothing refers to it, so that no image holds it.
macro_rules! formats {
    ($($module:ident if $built:meta { $($name:ident = $id:literal: $about:literal),+ })*) => {
        $(mod $module;)*

        /// How the values of a tensor are stored.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[allow(non_camel_case_types)] // the names that GGML and everyone else use
        pub enum Format {
            $($(#[doc = $about] $name,)+)*
        }

        impl Format {
            /// All formats.
            pub const ALL: &[Self] = &[$($(Self::$name,)+)*];

            /// The format with this GGML type number, as in the tensor table of a GGUF file.
            #[must_use]
            pub const fn from_id(id: u32) -> Option<Self> {
                match id {
                    $($($id => Some(Self::$name),)+)*
                    _ => None,
                }
            }

            /// The GGML type number.
            #[must_use]
            pub const fn id(self) -> u32 {
                match self { $($(Self::$name => $id,)+)* }
            }

            /// The GGML name, such as `Q4_0`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$name => stringify!($name),)+)* }
            }

            /// Whether this build can read it and, where there is an encoder, write it: a matter of
            /// cargo features, all of which are there by default.
            #[inline]
            #[must_use]
            pub const fn is_built(self) -> bool {
                match self { $($(Self::$name => cfg!($built),)+)* }
            }

            /// What it takes to be [built](Self::is_built), such as `feature = "q4_0"`.
            #[must_use]
            pub const fn condition(self) -> &'static str {
                match self { $($(Self::$name => stringify!($built),)+)* }
            }

            pub(crate) const fn codec(self) -> Codec {
                match self { $($(Self::$name => Codec::of::<$module::$name>(cfg!($built)),)+)* }
            }

            pub(crate) const fn encoder(self) -> Option<EncodeRow> {
                match self {
                    $($(Self::$name => if cfg!($built) { encoder::<$module::$name>() } else { None },)+)*
                }
            }
        }
    };
}

// module if condition { GGML name = GGML type number: description }, in the order of `Format::ALL`. The struct
// of that name in that module says the rest. (rustfmt does not find modules that a macro
// declares: format them by file name.)
formats! {
    plain if all() { F32 = 0: "32-bit floats.", F16 = 1: "16-bit floats.", BF16 = 30: "The upper halves of 32-bit floats." }
    q4_0 if feature = "q4_0" { Q4_0 = 2: "4-bit integers times a scale; 4.5 bits a value." }
    q4_1 if feature = "q4_1" { Q4_1 = 3: "4-bit integers times a scale plus a minimum; 5 bits a value." }
    q5_0 if feature = "q5" { Q5_0 = 6: "5-bit integers times a scale; 5.5 bits a value." }
    q5_1 if feature = "q5" { Q5_1 = 7: "5-bit integers times a scale plus a minimum; 6 bits a value." }
    q8_0 if feature = "q8_0" { Q8_0 = 8: "8-bit integers times a scale; 8.5 bits a value." }
    q2_k if feature = "k" { Q2_K = 10: "2-bit integers, 4-bit scales and minimums for each 16; 2.625 bits a value." }
    q3_k if feature = "k" { Q3_K = 11: "3-bit integers, 6-bit scales for each 16; 3.4375 bits a value." }
    q4_k if feature = "k" { Q4_K = 12: "4-bit integers, 6-bit scales and minimums for each 32; 4.5 bits a value." }
    q5_k if feature = "k" { Q5_K = 13: "5-bit integers, 6-bit scales and minimums for each 32; 5.5 bits a value." }
    q6_k if feature = "k" { Q6_K = 14: "6-bit integers, 8-bit scales for each 16; 6.5625 bits a value." }
    iq4 if feature = "iq4" { IQ4_NL = 20: "4-bit indices into uneven levels, one scale; 4.5 bits a value.", IQ4_XS = 23: "As IQ4_NL, with 6-bit scales for each 32; 4.25 bits a value." }
}

pub use self::{q4_0::Q4_0, q4_1::Q4_1, q4_k::Q4_K, q5_k::Q5_K, q6_k::Q6_K, q8_0::Q8_0};

impl Format {
    /// How many values a block holds.
    #[must_use]
    pub const fn block_len(self) -> usize {
        self.codec().block_len
    }

    /// How many bytes a block takes up.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        self.codec().block_bytes
    }

    /// How many bytes a row of `values` values takes up, or `None` if they are no whole number
    /// of blocks or if a `usize` does not hold it.
    #[must_use]
    pub const fn row_bytes(self, values: usize) -> Option<usize> {
        let Codec { block_len, block_bytes, .. } = self.codec();
        match (values.checked_div(block_len), values.checked_rem(block_len)) {
            (Some(blocks), Some(0)) => blocks.checked_mul(block_bytes),
            _ => None,
        }
    }

    /// Whether [`encode`](crate::encode) can write this format. All that are built can be read.
    #[must_use]
    pub const fn can_encode(self) -> bool {
        self.encoder().is_some()
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
