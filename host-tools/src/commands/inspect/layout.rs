//! What tensors are for, and whether they lie in the file as a pass wants them.

use super::summary::TensorInfo;
use crate::quantize::LAYER_ORDER;
use std::cmp::Ordering;

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Embedding,
    Attention,
    Ffn,
    Norms,
    Head,
    Other,
}

impl Role {
    pub(super) const ALL: [Role; 6] =
        [Role::Embedding, Role::Attention, Role::Ffn, Role::Norms, Role::Head, Role::Other];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Attention => "attention",
            Self::Ffn => "ffn",
            Self::Norms => "norms",
            Self::Head => "head",
            Self::Other => "other",
        }
    }

    /// By the names that llama.cpp gives to the tensors of any architecture.
    pub(super) fn of(name: &str) -> Self {
        let (layer, part) = split(name);
        if part.contains("norm") {
            Self::Norms
        } else if part.starts_with("attn_") {
            Self::Attention
        } else if part.starts_with("ffn_") {
            Self::Ffn
        } else if layer.is_none() && part.ends_with("_embd") {
            Self::Embedding
        } else if layer.is_none() && part == "output" {
            Self::Head
        } else {
            Self::Other
        }
    }
}

/// The layer, and what is between `blk.N.` and `.weight`.
fn split(name: &str) -> (Option<u64>, &str) {
    let stem = name.strip_suffix(".weight").or_else(|| name.strip_suffix(".bias")).unwrap_or(name);
    let layer = stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    match layer.and_then(|(number, part)| Some((number.parse().ok()?, part))) {
        Some((number, part)) => (Some(number), part),
        None => (None, stem),
    }
}

/// Whether a tensor belongs to a layer.
pub(super) fn in_layer(name: &str) -> bool {
    split(name).0.is_some()
}

/// When a tensor is used in a pass: the stage (embedding, layers, what follows them), and the
/// place in it where that is known.
fn place(name: &str) -> Option<(u64, Option<usize>)> {
    match split(name) {
        (Some(layer), part) => {
            Some((layer.saturating_add(1), LAYER_ORDER.iter().position(|known| *known == part)))
        }
        (None, "token_embd") => Some((0, Some(0))),
        (None, "output_norm") => Some((u64::MAX, Some(0))),
        (None, "output") => Some((u64::MAX, Some(1))),
        _ => None,
    }
}

fn comes_before(a: &str, b: &str) -> bool {
    let (Some(a), Some(b)) = (place(a), place(b)) else { return false };
    match a.0.cmp(&b.0) {
        Ordering::Less => true,
        Ordering::Equal => a.1.zip(b.1).is_some_and(|(a, b)| a < b),
        Ordering::Greater => false,
    }
}

/// Pages of flash and disk.
const PAGE: u64 = 4096;

/// Why the file can't be read from front to back in one pass: the first case of each kind.
pub(super) fn stream_problems(tensors: &[TensorInfo], alignment: u64) -> Vec<String> {
    let mut problems = Vec::new();
    if !alignment.is_multiple_of(PAGE) {
        problems.push(format!("general.alignment is {alignment}, expected a multiple of {PAGE}"));
    }
    let mut sorted: Vec<&TensorInfo> = tensors.iter().collect();
    sorted.sort_by_key(|tensor| tensor.offset);
    let pairs = || sorted.iter().zip(sorted.iter().skip(1));
    if let Some((first, second)) = pairs().find(|(first, second)| comes_before(&second.name, &first.name)) {
        problems.push(format!("{} lies before {}, but is used after it", first.name, second.name));
    }
    let gap = |first: &TensorInfo, second: &TensorInfo| {
        let end = first.offset.saturating_add(first.bytes);
        second.offset.saturating_sub(end.checked_next_multiple_of(alignment.max(PAGE)).unwrap_or(end))
    };
    if let Some((first, second)) = pairs().find(|(first, second)| gap(first, second) > 0) {
        let bytes = second.offset - first.offset - first.bytes;
        problems.push(format!("{bytes} unused bytes between {} and {}", first.name, second.name));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles() {
        for (name, role) in [
            ("token_embd.weight", Role::Embedding),
            ("output.weight", Role::Head),
            ("output_norm.weight", Role::Norms),
            ("blk.0.attn_norm.weight", Role::Norms),
            ("blk.11.attn_q.weight", Role::Attention),
            ("blk.11.attn_qkv.bias", Role::Attention),
            ("blk.3.ffn_gate_exps.weight", Role::Ffn),
            ("blk.3.ssm_conv1d.weight", Role::Other),
            ("blk.x.output.weight", Role::Other),
            ("rope_freqs.weight", Role::Other),
            ("", Role::Other),
        ] {
            assert_eq!(Role::of(name), role, "{name}");
        }
    }

    #[test]
    fn what_is_in_the_way_of_streaming() {
        let tensor = |name: &str, offset| TensorInfo {
            name: name.to_owned(),
            type_name: "F32",
            type_id: 0,
            shape: vec![256],
            offset,
            bytes: 1024,
        };
        let good =
            ["token_embd", "blk.0.attn_norm", "blk.0.attn_q", "blk.0.strange", "blk.1.attn_k", "output_norm"];
        let tensors = |names: &[&str], step: u64| -> Vec<TensorInfo> {
            (1..).zip(names).map(|(i, name)| tensor(&format!("{name}.weight"), i * step)).collect()
        };
        assert_eq!(stream_problems(&tensors(&good, 4096), 4096), Vec::<String>::new());
        for (tensors, alignment, expected) in [
            (tensors(&good, 4096), 32, "general.alignment is 32"),
            (
                tensors(&good, 8192),
                4096,
                "7168 unused bytes between token_embd.weight and blk.0.attn_norm.weight",
            ),
            (tensors(&["output", "token_embd"], 4096), 4096, "output.weight lies before token_embd.weight"),
            (tensors(&["blk.1.attn_q", "blk.0.ffn_up"], 4096), 4096, "blk.1.attn_q.weight lies before"),
            (tensors(&["blk.0.ffn_up", "blk.0.ffn_gate"], 4096), 4096, "blk.0.ffn_up.weight lies before"),
        ] {
            let problems = stream_problems(&tensors, alignment);
            assert!(problems.len() == 1 && problems[0].starts_with(expected), "{problems:?}");
        }
    }
}
