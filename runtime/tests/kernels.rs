//! The integer kernels: the scalar definition against exact arithmetic on the same numbers, and
//! every back end of this CPU against the definition, bit for bit.

use bytemuck::Zeroable;
use ouro_quant::{Format, decode};
use ouro_runtime::kernels::activations::{GROUP, Group, quantize};
use ouro_runtime::kernels::reference::WeightRows;
use ouro_runtime::kernels::{Alone, Backend, NoBackend, Workers, matmul_groups, scalar};
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};

/// A small generator (splitmix64), the same on every machine.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

fn formats() -> Vec<Format> {
    Format::ALL.iter().copied().filter(|format| scalar::knows(*format)).collect()
}

/// What weights are made of.
#[derive(Clone, Copy, Debug)]
enum Fill {
    /// Any levels, with scales as they occur.
    Plausible,
    /// Any bytes at all: scales may be infinite, not a number, subnormal.
    Anything,
    /// The same byte everywhere, under scales as they occur.
    Byte(u8),
}

/// Where the f16 fields of a block are.
fn halves(format: Format) -> &'static [usize] {
    match format {
        Format::Q4_0 | Format::Q8_0 => &[0],
        Format::Q6_K => &[208],
        _ => &[0, 2],
    }
}

fn weights(format: Format, fill: Fill, rows: usize, cols: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0; rows * format.row_bytes(cols).unwrap()];
    for byte in &mut bytes {
        *byte = if let Fill::Byte(byte) = fill { byte } else { random.below(256) as u8 };
    }
    if let Fill::Plausible | Fill::Byte(_) = fill {
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            for at in halves(format) {
                // From 2^-9 to just under 1, of either sign.
                let half = 0x1800 + random.below(0x2400) as u16 + 0x8000 * random.below(2) as u16;
                block[*at..at + 2].copy_from_slice(&half.to_le_bytes());
            }
        }
    }
    bytes
}

/// Some ordinary positions, one with outliers, and one each of levels at the ends of the range.
fn positions(count: usize, cols: usize, random: &mut Random) -> Vec<f32> {
    let mut x = Vec::new();
    for position in 0..count {
        for _ in 0..cols {
            let uniform = random.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0;
            x.push(match position % 5 {
                1 => uniform.powi(9) * 1e6,
                2 => 3.5,
                3 => 0.25f32.copysign(uniform),
                4 => uniform * if random.below(3) == 0 { 0.0 } else { 1e-33 },
                _ => uniform,
            });
        }
    }
    x
}

fn groups(x: &[f32]) -> Vec<Group> {
    let mut groups = vec![Group::zeroed(); x.len() / GROUP];
    quantize(x, &mut groups);
    groups
}

#[test]
fn the_definition_is_near_exact_arithmetic() {
    let seed = 1;
    let mut random = Random::new(seed);
    for format in formats() {
        for cols in [format.block_len(), 3 * format.block_len(), 2048] {
            let bytes = weights(format, Fill::Plausible, 8, cols, &mut random);
            let x = positions(5, cols, &mut random);
            let groups = groups(&x);
            for row in bytes.chunks_exact(format.row_bytes(cols).unwrap()) {
                let mut decoded = vec![0.0; cols];
                decode(format, row, &mut decoded).unwrap();
                for x in groups.chunks_exact(cols / GROUP) {
                    let levels = x.iter().flat_map(|group| {
                        group
                            .levels
                            .as_flattened()
                            .iter()
                            .map(|level| f64::from(group.scale) * f64::from(*level))
                    });
                    let products = decoded.iter().zip(levels).map(|(w, x)| f64::from(*w) * x);
                    let (sum, magnitude) = products.fold((0.0, 0.0), |(s, m), p| (s + p, m + p.abs()));
                    let found = f64::from(scalar::dot(format, row, x));
                    // A minimum may cancel what the levels add up to, so both count on their own:
                    // up to 15 times the magnitude, of which each f32 operation may lose 2^-24.
                    let allowed = magnitude * 16.0 * 6.0 * f64::from(f32::EPSILON);
                    assert!(
                        (found - sum).abs() <= allowed,
                        "seed {seed}, {format}, {cols} columns: {found}, exactly {sum}"
                    );
                }
            }
        }
    }
}

#[test]
fn activations_are_within_half_a_level() {
    let mut random = Random::new(2);
    let x = positions(10, 512, &mut random);
    for (x, group) in x.chunks_exact(GROUP).zip(groups(&x)) {
        let largest = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        for (x, level) in x.iter().zip(group.levels.as_flattened()) {
            let error = (x - group.scale * f32::from(*level)).abs();
            assert!(error <= largest / 127.0 * 0.500_001 || largest < 1e-30, "{x} became {level}");
        }
    }
}

/// The bits, but all NaNs are one.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| if x.is_nan() { f32::NAN } else { *x }.to_bits()).collect()
}

/// As many workers as asked for, each piece on its own thread, the last one first.
#[derive(Debug)]
struct Threads(usize);

impl Workers for Threads {
    fn count(&self) -> usize {
        self.0
    }

    fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        assert!(pieces <= self.0);
        std::thread::scope(|scope| {
            for piece in (0..pieces).rev() {
                scope.spawn(move || work(piece));
            }
        });
    }
}

/// One product by one back end; rows come in tiles of `tile` rows, at any address.
struct Case<'c> {
    format: Format,
    bytes: &'c [u8],
    cols: usize,
    x: &'c [Group],
    tile: usize,
}

impl Case<'_> {
    fn run(&self, backend: Backend, workers: &dyn Workers, misalign: usize) -> Vec<f32> {
        let row_bytes = self.format.row_bytes(self.cols).unwrap();
        let of = self.bytes.len() / row_bytes;
        let mut out = vec![f32::MAX; self.x.len() / (self.cols / GROUP) * of];
        let mut first = 0;
        for tile in self.bytes.chunks(self.tile * row_bytes) {
            let copy = [&[0xaa; 16][..misalign], tile].concat();
            let bytes = &copy[misalign..];
            let rows = WeightRows { format: self.format, bytes, row_bytes, first, of };
            matmul_groups(backend, workers, rows, self.x, &mut out);
            first += tile.len() / row_bytes;
        }
        out
    }

    fn definition(&self) -> Vec<f32> {
        let rows = || self.bytes.chunks_exact(self.format.row_bytes(self.cols).unwrap());
        let x = self.x.chunks_exact(self.cols / GROUP);
        x.flat_map(|x| rows().map(|row| scalar::dot(self.format, row, x))).collect()
    }
}

fn integer_backends() -> Vec<Backend> {
    let backends: Vec<_> = Backend::available().filter(|backend| backend.is_integer()).collect();
    println!(
        "back ends: {}",
        backends.iter().fold(String::new(), |mut all, backend| {
            let _ = write!(all, "{backend} ");
            all
        })
    );
    backends
}

/// Every back end on one product, in one tile and in several.
fn check(format: Format, fill: Fill, (rows, cols, count): (usize, usize, usize), seed: u64) {
    let mut random = Random::new(seed);
    let bytes = weights(format, fill, rows, cols, &mut random);
    let x = groups(&positions(count, cols, &mut random));
    let case = Case { format, bytes: &bytes, cols, x: &x, tile: rows };
    let expected = bits(&case.definition());
    for backend in Backend::available().filter(|backend| backend.is_integer()) {
        for (tile, misalign) in [(rows, seed as usize % 16), (19, 1), (rows.div_ceil(2), 7)] {
            let case = Case { tile, ..case };
            let found = bits(&case.run(backend, &Alone, misalign));
            assert_eq!(
                found, expected,
                "seed {seed}: {backend}, {format}, {fill:?}, {rows} x {cols}, {count} positions, \
                 tiles of {tile}, misaligned by {misalign}"
            );
        }
    }
}

#[test]
fn every_back_end_is_the_definition() {
    integer_backends();
    let mut seed = 100;
    for format in formats() {
        let block = format.block_len();
        for rows in [1, 7, 8, 9, 15, 16, 17, 32, 50] {
            for count in 1..=9 {
                seed += 1;
                check(format, Fill::Plausible, (rows, block * (1 + seed as usize % 3), count), seed);
            }
        }
        // Around the chunk of 512 columns and a tile's worth of positions.
        for blocks in [512 / block - 1, 512 / block, 512 / block + 1, 1024 / block + 1] {
            for count in [1, 2, 8, 33] {
                seed += 1;
                check(format, Fill::Plausible, (17, blocks.max(1) * block, count), seed);
            }
        }
    }
}

/// Other shapes and weights in every run. `OURO_SEED` repeats those of a failure, which tells it.
#[test]
fn shapes_and_weights_drawn_anew() {
    let given = std::env::var("OURO_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| RandomState::new().hash_one("kernels"));
    println!("OURO_SEED={seed}");
    let mut random = Random::new(seed);
    for _ in 0..60 {
        let format = formats()[random.below(formats().len())];
        let fill = [Fill::Plausible, Fill::Anything][random.below(2)];
        let blocks = 1 + random.below(1100 / format.block_len());
        let shape = (1 + random.below(70), blocks * format.block_len(), 1 + random.below(20));
        check(format, fill, shape, random.0);
    }
}

#[test]
fn extreme_weights() {
    let mut seed = 5000;
    for format in formats() {
        for fill in [0x00, 0x7f, 0x80, 0x81, 0xff].map(Fill::Byte).into_iter().chain([Fill::Anything; 5]) {
            for count in [1, 5, 13] {
                seed += 1;
                check(format, fill, (24, 512, count), seed);
            }
        }
    }
}

#[test]
fn activations_that_are_not_finite() {
    let mut random = Random::new(77);
    for format in formats() {
        let bytes = weights(format, Fill::Plausible, 16, 512, &mut random);
        let mut x = positions(3, 512, &mut random);
        (x[5], x[700]) = (f32::INFINITY, f32::NAN);
        let x = groups(&x);
        let case = Case { format, bytes: &bytes, cols: 512, x: &x, tile: 16 };
        let expected = case.definition();
        assert!(expected[..32].iter().all(|x| x.is_nan()) && expected[32..].iter().all(|x| x.is_finite()));
        for backend in integer_backends() {
            assert_eq!(bits(&case.run(backend, &Alone, 3)), bits(&expected), "{backend}, {format}");
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let mut random = Random::new(78);
    for format in formats() {
        // Large enough for seven pieces.
        let (rows, cols, count) = (1000, 512, 5);
        let bytes = weights(format, Fill::Plausible, rows, cols, &mut random);
        let x = groups(&positions(count, cols, &mut random));
        let case = Case { format, bytes: &bytes, cols, x: &x, tile: rows };
        let expected = bits(&case.definition());
        for backend in integer_backends() {
            for threads in [1, 2, 3, 7] {
                let found = bits(&case.run(backend, &Threads(threads), 0));
                assert_eq!(found, expected, "{backend}, {format}, {threads} threads");
            }
        }
    }
}

#[test]
fn lengths_that_do_not_agree_write_nothing() {
    let bytes = [0; 4 * 18];
    let x = [Group { scale: 1.0, levels: [[1; 16]; 2], ..Group::zeroed() }; 2];
    let right = WeightRows { format: Format::Q4_0, bytes: &bytes, row_bytes: 36, first: 0, of: 2 };
    for (rows, x, out) in [
        (WeightRows { row_bytes: 0, ..right }, &x[..], 2),
        (WeightRows { row_bytes: 35, ..right }, &x, 2),
        (WeightRows { first: 1, ..right }, &x, 2),
        (WeightRows { first: usize::MAX, ..right }, &x, 2),
        (WeightRows { of: usize::MAX, ..right }, &x, 2),
        (WeightRows { format: Format::F32, ..right }, &x, 2),
        (right, &x[..1], 2),
        (right, &x, 1),
        (right, &x, 3),
    ] {
        for backend in integer_backends() {
            let mut out = vec![5.0; out];
            matmul_groups(backend, &Alone, rows, x, &mut out);
            assert!(out.iter().all(|x| *x == 5.0), "{backend}: {rows:?}");
        }
    }
}

#[test]
fn back_ends_by_name() {
    for name in Backend::NAMES {
        match Backend::named(name) {
            Ok(backend) => assert_eq!(backend.name(), *name),
            Err(error) => assert_eq!(error, NoBackend::Unavailable),
        }
    }
    assert_eq!(Backend::named("scalar"), Ok(Backend::SCALAR));
    assert_eq!(Backend::named("mmx"), Err(NoBackend::Unknown));
    assert_eq!(Backend::choose(), (Backend::available().last().unwrap(), None));
    for _ in 0..2 {
        assert_eq!((Backend::fastest(), Backend::refused()), Backend::choose());
    }
    for backend in Backend::available() {
        assert_eq!(backend.check(), Ok(()));
    }
    // The standard library's opinion of this CPU.
    #[cfg(target_arch = "x86_64")]
    let expected = [
        ("avx2", is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")),
        ("avxvnni", is_x86_feature_detected!("avxvnni")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl")),
        ("neon", false),
    ];
    #[cfg(target_arch = "aarch64")]
    let expected = [
        ("neon", true),
        (
            "dotprod",
            cfg!(any(feature = "std", target_feature = "dotprod"))
                && std::arch::is_aarch64_feature_detected!("dotprod"),
        ),
        (
            "i8mm",
            cfg!(any(feature = "std", target_feature = "i8mm"))
                && std::arch::is_aarch64_feature_detected!("i8mm"),
        ),
        ("avx2", false),
    ];
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    for (name, has) in expected {
        assert_eq!(Backend::named(name).is_ok(), has, "{name}");
    }
}
