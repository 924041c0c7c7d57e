//! Products of random numbers, the same in every run. Also for `targets/wasm` and for
//! `tests/src/bin/kernel-instructions.rs`.

use bytemuck::Zeroable;
use core::hint::black_box;
use ouro_quant::Format;
use ouro_runtime::kernels::activations::{GROUP, Group, quantize};
use ouro_runtime::kernels::reference::WeightRows;
use ouro_runtime::kernels::{Alone, Backend, matmul_groups, scalar};

const MOST_ROWS: usize = 64;
const MOST_COLS: usize = 768;
/// Small cores have one path for any number of positions, others one each for up to 1, 2, 4, 8 and
/// more.
const SMALL: bool = cfg!(any(target_arch = "arm", target_arch = "riscv32", target_arch = "riscv64"));
/// Positions of a product that is checked.
const CHECKED: &[usize] = if SMALL { &[1, 2, 5] } else { &[1, 2, 4, 5, 8, 13] };
/// Positions of a product whose instructions are counted.
pub(crate) const COUNTED: &[usize] = if SMALL { &[1, 4] } else { &[1, 4, 32] };
const MOST_POSITIONS: usize = if SMALL { 5 } else { 32 };
/// Of Q8_0, the format that takes the most, with room to misalign it.
const MOST_BYTES: usize = MOST_ROWS * MOST_COLS / 32 * 34 + 4;

pub(crate) fn backends() -> impl Iterator<Item = Backend> {
    Backend::available().filter(|backend| backend.is_integer())
}

pub(crate) fn formats() -> impl Iterator<Item = Format> {
    Format::ALL.iter().copied().filter(|format| scalar::knows(*format))
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

/// One product.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code)] // read by Debug
pub(crate) struct Case {
    fill: Fill,
    rows: usize,
    cols: usize,
    positions: usize,
    misalign: usize,
    seed: u64,
}

/// Splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Uniform within -1..1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// Where the f16 fields of a block are.
fn halves(format: Format) -> &'static [usize] {
    match format {
        Format::Q4_0 | Format::Q8_0 => &[0],
        Format::Q6_K => &[208],
        _ => &[0, 2],
    }
}

fn fill_weights(format: Format, fill: Fill, bytes: &mut [u8], random: &mut Random) {
    bytes.fill_with(|| if let Fill::Byte(byte) = fill { byte } else { random.next() as u8 });
    if let Fill::Plausible | Fill::Byte(_) = fill {
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            for at in halves(format) {
                // From 2^-9 to just under 1, of either sign.
                let half = 0x1800 + (random.next() % 0x2400) as u16 + 0x8000 * (random.next() % 2) as u16;
                block[*at..at + 2].copy_from_slice(&half.to_le_bytes());
            }
        }
    }
}

/// Kinds of positions.
const KINDS: usize = 5;

/// Of five positions one ordinary, one each of levels at the ends of the range, one with numbers
/// about as small as are told from zero, and one that is not finite.
fn fill_activations(x: &mut [Group], cols: usize, random: &mut Random) {
    for (position, groups) in x.chunks_exact_mut(cols / GROUP).enumerate() {
        for group in groups {
            let mut values = [0.0; GROUP];
            for value in &mut values {
                let uniform = random.unit();
                *value = match position % KINDS {
                    0 => uniform,
                    1 => 3.5,
                    2 => 0.25f32.copysign(uniform),
                    3 => uniform * f32::from_bits((127 - 99) << 23),
                    _ if random.next().is_multiple_of(40) => f32::INFINITY,
                    _ => uniform * 1e30,
                };
            }
            quantize(&values, core::slice::from_mut(group));
        }
    }
}

/// Memory for one product.
struct Memory {
    bytes: [u8; MOST_BYTES],
    x: [Group; MOST_POSITIONS * MOST_COLS / GROUP],
    out: [f32; MOST_POSITIONS * MOST_ROWS],
}

impl Memory {
    fn new() -> Self {
        Self { bytes: [0; _], x: [Group::zeroed(); _], out: [0.0; _] }
    }

    fn run<T>(
        &mut self,
        format: Format,
        case: Case,
        work: impl FnOnce(WeightRows<'_>, &[Group], &mut [f32]) -> T,
    ) -> T {
        let Case { fill, rows, cols, positions, misalign, seed } = case;
        let mut random = Random(seed);
        let row_bytes = format.row_bytes(cols).unwrap();
        let bytes = &mut self.bytes[misalign..][..rows * row_bytes];
        let x = &mut self.x[..positions * cols / GROUP];
        let out = &mut self.out[..positions * rows];
        fill_weights(format, fill, bytes, &mut random);
        fill_activations(x, cols, &mut random);
        out.fill(f32::MAX);
        work(WeightRows { format, bytes, row_bytes, first: 0, of: rows }, x, out)
    }
}

/// The first case whose products are not those of the definition.
pub(crate) fn check(backend: Backend, format: Format) -> Option<Case> {
    let mut memory = Memory::new();
    let block = format.block_len();
    let mut seed = 1;
    for fill in [Fill::Plausible, Fill::Anything, Fill::Byte(0), Fill::Byte(0x80), Fill::Byte(0xff)] {
        for (rows, blocks) in [(1, 1), (2, 3), (3, 1), (4, 2), (5, 9), (7, 24), (16, 3), (17, 8), (35, 11)] {
            for &positions in CHECKED {
                let cols = block * blocks.min(MOST_COLS / block);
                let case = Case { fill, rows, cols, positions, misalign: seed as usize % 5 % 4, seed };
                let same = memory.run(format, case, |weights, x, out| {
                    matmul_groups(backend, &Alone, weights, x, out);
                    let rows = || weights.bytes.chunks_exact(weights.row_bytes);
                    let expected = x
                        .chunks_exact(cols / GROUP)
                        .flat_map(|x| rows().map(move |row| scalar::dot(format, row, x)));
                    expected.zip(&*out).all(|(expected, found)| {
                        expected.to_bits() == found.to_bits() || expected.is_nan() && found.is_nan()
                    })
                });
                if !same {
                    return Some(case);
                }
                seed += 1;
            }
        }
    }
    None
}

/// Has `measure` count the instructions of a product of usual size, and tells the products of
/// numbers in it.
pub(crate) fn count(
    measure: impl FnOnce(&mut dyn FnMut()) -> u64,
    backend: Backend,
    format: Format,
    positions: usize,
) -> (u64, usize) {
    let (rows, cols) = (MOST_ROWS, 512);
    let case = Case { fill: Fill::Plausible, rows, cols, positions, misalign: 0, seed: 7 };
    let instructions = Memory::new().run(format, case, |weights, x, out| {
        measure(&mut || matmul_groups(black_box(backend), &Alone, black_box(weights), x, black_box(out)))
    });
    (instructions, rows * cols * positions)
}
