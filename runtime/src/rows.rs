//! Matrices row by row. `chunks_exact` would do, but where two are zipped their lengths are
//! divided by widths of which the compiler does not see that they are not zero: a panic that cannot
//! happen would stay in every image.

use core::iter;

/// Whole rows of `width` values; none if the width is 0.
pub(crate) fn rows<T>(mut matrix: &[T], width: usize) -> impl Iterator<Item = &[T]> {
    iter::from_fn(move || matrix.split_off(..width).filter(|row| !row.is_empty()))
}

/// [`rows`], to be written to.
pub(crate) fn rows_mut<T>(mut matrix: &mut [T], width: usize) -> impl Iterator<Item = &mut [T]> {
    iter::from_fn(move || matrix.split_off_mut(..width).filter(|row| !row.is_empty()))
}
