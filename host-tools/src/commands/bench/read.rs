//! The plain read that rates are compared with, here and in `benches/benches/kernels.rs`.

/// Reads all bytes once: eight lines of memory side by side, so that a core waits for none.
pub(crate) fn read(bytes: &[u8]) -> u64 {
    let mut sums = [0u64; 64];
    let (chunks, _) = bytes.as_chunks::<512>();
    for chunk in chunks {
        let (words, _) = chunk.as_chunks::<8>();
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}
