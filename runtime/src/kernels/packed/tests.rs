use super::{matmul, soft};
use crate::kernels::activations::{GROUP, Group, quantize};
use crate::kernels::job::Job;
use crate::kernels::reference::WeightRows;
use crate::kernels::scalar;
use bytemuck::Zeroable;
use ouro_quant::Format;
use std::vec;
use std::vec::Vec;

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Any bits, numbers at the ends of ranges, and numbers near each other.
    fn float(&mut self) -> f32 {
        const ENDS: [u32; 12] = [
            0,
            1,
            0x007f_ffff,
            0x0080_0000,
            0x7f7f_ffff,
            0x7f80_0000,
            0x7fc0_0000,
            0x3f80_0000,
            0x3400_0000,
            0x33ff_ffff,
            0x3380_0000,
            0x3380_0001,
        ];
        let kind = self.next() % 4;
        let bits = self.next() as u32;
        let sign = bits & 1 << 31;
        f32::from_bits(match kind {
            0 => bits,
            1 => sign | ENDS[bits as usize % ENDS.len()],
            2 => sign | bits & 0x007f_0000 | (0x7d + bits % 4) << 23,
            _ => sign | bits & 0x007f_ffff | (100 + (self.next() as u32) % 40) << 23,
        })
    }
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

#[test]
fn arithmetic_in_integers_is_ieee() {
    let mut random = Random(1);
    for _ in 0..2_000_000 {
        let (a, b) = (random.float(), random.float());
        let near = f32::from_bits(a.to_bits() ^ (1 << 31) ^ (random.next() as u32 & 15));
        let shift = [0, 8, 13, 24][random.next() as usize % 4];
        let integer = random.next() as i32 >> shift;
        let [m, n] = [(); 2].map(|()| random.next() as u32 & !0xff | 1 << 31);
        assert_eq!(soft::high_by_parts(m, n), soft::high_of_long(m, n), "{m:#x} {n:#x}");
        assert!(same(soft::times(a, b), a * b), "{a:e} * {b:e}");
        assert!(same(soft::times_integer(a, integer), a * integer as f32), "{a:e} * {integer}");
        assert!(same(soft::product(a, b, integer), (a * b) * integer as f32), "{a:e} * {b:e} * {integer}");
        assert!(same(soft::plus(a, b), a + b), "{a:e} + {b:e}");
        assert!(same(soft::plus(a, near), a + near), "{a:e} + {near:e}");
    }
    for bits in 0..=u16::MAX {
        let bytes = bits.to_le_bytes();
        assert!(same(soft::from_f16(bytes), ouro_quant::layout::from_f16(bytes)), "{bits:#06x}");
    }
}

#[test]
fn it_gives_the_definitions_bits() {
    let mut random = Random(2);
    for format in Format::ALL.iter().copied().filter(|format| scalar::knows(*format)) {
        for (rows, blocks) in [(1, 1), (2, 3), (3, 1), (5, 9), (6, 2)] {
            for fill in [None, Some(0), Some(0x80), Some(0xff)] {
                let cols = blocks * format.block_len();
                let row_bytes = blocks * format.block_bytes();
                let mut halves: Vec<u16> = vec![0; rows * row_bytes / 2];
                halves.fill_with(|| fill.map_or(random.next() as u16, |byte: u16| byte << 8 | byte));
                let bytes: &[u8] = bytemuck::cast_slice(&halves);
                let values: Vec<f32> = (0..3 * cols)
                    .map(|i| {
                        let uniform = (random.next() >> 40) as f32 / (1 << 23) as f32 - 1.0;
                        if i < cols { uniform } else { [0.25_f32, 1e-33][i % 2].copysign(uniform) }
                    })
                    .collect();
                let mut x = vec![Group::zeroed(); values.len() / GROUP];
                quantize(&values, &mut x);
                let mut out = vec![f32::MAX; 3 * rows];
                let weights = WeightRows { format, bytes, row_bytes, first: 0, of: rows };
                let job = Job::new(weights, &x, &mut out).unwrap();
                // SAFETY: nobody else computes these rows.
                assert!(unsafe { matmul(&job, 0..rows) });
                let all =
                    x.chunks(cols / GROUP).flat_map(|x| bytes.chunks(row_bytes).map(move |row| (row, x)));
                for ((row, x), found) in all.zip(&out) {
                    let expected = scalar::dot(format, row, x);
                    assert!(same(expected, *found), "{format}, {rows} rows of {blocks}: {expected} {found}");
                }
            }
        }
    }
}
