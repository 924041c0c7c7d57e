//! The Hadamard transform of heads' vectors: `README.md`, "KV cache".

/// How many values of a vector of `head_dim` are transformed together: the largest power of two that
/// divides it.
pub(crate) fn block(head_dim: usize) -> usize {
    head_dim & head_dim.wrapping_neg()
}

/// Replaces each `block` values, a power of two, by their sums with `block` patterns of signs. Of one
/// value nothing changes.
pub(crate) fn transform(x: &mut [f32], block: usize) {
    let mut half = 1;
    while half < block {
        for pair in x.chunks_exact_mut((2 * half).max(1)) {
            let Some((low, high)) = pair.split_at_mut_checked(half) else { return };
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

/// Undoes [`transform`], but for rounding: to transform twice is to multiply by `block`.
pub(crate) fn inverse(x: &mut [f32], block: usize) {
    if block > 1 {
        transform(x, block);
        let part = 1.0 / block as f32;
        for x in x {
            *x *= part;
        }
    }
}
