//! How far values are from those expected.

/// The largest absolute difference. A NaN would pass every comparison with a bound, and a missing
/// value every comparison of pairs, so neither gets through.
///
/// # Panics
/// If the lengths differ, or if a value is infinite or NaN.
#[must_use]
pub fn worst<T: Copy + Into<f64>>(found: &[T], expected: &[T]) -> f64 {
    assert_eq!(found.len(), expected.len(), "numbers of values");
    let pairs = found.iter().zip(expected).enumerate();
    let differences = pairs.map(|(index, (found, expected))| {
        let (found, expected): (f64, f64) = ((*found).into(), (*expected).into());
        assert!(found.is_finite() && expected.is_finite(), "value {index}: {found}, expected {expected}");
        (found - expected).abs()
    });
    differences.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::worst;
    use std::panic::catch_unwind;

    #[test]
    fn the_largest_difference() {
        assert_eq!(worst(&[1.0f32, 2.0, -3.0], &[1.5, 2.0, -1.0]), 2.0);
        assert!(catch_unwind(|| worst(&[1.0f32], &[1.0, 2.0])).is_err());
        assert!(catch_unwind(|| worst(&[f32::NAN], &[1.0])).is_err());
        assert!(catch_unwind(|| worst(&[1.0], &[f64::INFINITY])).is_err());
    }
}
