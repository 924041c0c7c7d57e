//! Sorting without panicking paths, which the sorts in `core` have.

/// Fills `order` with 0, 1, 2, ... and sorts it by `key`, then by number.
pub(crate) fn sort_by(order: &mut [u32], key: impl Fn(u32) -> u64) {
    for (number, place) in (0..).zip(order.iter_mut()) {
        *place = number;
    }
    sort_by_key(order, |number| (key(number), number));
}

/// Sorts `values` by `key`: n log n in the worst case, in place; equal keys in any order.
pub(crate) fn sort_by_key<T: Copy, K: Ord>(values: &mut [T], key: impl Fn(T) -> K) {
    // Heap sort.
    let len = values.len();
    for root in (0..len / 2).rev() {
        sift_down(values, root, &key);
    }
    for end in (1..len).rev() {
        swap(values, 0, end);
        if let Some(heap) = values.get_mut(..end) {
            sift_down(heap, 0, &key);
        }
    }
}

fn sift_down<T: Copy, K: Ord>(heap: &mut [T], mut root: usize, key: &impl Fn(T) -> K) {
    let key = |heap: &[T], at: usize| heap.get(at).map(|value| key(*value));
    loop {
        let left = root.saturating_mul(2).saturating_add(1);
        let right = left.saturating_add(1);
        // A missing child has the key None, below all others.
        let child = if key(heap, right) > key(heap, left) { right } else { left };
        if key(heap, child) <= key(heap, root) {
            return;
        }
        swap(heap, root, child);
        root = child;
    }
}

fn swap<T>(values: &mut [T], a: usize, b: usize) {
    if let Ok([a, b]) = values.get_disjoint_mut([a, b]) {
        core::mem::swap(a, b);
    }
}

#[cfg(test)]
mod tests {
    use super::{sort_by, sort_by_key};
    use std::vec::Vec;

    #[test]
    fn sorts_like_the_standard_library() {
        for len in 0..70u32 {
            let values: Vec<u32> = (0..len).map(|i| i.wrapping_mul(0x9E37_79B9) >> 27).collect();
            let (mut found, mut expected) = (values.clone(), values.clone());
            sort_by_key(&mut found, |value| value);
            expected.sort_unstable();
            assert_eq!(found, expected);

            let mut order: Vec<u32> = (0..len).collect();
            let mut expected = order.clone();
            sort_by(&mut order, |number| values[number as usize].into());
            expected.sort_by_key(|number| values[*number as usize]);
            assert_eq!(order, expected);
        }
    }
}
