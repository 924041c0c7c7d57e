//! Against llama.cpp's quantizer and the `gguf` package; `tests/golden/README.md` says how the
//! data was made.

use ouro_quant::{Format, decode, encode};
use safetensors::SafeTensors;
use std::path::Path;

const ENCODERS: [Format; 9] = [
    Format::F32,
    Format::F16,
    Format::BF16,
    Format::Q8_0,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q4_K,
    Format::Q5_K,
    Format::Q6_K,
];

fn golden() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/quants.safetensors");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// Golden's bytes of `values` and what they mean.
fn expected(golden: &SafeTensors<'_>, format: Format, variant: &str) -> Option<(Vec<u8>, Vec<f32>)> {
    let tensor = |what| golden.tensor(&format!("{format}{variant}.{what}")).ok();
    if format == Format::F32 {
        let source = golden.tensor("source").unwrap();
        return Some((source.data().to_vec(), floats(source.data())));
    }
    Some((tensor("bytes")?.data().to_vec(), floats(tensor("f32")?.data())))
}

#[test]
fn decodes_to_the_same_bits() {
    let file = golden();
    let golden = SafeTensors::deserialize(&file).unwrap();
    let mut compared = 0;
    for (&format, variant) in Format::ALL.iter().flat_map(|format| [(format, ""), (format, ".importance")]) {
        let Some((bytes, values)) = expected(&golden, format, variant) else {
            assert_eq!(variant, ".importance", "golden data lacks {format}");
            continue;
        };
        let mut found = vec![f32::NAN; values.len()];
        decode(format, &bytes, &mut found).unwrap();
        for (i, (found, value)) in found.iter().zip(&values).enumerate() {
            assert_eq!(found.to_bits(), value.to_bits(), "{format}{variant}, value {i}");
        }
        compared += 1;
    }
    assert_eq!(compared, Format::ALL.len() + 8);
}

#[test]
fn encodes_as_llama_cpp_does() {
    let file = golden();
    let golden = SafeTensors::deserialize(&file).unwrap();
    let source = floats(golden.tensor("source").unwrap().data());
    let importance = floats(golden.tensor("importance").unwrap().data());

    for format in ENCODERS {
        for (variant, weights) in [("", None), (".importance", Some(&*importance))] {
            // Formats without a choice have no variant of their own: the plain bytes hold.
            let (bytes, _) = expected(&golden, format, variant)
                .or_else(|| expected(&golden, format, ""))
                .unwrap_or_else(|| panic!("golden data lacks {format}"));
            let mut found = vec![0; bytes.len()];
            encode(format, &source, weights, &mut found).unwrap();
            assert_same_blocks(format, variant, &found, &bytes);
        }
    }
}

/// Equal bytes for the K-quants too, which is more than their error asks for, and simpler.
fn assert_same_blocks(format: Format, variant: &str, found: &[u8], expected: &[u8]) {
    let blocks = found.chunks(format.block_bytes()).zip(expected.chunks(format.block_bytes()));
    let wrong: Vec<_> = blocks.enumerate().filter(|(_, (found, expected))| found != expected).collect();
    assert!(wrong.is_empty(), "{format}{variant}: {} blocks differ, the first: {:x?}", wrong.len(), wrong[0]);
}

#[test]
fn only_these_can_be_written() {
    for format in Format::ALL {
        assert_eq!(format.can_encode(), ENCODERS.contains(format), "{format}");
    }
}
