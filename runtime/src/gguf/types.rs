//! Block sizes of every tensor type that GGUF files hold, computed with here or not.

use ouro_quant::Format;

/// How a tensor's values are packed: only what its length in bytes depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TensorType {
    /// ggml's name, as in `Q4_K`.
    pub name: &'static str,
    /// Values in a block.
    pub block_len: usize,
    /// Bytes of a block.
    pub block_bytes: usize,
}

impl TensorType {
    /// The type with this ggml id; `None` for ids never given out or withdrawn from files.
    ///
    /// What [`Format`] decodes is described there; the rest are ids of `ggml.h` whose blocks are
    /// only measured.
    #[must_use]
    pub fn from_id(id: u32) -> Option<Self> {
        if let Some(format) = Format::from_id(id) {
            let (block_len, block_bytes) = (format.block_len(), format.block_bytes());
            return Some(Self { name: format.name(), block_len, block_bytes });
        }
        let (name, block_len, block_bytes) = match id {
            9 => ("Q8_1", 32, 36),
            15 => ("Q8_K", 256, 292),
            16 => ("IQ2_XXS", 256, 66),
            17 => ("IQ2_XS", 256, 74),
            18 => ("IQ3_XXS", 256, 98),
            19 => ("IQ1_S", 256, 50),
            21 => ("IQ3_S", 256, 110),
            22 => ("IQ2_S", 256, 82),
            24 => ("I8", 1, 1),
            25 => ("I16", 1, 2),
            26 => ("I32", 1, 4),
            27 => ("I64", 1, 8),
            28 => ("F64", 1, 8),
            29 => ("IQ1_M", 256, 56),
            34 => ("TQ1_0", 256, 54),
            35 => ("TQ2_0", 256, 66),
            39 => ("MXFP4", 32, 17),
            40 => ("NVFP4", 64, 36),
            41 => ("Q1_0", 128, 18),
            42 => ("Q2_0", 64, 18),
            _ => return None,
        };
        Some(Self { name, block_len, block_bytes })
    }
}
