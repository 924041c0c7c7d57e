//! Against the formula in f64 on the same stored K and V; and the same bits for every back end, any
//! number of threads, and however positions share a pass.

use super::*;
use crate::arena::Arena;
use crate::kernels::Alone;
use crate::kernels::elements::{Source, UNIT};
use crate::kernels::halves::Software;
use crate::kv::Stored;
use crate::kv::{KvSettings, KvShape, KvSharing, KvType};
use std::vec::Vec;
use std::{print, println, vec};

const ELEMENTS: [KvType; 4] = [KvType::F32, KvType::F16, KvType::Int8, KvType::Int4];

/// SplitMix64: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// Uniform within -1..1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn vector(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| self.unit() * scale).collect()
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    element: KvType,
    sharing: KvSharing,
    kv_heads: usize,
    group: usize,
    head_dim: usize,
    /// Positions in the cache, then in flight.
    older: usize,
    rows: usize,
}

const LOOPS: usize = 3;

impl Case {
    /// A cache in the second loop of a pass over `rows`, after `older` positions of various depths.
    fn cache(&self, random: &mut Random) -> KvCache<'static> {
        let window = if self.sharing == KvSharing::PerLoop { 0 } else { 2 };
        let settings = KvSettings { sharing: self.sharing, element: self.element, window };
        let shape = KvShape {
            layers: 1,
            loops: LOOPS,
            positions: self.older + self.rows,
            rows: self.rows.max(5),
            heads: self.kv_heads,
            head_dim: self.head_dim,
        };
        let mut measure = Arena::measure();
        KvCache::carve(&mut measure, settings, shape).unwrap();
        let memory = vec![0u128; measure.used() / 16 + 1].leak();
        let mut kv =
            KvCache::carve(&mut Arena::new(bytemuck::cast_slice_mut(memory)), settings, shape).unwrap();
        let width = self.kv_heads * self.head_dim;
        let mut write = |kv: &mut KvCache<'_>, rows: usize, loops: usize| {
            kv.begin(rows);
            for (t, row) in (0..loops).flat_map(|t| (0..rows).map(move |row| (t, row))) {
                kv.write(0, t, row, &mut random.vector(width, 2.0), &mut random.vector(width, 3.0));
            }
        };
        let mut left = self.older;
        while left > 0 {
            let (rows, depth) = (left.min(5), 1 + left % LOOPS);
            write(&mut kv, rows, depth);
            kv.finish(depth);
            left -= rows;
        }
        write(&mut kv, self.rows, 2);
        kv
    }

    fn heads<'c>(&self, kv: &'c KvCache<'c>) -> Heads<'c> {
        let &Case { kv_heads, group, head_dim, rows, .. } = self;
        Heads { kv, layer: 0, t: 1, rows, kv_heads, group, head_dim }
    }

    fn q(&self, random: &mut Random) -> Vec<f32> {
        random.vector(self.rows * self.kv_heads * self.group * self.head_dim, 1.5)
    }
}

/// A stored vector, its transform undone if it has one: `transformed` values together.
fn vector(stored: Stored<'_>, head_dim: usize, transformed: usize) -> Vec<f64> {
    let scale = stored.scale(0).map_or(1.0, f64::from);
    let halves = (0..2 * head_dim.div_ceil(UNIT)).flat_map(|i| stored.widen(Software, i / 2, i % 2));
    let x: Vec<f64> = halves.map(|x| f64::from(x) * scale).take(head_dim).collect();
    // The matrix of the transform by its entries: -1 to the number of ones that both indices have.
    let sign = |i: usize, j: usize| if (i & j).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
    let undone = |x: &[f64], i: usize| x.iter().enumerate().map(|(j, x)| sign(i, j) * x).sum::<f64>();
    x.chunks(transformed)
        .flat_map(|x| (0..transformed).map(move |i| undone(x, i) / transformed as f64))
        .collect()
}

fn formula(case: &Case, kv: &KvCache<'_>, q: &[f32]) -> Vec<f64> {
    let mut out = Vec::new();
    for (query, q) in q.chunks_exact(case.head_dim).enumerate() {
        let heads = case.kv_heads * case.group;
        let (row, kv_head) = (query / heads, query % heads / case.group);
        let positions = 0..kv.len() + row + 1;
        let rows = positions.map(|j| kv.rows(kv.run((0, 1), row, j, j + 1), kv_head));
        let rows: Vec<[Vec<f64>; 2]> =
            rows.map(|rows| rows.map(|stored| vector(stored, case.head_dim, kv.transformed()))).collect();
        let score = |k: &[f64]| {
            k.iter().zip(q).map(|(k, q)| k * f64::from(*q)).sum::<f64>() / (case.head_dim as f64).sqrt()
        };
        let weights: Vec<f64> = rows.iter().map(|[k, _]| score(k).exp()).collect();
        let sum: f64 = weights.iter().sum();
        out.extend(
            (0..case.head_dim)
                .map(|d| weights.iter().zip(&rows).map(|(weight, [_, v])| weight / sum * v[d]).sum::<f64>()),
        );
    }
    out
}

/// As small cores have it, whatever this one is.
#[derive(Clone, Copy)]
struct Compact;

impl Halves for Compact {
    const COMPACT: bool = true;

    type Lanes = [f32; LANES];

    fn load(self, values: &[f32; LANES]) -> [f32; LANES] {
        *values
    }

    fn store(self, lanes: [f32; LANES]) -> [f32; LANES] {
        lanes
    }

    fn widen(self, halves: &[half::f16; LANES]) -> [f32; LANES] {
        Software.widen(halves)
    }

    fn integers(self, levels: &[i8; LANES]) -> [f32; LANES] {
        Software.integers(levels)
    }

    fn add(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        Software.add(a, b)
    }

    fn mul(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        Software.mul(a, b)
    }

    fn scale(self, a: [f32; LANES], b: f32) -> [f32; LANES] {
        Software.scale(a, b)
    }

    fn sum(self, lanes: [f32; LANES]) -> f32 {
        Software.sum(lanes)
    }

    fn call<P: Portable>(self, work: P) {
        work.run(self);
    }
}

/// As many workers as asked for, each piece on its own thread, the last one first.
#[derive(Debug)]
struct Threads(usize);

impl Workers for Threads {
    fn count(&self) -> usize {
        self.0
    }

    fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for piece in (0..pieces).rev() {
                scope.spawn(move || work(piece));
            }
        });
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for element in ELEMENTS {
        for sharing in KvSharing::ALL {
            for (kv_heads, group, head_dim) in [(2, 1, 32), (1, 3, 64), (3, 4, 16), (1, 9, 80)] {
                for (older, rows) in [(0, 1), (0, 40), (31, 1), (32, 1), (33, 3), (70, 9)] {
                    cases.push(Case { element, sharing, kv_heads, group, head_dim, older, rows });
                }
            }
        }
    }
    cases
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| if x.is_nan() { f32::NAN } else { *x }.to_bits()).collect()
}

#[test]
fn near_the_formula_and_the_same_everywhere() {
    let mut worst = 0.0f64;
    for (seed, case) in cases().into_iter().enumerate() {
        let random = &mut Random(seed as u64);
        let kv = case.cache(random);
        let q = case.q(random);
        let mut out = vec![f32::NAN; q.len()];
        attention(Backend::SCALAR, &Alone, case.heads(&kv), &mut q.clone(), &mut out);
        for (found, exact) in out.iter().zip(formula(&case, &kv, &q)) {
            worst = worst.max((f64::from(*found) - exact).abs());
            // Values go up to 3; scores to 30 or so, of which an ulp is 2e-6.
            assert!(
                (f64::from(*found) - exact).abs() < 1e-5,
                "seed {seed}, {case:?}: {found}, exactly {exact}"
            );
        }
        for backend in Backend::available() {
            let mut other = vec![0.0; q.len()];
            attention(backend, &Alone, case.heads(&kv), &mut q.clone(), &mut other);
            assert_eq!(bits(&other), bits(&out), "seed {seed}, {case:?}: {backend}");
        }
        let width = q.len() / case.rows;
        // One row at a time, and in code for all element types at once: the same bits.
        if case.rows > 1 {
            let transformed = kv.transformed();
            let mut q = q.clone();
            hadamard::transform(&mut q, transformed);
            for row in 0..case.rows {
                let part = row * width..(row + 1) * width;
                let job = Job {
                    heads: case.heads(&kv),
                    scale: 1.0 / libm::sqrtf(case.head_dim as f32) / transformed as f32,
                    q: &q,
                    out: out.as_mut_ptr(),
                    lifetime: PhantomData,
                };
                let before = out[part.clone()].to_vec();
                for head in 0..case.kv_heads {
                    for query in row * case.group..(row + 1) * case.group {
                        // SAFETY: nobody else is here.
                        let mut tile = unsafe { Tile::new(&job, head, query..query + 1) };
                        tile.run(Compact);
                    }
                }
                hadamard::inverse(&mut out[part.clone()], transformed);
                assert_eq!(bits(&out[part]), bits(&before), "seed {seed}, {case:?}: row {row} alone");
            }
        }
    }
    println!("worst error {worst:.1e}");
}

#[test]
fn threads_change_no_bit() {
    let case = Case {
        element: KvType::Int8,
        sharing: KvSharing::Last,
        kv_heads: 5,
        group: 3,
        head_dim: 64,
        older: 100,
        rows: 37,
    };
    let random = &mut Random(9);
    let kv = case.cache(random);
    let q = case.q(random);
    let run = |workers: &dyn Workers| {
        let mut out = vec![0.0; q.len()];
        attention(Backend::fastest(), workers, case.heads(&kv), &mut q.clone(), &mut out);
        bits(&out)
    };
    let expected = run(&Alone);
    for threads in [2, 3, 7] {
        assert_eq!(run(&Threads(threads)), expected, "{threads} threads");
    }
}

#[test]
fn what_is_not_finite_shows() {
    let case = Case {
        element: KvType::F32,
        sharing: KvSharing::PerLoop,
        kv_heads: 1,
        group: 2,
        head_dim: 32,
        older: 0,
        rows: 50,
    };
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for element in ELEMENTS {
            let case = Case { element, ..case };
            let random = &mut Random(1);
            let mut kv = case.cache(random);
            let q = case.q(random);
            let (mut k, v) = (random.vector(32, 1.0), random.vector(32, 1.0));
            k[7] = bad;
            kv.write(0, 1, 40, &mut k.clone(), &mut v.clone());
            kv.write(0, 1, 45, &mut v.clone(), &mut k);
            let expected = {
                let mut out = vec![0.0; q.len()];
                attention(Backend::SCALAR, &Alone, case.heads(&kv), &mut q.clone(), &mut out);
                out
            };
            // Earlier positions do not see them; later ones are not numbers wherever the score is not
            // minus infinity, and from 45 on in any case.
            assert!(expected[..40 * 64].iter().all(|x| x.is_finite()), "{element:?}, {bad}");
            assert!(
                expected[45 * 64 + 7].is_nan() || expected[45 * 64 + 7].is_infinite(),
                "{element:?}, {bad}"
            );
            for backend in Backend::available() {
                let mut out = vec![0.0; q.len()];
                attention(backend, &Alone, case.heads(&kv), &mut q.clone(), &mut out);
                assert_eq!(bits(&out), bits(&expected), "{element:?}, {bad}: {backend}");
            }
        }
    }
}

/// What each type costs: errors of scores and of outputs, on vectors as they occur: normal, and
/// with a few large elements, as K has.
#[test]
fn error_of_each_element_type() {
    let random = &mut Random(3);
    let normal = |random: &mut Random| (0..12).map(|_| random.unit()).sum::<f32>() / 2.0;
    for outliers in [1.0, 4.0] {
        let x: Vec<f32> = (0..1 << 14)
            .map(|i| normal(random) * if i % 128 == 5 || i % 128 == 70 { outliers } else { 1.0 })
            .collect();
        let mut before = 0.0;
        print!("outliers {outliers}:");
        for element in ELEMENTS {
            let case = Case {
                element,
                sharing: KvSharing::PerLoop,
                kv_heads: 1,
                group: 1,
                head_dim: 128,
                older: 0,
                rows: 128,
            };
            let mut kv = case.cache(random);
            for (row, x) in x.chunks_exact(128).enumerate() {
                kv.write(0, 0, row, &mut x.to_vec(), &mut x.to_vec());
            }
            let (mut error, mut total) = (0.0, 0.0);
            for (row, x) in x.chunks_exact(128).enumerate() {
                let [stored, _] = kv.rows(kv.run((0, 0), row, row, row + 1), 0);
                for (stored, x) in vector(stored, 128, kv.transformed()).into_iter().zip(x) {
                    error += (stored - f64::from(*x)).powi(2);
                    total += f64::from(*x).powi(2);
                }
            }
            let relative = (error / total).sqrt();
            print!(" {element:?} {relative:.1e}");
            assert!(relative > before || element == KvType::F32, "{element:?}");
            assert!(relative < 0.25, "{element:?}: {relative}");
            before = relative;
        }
        println!();
    }
}
