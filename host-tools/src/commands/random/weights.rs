//! Random tensors, as fast as a disk takes them.
//!
//! Blocks are not made one by one, which would mean quantizing billions of numbers: for every format
//! a few thousand are quantized once, and each tensor draws from them at random. That works for any
//! format without knowing its layout, and speed does not depend on what weights are.

use crate::error::Error;
use crate::gguf_writer::TensorInfo;
use ouro_quant::{Format, encode};
use ouro_runtime::sample::SplitMix64;

/// Values that are drawn together: at least a block, enough to be copied fast.
const UNIT: usize = 256;
/// Units to draw from.
const UNITS: usize = 4096;
/// Units that are handed on together.
const PIECE: usize = 4096;

/// Makes tensors one after another; their order counts.
pub(crate) struct Weights {
    random: SplitMix64,
    pools: Vec<Pool>,
}

impl Weights {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: SplitMix64::new(seed), pools: Vec::new() }
    }

    /// Weights of a row of `len`: their mean is 0, their standard deviation `1 / sqrt(len)`, so that
    /// what they multiply keeps its size.
    pub(super) fn vector(&mut self, len: usize) -> Vec<f32> {
        let scale = 1.0 / (len as f32).sqrt();
        (0..len).map(|_| scale * normal(&mut self.random)).collect()
    }

    /// Hands on the bytes of a tensor: ones for a vector, which is the weight of a norm, else
    /// weights as [`vector`](Self::vector) makes them.
    ///
    /// # Errors
    /// Those of `sink`.
    pub(crate) fn write(
        &mut self,
        info: &TensorInfo,
        mut sink: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let &[columns, ..] = &*info.dims else { return Ok(()) };
        if info.dims.len() == 1 {
            return sink(&1f32.to_le_bytes().repeat(columns as usize));
        }
        let index = self.pool(info.format, columns)?;
        let Self { random, pools } = self;
        let pool = &pools[index];
        let mut piece = Vec::with_capacity(PIECE * pool.unit);
        let mut left = info.len as usize;
        while left > 0 {
            piece.clear();
            for _ in 0..PIECE.min(left.div_ceil(pool.unit)) {
                piece.extend_from_slice(pool.draw(random));
            }
            piece.truncate(left);
            left -= piece.len();
            sink(&piece)?;
        }
        Ok(())
    }

    /// The index of the pool for rows of this length, which is made if there is none yet.
    fn pool(&mut self, format: Format, columns: u64) -> Result<usize, Error> {
        let is_it = |pool: &Pool| (pool.format, pool.columns) == (format, columns);
        if let Some(index) = self.pools.iter().position(is_it) {
            return Ok(index);
        }
        let pool = Pool::new(format, columns, &mut self.random)?;
        self.pools.push(pool);
        Ok(self.pools.len() - 1)
    }
}

/// Quantized weights to draw from.
struct Pool {
    format: Format,
    /// Length of the rows that they are for.
    columns: u64,
    /// Bytes of a unit.
    unit: usize,
    bytes: Vec<u8>,
}

impl Pool {
    fn new(format: Format, columns: u64, random: &mut SplitMix64) -> Result<Self, Error> {
        let bug = || anyhow::anyhow!("{format} has no blocks of {UNIT} values");
        let unit = format.row_bytes(UNIT).ok_or_else(bug)?;
        let scale = 1.0 / (columns as f32).sqrt();
        let values: Vec<f32> = (0..UNITS * UNIT).map(|_| scale * normal(random)).collect();
        let mut bytes = vec![0; UNITS * unit];
        encode(format, &values, None, &mut bytes).map_err(anyhow::Error::new)?;
        Ok(Self { format, columns, unit, bytes })
    }

    fn draw(&self, random: &mut SplitMix64) -> &[u8] {
        let start = random.bits() as usize % UNITS * self.unit;
        &self.bytes[start..start + self.unit]
    }
}

/// Almost normal with mean 0 and deviation 1: the sum of four uniform numbers, exact, so that it is
/// the same on every machine.
fn normal(random: &mut SplitMix64) -> f32 {
    let bits = random.bits();
    let sum: i32 = (0..4).map(|part| i32::from((bits >> (16 * part)) as i16)).sum();
    // Each is uniform in -32768..32768: deviation 65536 / sqrt(12), and twice that for four.
    const DEVIATION: f32 = 37837.2;
    sum as f32 / DEVIATION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let mut random = SplitMix64::new(1);
        let n = 1 << 18;
        let (sum, squares) = (0..n).fold((0.0, 0.0), |(sum, squares), _| {
            let x = f64::from(normal(&mut random));
            (sum + x, squares + x * x)
        });
        let (mean, variance) = (sum / f64::from(n), squares / f64::from(n));
        // Five deviations of the estimates.
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.01, "{mean} {variance}");
    }
}
