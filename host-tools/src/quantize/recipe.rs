//! Which format each tensor gets.
//!
//! The habits are llama.cpp's (`llama-quant.cpp`): vectors stay F32, the output head gets more bits
//! than the rest, and the `_m` mixtures give more bits to some of attn_v and ffn_down.

use super::source::SourceTensor;
use crate::error::Error;
use clap::ValueEnum;
use ouro_quant::Format;
use regex_lite::Regex;

/// What a file is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum FileType {
    /// 32-bit floats: exact, for reference.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper halves of 32-bit floats: exact where the checkpoint is in bfloat16.
    Bf16,
    /// 8.5 bits a weight: next to no loss.
    #[value(name = "q8_0")]
    Q8_0,
    /// 4.5 bits a weight, the fastest on small cores.
    #[value(name = "q4_0")]
    Q4_0,
    /// 5 bits a weight.
    #[value(name = "q4_1")]
    Q4_1,
    /// 4.5 bits a weight, better than q4_0.
    #[value(name = "q4_k")]
    Q4K,
    /// 5.5 bits a weight.
    #[value(name = "q5_k")]
    Q5K,
    /// 6.6 bits a weight.
    #[value(name = "q6_k")]
    Q6K,
    /// q4_k with q6_k in half of attn_v and ffn_down: the usual choice for 4 bits.
    #[value(name = "q4_k_m")]
    Q4KM,
    /// q5_k with q6_k in half of attn_v and ffn_down.
    #[value(name = "q5_k_m")]
    Q5KM,
}

impl FileType {
    /// The format of an ordinary matrix.
    fn base(self) -> Format {
        match self {
            Self::F32 => Format::F32,
            Self::F16 => Format::F16,
            Self::Bf16 => Format::BF16,
            Self::Q8_0 => Format::Q8_0,
            Self::Q4_0 => Format::Q4_0,
            Self::Q4_1 => Format::Q4_1,
            Self::Q4K | Self::Q4KM => Format::Q4_K,
            Self::Q5K | Self::Q5KM => Format::Q5_K,
            Self::Q6K => Format::Q6_K,
        }
    }

    /// `general.file_type`, llama.cpp's number. There q4_k and q5_k are called `_S`.
    pub(crate) fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q8_0 => 7,
            Self::Q4K => 14,
            Self::Q4KM => 15,
            Self::Q5K => 16,
            Self::Q5KM => 17,
            Self::Q6K => 18,
            Self::Bf16 => 32,
        }
    }

    /// The format of a tensor before it is seen whether its rows can be cut into blocks.
    fn wish(self, name: &str, layers: u32, tied: bool) -> Format {
        let base = self.base();
        let is_head = name == "output.weight" || (tied && name == "token_embd.weight");
        if is_head {
            let keeps = is_float(base) || base == Format::Q8_0;
            return if keeps { base } else { Format::Q6_K };
        }
        let is_mixture = matches!(self, Self::Q4KM | Self::Q5KM);
        let layer = layer_of(name).filter(|_| {
            is_mixture && (name.ends_with(".attn_v.weight") || name.ends_with(".ffn_down.weight"))
        });
        match layer {
            Some(layer) if use_more_bits(layer, layers) => Format::Q6_K,
            _ => base,
        }
    }
}

/// llama.cpp's rule: the first and the last eighth of the layers, and every third between.
fn use_more_bits(layer: u32, layers: u32) -> bool {
    let (layer, layers) = (u64::from(layer), u64::from(layers));
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

pub(crate) fn layer_of(name: &str) -> Option<u32> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

pub(crate) fn is_float(format: Format) -> bool {
    matches!(format, Format::F32 | Format::F16 | Format::BF16)
}

/// The format that takes the place of one whose blocks do not divide the rows: llama.cpp's choices,
/// where we can write them.
fn fallback(format: Format) -> Format {
    let next = match format {
        Format::Q4_K => Format::Q5_0,
        Format::Q5_K => Format::Q5_1,
        Format::Q6_K | Format::Q5_0 | Format::Q5_1 => Format::Q8_0,
        _ => Format::F16,
    };
    if next.can_encode() { next } else { fallback(next) }
}

/// One `--tensor-type`.
#[derive(Clone, Debug)]
pub struct Override {
    pattern: Regex,
    format: Format,
}

impl std::str::FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pattern, name) =
            text.rsplit_once('=').ok_or_else(|| "expected PATTERN=TYPE, such as ffn_down=q6_k".to_owned())?;
        let pattern = Regex::new(pattern)
            .map_err(|error| format!("{pattern:?} is not a regular expression: {error}"))?;
        let mut known = Format::ALL.iter().copied().filter(|format| format.can_encode());
        let format = known.clone().find(|format| format.name().eq_ignore_ascii_case(name));
        let format = format.ok_or_else(|| {
            let names: Vec<String> = known.by_ref().map(|format| format.name().to_lowercase()).collect();
            format!("unknown type {name:?}; known are {}", names.join(", "))
        })?;
        Ok(Self { pattern, format })
    }
}

/// A tensor's new format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) format: Format,
    /// The format wanted, where its blocks do not divide the rows.
    pub(crate) instead_of: Option<Format>,
}

/// Chooses for every tensor; `file_type` is `None` where all stay as they are.
pub(crate) fn choose(
    tensors: &[SourceTensor],
    layers: u32,
    file_type: Option<FileType>,
    overrides: &[Override],
) -> Result<Vec<Choice>, Error> {
    let tied = !tensors.iter().any(|tensor| tensor.name == "output.weight");
    for rule in overrides {
        if !tensors.iter().any(|tensor| is_matrix(tensor) && rule.pattern.is_match(&tensor.name)) {
            let pattern = &rule.pattern;
            return Err(Error::Usage(format!(
                "--tensor-type {pattern}=…: no matrix of the model has a name like this; \
                 names are token_embd.weight, blk.0.attn_q.weight, … (`ouro inspect --tensors`)"
            )));
        }
    }
    let choose = |tensor: &SourceTensor| {
        if !is_matrix(tensor) {
            // Vectors are tiny and used in f32.
            let format = if file_type.is_some() { Format::F32 } else { tensor.format };
            return Choice { format, instead_of: None };
        }
        let asked = overrides.iter().find(|rule| rule.pattern.is_match(&tensor.name)).map(|rule| rule.format);
        let wish = asked
            .or_else(|| file_type.map(|file_type| file_type.wish(&tensor.name, layers, tied)))
            .unwrap_or(tensor.format);
        divisible(wish, tensor)
    };
    Ok(tensors.iter().map(choose).collect())
}

pub(crate) fn is_matrix(tensor: &SourceTensor) -> bool {
    tensor.dims.iter().skip(1).any(|dim| *dim > 1)
}

fn divisible(wish: Format, tensor: &SourceTensor) -> Choice {
    let row = tensor.dims.first().copied().unwrap_or(1);
    let fits = |format: Format| row.is_multiple_of(format.block_len() as u64);
    let mut format = wish;
    while !fits(format) {
        format = fallback(format);
    }
    Choice { format, instead_of: (format != wish).then_some(wish) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, dims: &[u64]) -> SourceTensor {
        SourceTensor {
            name: name.to_owned(),
            dims: dims.to_vec(),
            format: Format::F32,
            file: 0,
            offset: 0,
            len: 0,
            interleave: None,
        }
    }

    fn chosen(file_type: FileType, name: &str, row: u64, layers: u32, tied: bool) -> Format {
        let mut tensors = vec![tensor(name, &[row, 8])];
        if !tied && name != "output.weight" {
            tensors.push(tensor("output.weight", &[row, 8]));
        }
        choose(&tensors, layers, Some(file_type), &[]).unwrap()[0].format
    }

    /// Expected formats follow llama.cpp's `llama_tensor_get_type`.
    #[test]
    fn habits_of_llama_cpp() {
        use FileType::{Bf16, F16, Q4_0, Q4K, Q4KM, Q5K, Q5KM, Q6K, Q8_0};
        let cases = [
            (Q4_0, "output.weight", 256, 8, false, Format::Q6_K),
            (Q4_0, "output.weight", 64, 8, false, Format::Q8_0),
            (Q4_0, "token_embd.weight", 256, 8, false, Format::Q4_0),
            (Q4_0, "token_embd.weight", 256, 8, true, Format::Q6_K),
            (Q8_0, "output.weight", 256, 8, false, Format::Q8_0),
            (F16, "output.weight", 256, 8, false, Format::F16),
            (Bf16, "token_embd.weight", 256, 8, true, Format::BF16),
            (Q4KM, "output.weight", 256, 8, false, Format::Q6_K),
            (Q4KM, "blk.0.attn_v.weight", 256, 24, false, Format::Q6_K),
            (Q4KM, "blk.3.attn_v.weight", 256, 24, false, Format::Q4_K),
            (Q4KM, "blk.5.ffn_down.weight", 256, 24, false, Format::Q6_K),
            (Q4KM, "blk.6.ffn_down.weight", 256, 24, false, Format::Q4_K),
            (Q4KM, "blk.20.ffn_down.weight", 256, 24, false, Format::Q6_K),
            (Q4KM, "blk.21.attn_v.weight", 256, 24, false, Format::Q6_K),
            (Q4KM, "blk.21.attn_q.weight", 256, 24, false, Format::Q4_K),
            (Q5KM, "blk.21.attn_v.weight", 256, 24, false, Format::Q6_K),
            (Q5KM, "blk.3.attn_v.weight", 256, 24, false, Format::Q5_K),
            (Q4K, "blk.0.attn_v.weight", 256, 24, false, Format::Q4_K),
            (Q5K, "blk.0.ffn_up.weight", 256, 24, false, Format::Q5_K),
            (Q6K, "blk.0.ffn_up.weight", 256, 24, false, Format::Q6_K),
            (Q6K, "blk.0.ffn_up.weight", 64, 24, false, Format::Q8_0),
            (Q4_0, "blk.0.ffn_up.weight", 48, 24, false, Format::F16),
        ];
        for (file_type, name, row, layers, tied, expected) in cases {
            let found = chosen(file_type, name, row, layers, tied);
            assert_eq!(found, expected, "{file_type:?} {name} rows of {row}, {layers} layers, tied {tied}");
        }
    }

    #[test]
    fn what_can_not_be_cut_into_blocks_is_said() {
        let tensors = [tensor("blk.0.ffn_down.weight", &[160, 64]), tensor("output.weight", &[64, 8])];
        let choices = choose(&tensors, 1, Some(FileType::Q4K), &[]).unwrap();
        assert_eq!(choices[0].instead_of, Some(Format::Q4_K));
        assert!(160u64.is_multiple_of(choices[0].format.block_len() as u64));
        assert!(choices[0].format.can_encode());
    }

    #[test]
    fn the_first_override_that_matches_wins_and_vectors_stay() {
        let tensors = [tensor("blk.0.attn_norm.weight", &[256]), tensor("blk.0.attn_q.weight", &[256, 256])];
        let overrides = ["attn_q=q6_k", "attn=q8_0"].map(|text| text.parse().unwrap());
        let choices = choose(&tensors, 1, Some(FileType::Q4_0), &overrides).unwrap();
        assert_eq!([choices[0].format, choices[1].format], [Format::F32, Format::Q6_K]);
    }

    #[test]
    fn overrides_that_make_no_sense() {
        for (text, expected) in [
            ("attn_q", "expected PATTERN=TYPE"),
            ("attn_q=q9_9", "unknown type"),
            ("attn_(=q8_0", "regular expression"),
        ] {
            assert!(text.parse::<Override>().unwrap_err().contains(expected), "{text}");
        }
        let rule = "atn_q=q8_0".parse().unwrap();
        let tensors = [tensor("blk.0.attn_q.weight", &[256, 256])];
        assert!(matches!(choose(&tensors, 1, None, &[rule]), Err(Error::Usage(_))));
    }
}
