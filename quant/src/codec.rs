//! Whole rows: lengths are checked here, once, and blocks are found.

use crate::block::{Block, Importance};
use crate::{Format, QuantError};
use bytemuck::Pod;

/// The largest magnitude that an encoder of blocks sees. No format's scale reaches as far, and
/// sums of products of such values stay finite.
const MAX_VALUE: f32 = (1_u32 << 30) as f32;
/// The largest importance weight, for the same reason.
const MAX_WEIGHT: f32 = (1_u64 << 40) as f32;

/// Decodes `bytes` into `out`: one row or several, as long as they are whole blocks.
///
/// # Errors
/// [`QuantError::PartialBlock`] or [`QuantError::Bytes`] if the lengths do not match,
/// [`QuantError::NotBuilt`] for a format that was left out; nothing is written then.
pub fn decode(format: Format, bytes: &[u8], out: &mut [f32]) -> Result<(), QuantError> {
    check_lengths(format, out.len(), bytes.len())?;
    let decode = format.codec().decode.ok_or(QuantError::NotBuilt { format })?;
    decode(bytes, out);
    Ok(())
}

/// Encodes `values` into `out`.
///
/// `importance` has one weight for each column; `values` is then one row or several of that
/// length. An error of the encoding counts in proportion to its column's weight, so columns of
/// weight 0 may come out as anything. F32, F16, BF16 and Q8_0 have nothing to choose and take no
/// notice of it.
///
/// F32, F16 and BF16 keep infinities and NaNs (F16 turns what is too large into an infinity). In
/// all other formats one such value would spoil its block, and is an error.
///
/// # Errors
/// [`QuantError`]: [`NotBuilt`](QuantError::NotBuilt), [`NoEncoder`](QuantError::NoEncoder), lengths that do not match
/// ([`PartialBlock`](QuantError::PartialBlock), [`Bytes`](QuantError::Bytes),
/// [`Columns`](QuantError::Columns)), or numbers that cannot be used
/// ([`Weight`](QuantError::Weight), [`Range`](QuantError::Range)). In the last case `out`
/// may be partly written.
pub fn encode(
    format: Format,
    values: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), QuantError> {
    if !format.is_built() {
        return Err(QuantError::NotBuilt { format });
    }
    let encode = format.encoder().ok_or(QuantError::NoEncoder { format })?;
    check_lengths(format, values.len(), out.len())?;
    let columns = match importance {
        Some(weights) => check_weights(format, values.len(), weights)?,
        None => values.len(),
    };
    let row_bytes = format.row_bytes(columns).unwrap_or_default();
    // Not chunks_exact, whose length leaves a division by zero in small builds.
    let (mut rest, mut out, mut start) = (values, out, 0);
    while !rest.is_empty()
        && let Some(row) = rest.split_off(..columns)
        && let Some(out) = out.split_off_mut(..row_bytes)
    {
        encode(row, importance, out).map_err(|index| QuantError::Range { format, index: start + index })?;
        start += columns;
    }
    Ok(())
}

fn check_lengths(format: Format, values: usize, found: usize) -> Result<(), QuantError> {
    let expected = format.row_bytes(values).ok_or(QuantError::PartialBlock { format, values })?;
    if found == expected { Ok(()) } else { Err(QuantError::Bytes { format, values, found }) }
}

/// The length of a row.
fn check_weights(format: Format, values: usize, weights: &[f32]) -> Result<usize, QuantError> {
    let columns = weights.len();
    if values.checked_rem(columns) != Some(0) || format.row_bytes(columns).is_none() {
        return Err(QuantError::Columns { format, values, weights: columns });
    }
    match weights.iter().position(|weight| !(0.0..=MAX_WEIGHT).contains(weight)) {
        Some(column) => Err(QuantError::Weight { column }),
        None => Ok(columns),
    }
}

/// A format as numbers and functions.
pub(crate) struct Codec {
    pub(crate) block_len: usize,
    pub(crate) block_bytes: usize,
    /// `None` if the build leaves it out.
    decode: Option<Decode>,
}

/// Decodes whole blocks.
type Decode = fn(&[u8], &mut [f32]);

/// Encodes one row; the error is the index of a block's first value.
pub(crate) type EncodeRow = fn(&[f32], Option<&[f32]>, &mut [u8]) -> Result<(), usize>;

impl Codec {
    pub(crate) const fn of<B: Block>(built: bool) -> Self {
        const { assert!(align_of::<B>() == 1 && align_of::<B::Values>() == align_of::<f32>()) };
        Self {
            block_len: size_of::<B::Values>() / size_of::<f32>(),
            block_bytes: size_of::<B>(),
            decode: if built { Some(decode_blocks::<B>) } else { None },
        }
    }
}

/// Apart from the rest, so that an image that only decodes has no encoder in it.
pub(crate) const fn encoder<B: Block>() -> Option<EncodeRow> {
    if B::ENCODE.is_some() { Some(encode_row::<B>) } else { None }
}

fn decode_blocks<B: Block>(bytes: &[u8], out: &mut [f32]) {
    for (block, values) in blocks::<u8, B>(bytes).iter().zip(blocks_mut::<f32, B::Values>(out)) {
        block.decode(values);
    }
}

fn encode_row<B: Block>(values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) -> Result<(), usize> {
    let Some(encode) = B::ENCODE else { return Ok(()) };
    let len = const { Codec::of::<B>(false).block_len };
    // A value of its own keeps what it is; values that share a scale must be numbers.
    if len > 1
        && let Some(bad) = values.iter().position(|value| value.is_nan() || value.abs() > MAX_VALUE)
    {
        return Err(bad - bad % len);
    }
    let row_mean_square = importance.map_or(0.0, |_| mean_square(values));
    let mut columns = blocks::<f32, B::Values>(importance.unwrap_or_default()).iter();
    let pairs = blocks_mut::<u8, B>(out).iter_mut().zip(blocks::<f32, B::Values>(values));
    for (i, (out, values)) in pairs.enumerate() {
        let importance = columns.next().map(|columns| Importance { columns, row_mean_square });
        *out = encode(values, importance.as_ref()).ok_or(i * len)?;
    }
    Ok(())
}

fn mean_square(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |sum, x| sum + x * x) / values.len() as f32
}

/// One view of values or blocks as another. Lengths and alignment have been checked, so it never comes out empty.
fn blocks<T: Pod, B: Pod>(slice: &[T]) -> &[B] {
    bytemuck::try_cast_slice(slice).unwrap_or_default()
}

fn blocks_mut<T: Pod, B: Pod>(slice: &mut [T]) -> &mut [B] {
    bytemuck::try_cast_slice_mut(slice).unwrap_or_default()
}
