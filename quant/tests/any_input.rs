//! Whatever the bytes, values and lengths: a result or a typed error, and never a panic.

use ouro_quant::{Format, QuantError, decode, encode};

/// Xorshift; the seed is printed and can be given as `OURO_TEST_SEED`.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let seed = std::env::var("OURO_TEST_SEED").map_or_else(|_| now(), |seed| seed.parse().unwrap());
        println!("OURO_TEST_SEED={seed}");
        Self(seed | 1)
    }

    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.bits() as u8).collect()
    }

    /// Around 0, roughly as weights are.
    fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (0..4).map(|_| (self.bits() % 2001) as f32 - 1000.0).sum::<f32>() * 1e-5).collect()
    }
}

fn encoders() -> impl Iterator<Item = Format> {
    Format::ALL.iter().copied().filter(|format| format.can_encode())
}

fn encoded(format: Format, values: &[f32], importance: Option<&[f32]>) -> Result<Vec<u8>, QuantError> {
    let mut bytes = vec![0; format.row_bytes(values.len()).unwrap()];
    encode(format, values, importance, &mut bytes).map(|()| bytes)
}

fn decoded(format: Format, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![f32::NAN; bytes.len() / format.block_bytes() * format.block_len()];
    decode(format, bytes, &mut values).unwrap();
    values
}

#[test]
fn ids_and_names_tell_formats_apart() {
    for (i, &format) in Format::ALL.iter().enumerate() {
        assert_eq!(Format::from_id(format.id()), Some(format));
        assert!(Format::ALL[..i].iter().all(|other| other.name() != format.name()));
        assert_eq!(format!("{format:>6}|{format:?}"), format!("{0:>6}|{0}", format.name()));
    }
    // Removed, never released, or not for tensors that this crate reads.
    for id in [4, 5, 9, 15, 16, 24, 31, u32::MAX] {
        assert_eq!(Format::from_id(id), None, "{id}");
    }
}

#[test]
fn row_bytes_counts_whole_blocks() {
    for &format in Format::ALL {
        let (len, bytes) = (format.block_len(), format.block_bytes());
        assert_eq!(format.row_bytes(0), Some(0));
        assert_eq!(format.row_bytes(7 * len), Some(7 * bytes));
        assert_eq!(format.row_bytes(7 * len + 1).is_some(), len == 1, "{format}");
        let most = usize::MAX / len * len;
        assert_eq!(format.row_bytes(most), (most / len).checked_mul(bytes), "{format}");
    }
    assert_eq!(Format::F32.row_bytes(usize::MAX), None);
}

#[test]
fn wrong_lengths_are_errors_and_write_nothing() {
    for &format in Format::ALL {
        let (len, bytes) = (3 * format.block_len(), 3 * format.block_bytes());
        let mut lengths = vec![(len, bytes - 1), (len, bytes + 1), (len, 0), (0, bytes)];
        if format.block_len() > 1 {
            lengths.extend([(len - 1, bytes), (len + 1, bytes)]);
        }
        for (len, bytes) in lengths {
            let error = match format.row_bytes(len) {
                Some(_) => QuantError::Bytes { format, values: len, found: bytes },
                None => QuantError::PartialBlock { format, values: len },
            };
            let mut values = vec![7.0; len];
            assert_eq!(decode(format, &vec![1; bytes], &mut values), Err(error));
            assert!(values.iter().all(|&value| value == 7.0));

            let error = if format.can_encode() { error } else { QuantError::NoEncoder { format } };
            let mut out = vec![7; bytes];
            assert_eq!(encode(format, &values, None, &mut out), Err(error));
            assert!(out.iter().all(|&byte| byte == 7));
        }
        assert_eq!(decode(format, &[], &mut []), Ok(()));
    }
}

#[test]
fn importance_must_be_a_row_of_usable_weights() {
    for format in encoders() {
        let len = format.block_len();
        let values = vec![0.5; 6 * len];
        for weights in [0, 4 * len, 7 * len] {
            let error = QuantError::Columns { format, values: values.len(), weights };
            assert_eq!(encoded(format, &values, Some(&vec![1.0; weights])), Err(error));
        }
        if len > 1 {
            let error = QuantError::Columns { format, values: values.len(), weights: len / 2 };
            assert_eq!(encoded(format, &values, Some(&vec![1.0; len / 2])), Err(error));
        }
        for bad in [-1.0, f32::NAN, f32::INFINITY, 1e13] {
            let mut weights = vec![1.0; 2 * len];
            weights[len] = bad;
            assert_eq!(encoded(format, &values, Some(&weights)), Err(QuantError::Weight { column: len }));
        }
        for usable in [0.0, f32::MIN_POSITIVE, 1e12] {
            assert!(encoded(format, &values, Some(&vec![usable; 3 * len])).is_ok(), "{format} {usable}");
        }
    }
}

#[test]
fn any_bytes_decode_and_blocks_stand_alone() {
    let mut random = Random::new();
    for _ in 0..200 {
        for &format in Format::ALL {
            let bytes = random.bytes(5 * format.block_bytes());
            let whole = decoded(format, &bytes);
            // Each block by itself, at whatever address it has.
            let single = bytes.chunks(format.block_bytes()).flat_map(|block| decoded(format, block));
            let same =
                whole.iter().zip(single).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
            assert!(same, "{format}: {bytes:x?}");
        }
    }
}

/// Values that a careless encoder trips over, each repeated over a whole row.
const EXTREMES: [[f32; 4]; 16] = [
    [0.0, 0.0, 0.0, 0.0],
    [-0.0, 0.0, -0.0, 0.0],
    [1e-45, -1e-45, 0.0, 1e-44],
    [1e-40, 2e-40, 3e-40, -1e-40],
    [f32::MIN_POSITIVE, -f32::MIN_POSITIVE, 0.0, 1e-37],
    [1e-16, 1e-15, 1e-14, -1e-15],
    [1e-8, -1e-8, 2e-8, 0.0],
    [1.0, 1.0, 1.0, 1.0],
    [-1.0, -1.0, -1.0, -1.0],
    [1.0, 1.000_000_1, 1.0, 0.999_999_9],
    [1e5, -1e5, 1e-5, 0.0],
    [6.5e4, 0.0, 0.0, 0.0],
    [1e9, 1.0, -1e9, 0.0],
    [f32::MAX, f32::MIN, 0.0, 1.0],
    [1.0, f32::INFINITY, 0.0, -1.0],
    [1.0, f32::NAN, 0.0, -1.0],
];

#[test]
fn extremes_encode_to_finite_values_or_are_refused() {
    for format in encoders().filter(|format| format.block_len() > 1) {
        for pattern in EXTREMES {
            let values: Vec<f32> = pattern.into_iter().cycle().take(2 * format.block_len()).collect();
            let largest = values.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
            for importance in [None, Some(vec![0.0; values.len()]), Some(vec![0.7; values.len()])] {
                match encoded(format, &values, importance.as_deref()) {
                    Ok(bytes) => {
                        // Nothing grows beyond the values by more than an f16 scale's rounding.
                        let limit = largest * 1.01 + 1e-6;
                        let found = decoded(format, &bytes);
                        assert!(found.iter().all(|x| x.abs() <= limit), "{format} {pattern:?}: {found:?}");
                    }
                    Err(error) => {
                        assert_eq!(error, QuantError::Range { format, index: 0 });
                        assert!(
                            pattern.iter().any(|x| x.is_nan() || x.abs() > 60000.0),
                            "{format} {pattern:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn any_values_encode_or_are_refused() {
    let mut random = Random::new();
    for _ in 0..500 {
        // Any exponent within a random range; the whole range includes infinities and NaNs.
        let (shift, span) = (random.bits() as u32 % 256, random.bits() as u32 % 256 + 1);
        for format in encoders() {
            let mut float = || {
                let exponent = (shift + random.bits() as u32 % span) % 256;
                f32::from_bits(random.bits() as u32 & 0x807f_ffff | exponent << 23)
            };
            let values: Vec<f32> = (0..2 * format.block_len()).map(|_| float()).collect();
            let weights: Vec<f32> = values.iter().map(|_| float().abs().min(1e12)).collect();
            for importance in [None, Some(&*weights)] {
                match encoded(format, &values, importance) {
                    Ok(bytes) if format.block_len() > 1 => {
                        let found = decoded(format, &bytes);
                        assert!(found.iter().all(|x| x.is_finite()), "{format} {values:?}: {found:?}");
                    }
                    Ok(_) => {}
                    Err(error) => {
                        assert!(matches!(error, QuantError::Range { .. }), "{format} {values:?}: {error}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_value_out_of_range_is_named_by_its_block() {
    for format in encoders().filter(|format| format.block_len() > 1) {
        let len = format.block_len();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e9] {
            let mut values = vec![0.25; 6 * len];
            values[4 * len + 5] = bad;
            let error = Err(QuantError::Range { format, index: 4 * len });
            assert_eq!(encoded(format, &values, None), error, "{format} {bad}");
            assert_eq!(encoded(format, &values, Some(&vec![1.0; 3 * len])), error, "{format} {bad}");
        }
    }
}

#[test]
fn floats_keep_infinities_and_nans() {
    for (format, largest) in [(Format::F32, f32::MAX), (Format::F16, 65504.0), (Format::BF16, 3.389_531_4e38)]
    {
        let values = [f32::INFINITY, f32::NEG_INFINITY, largest, -0.0, f32::NAN];
        let found = decoded(format, &encoded(format, &values, None).unwrap());
        assert_eq!(found[..4], values[..4], "{format}");
        assert!(found[3].is_sign_negative() && found[4].is_nan(), "{format}");
    }
}

/// The largest error in units of the largest magnitude in the block: half a step, or a whole one
/// where the top level is missing, and what rounding scales to f16 or six bits adds.
const ROUND_TRIP: [(Format, f32); 9] = [
    (Format::F32, 0.0),
    (Format::F16, 0.000_49),
    (Format::BF16, 0.003_91),
    (Format::Q8_0, 0.004_5),
    (Format::Q4_0, 0.126),
    (Format::Q4_1, 0.069),
    (Format::Q4_K, 0.15),
    (Format::Q5_K, 0.08),
    (Format::Q6_K, 0.025),
];

/// The smallest normal f16: below it the steps get no finer.
const SMALLEST: f32 = 6.104e-5;

#[test]
fn round_trips_stay_close() {
    let mut random = Random::new();
    for (format, bound) in ROUND_TRIP {
        let mut worst = 0.0_f32;
        for _ in 0..100 {
            let values = random.values(4 * format.block_len());
            let found = decoded(format, &encoded(format, &values, None).unwrap());
            let blocks = values.chunks(format.block_len()).zip(found.chunks(format.block_len()));
            for (values, found) in blocks {
                let largest = values.iter().fold(SMALLEST, |largest, x| largest.max(x.abs()));
                let error = values.iter().zip(found).fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs()));
                worst = worst.max(error / largest);
            }
        }
        println!("{format}: worst {worst}, bound {bound}");
        assert!(worst <= bound, "{format}: {worst} above {bound}");
    }
}

/// Where the extreme value takes an extreme level, what was decoded encodes to the same bytes.
#[test]
fn encoding_again_changes_nothing() {
    let mut random = Random::new();
    for format in [Format::F32, Format::F16, Format::BF16, Format::Q8_0, Format::Q4_0, Format::Q4_1] {
        for _ in 0..100 {
            let values = random.values(4 * format.block_len());
            let bytes = encoded(format, &values, None).unwrap();
            assert_eq!(encoded(format, &decoded(format, &bytes), None).unwrap(), bytes, "{format}");
        }
    }
}

#[test]
fn errors_say_what_to_do() {
    let format = Format::Q4_K;
    for (error, text) in [
        (QuantError::PartialBlock { format, values: 100 }, "blocks of 256"),
        (QuantError::Bytes { format, values: 512, found: 287 }, "take 288 bytes, but there are 287"),
        (QuantError::NoEncoder { format: Format::Q2_K }, "F32 F16 BF16 Q4_0 Q4_1 Q8_0 Q4_K Q5_K Q6_K"),
        (QuantError::Columns { format, values: 512, weights: 3 }, "3 importance weights for 512 values"),
        (QuantError::Weight { column: 9 }, "column 9"),
        (QuantError::Range { format, index: 256 }, "starts at value 256"),
    ] {
        assert!(error.to_string().contains(text), "{error}");
    }
}
