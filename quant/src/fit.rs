//! Searches for the scale that loses least. They follow llama.cpp step by step, in the order of
//! its sums, so that the same values get the same bytes.

use crate::float::level;

/// Groups of smaller values count as zero.
pub(crate) const EPSILON: f32 = 1e-15;

/// The value of largest magnitude, the first of equals; 0 if there is none.
pub(crate) fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |best: f32, &x| if x.abs() > best.abs() { x } else { best })
}

/// The smallest and the largest value, the first of equals.
pub(crate) fn extent(values: &[f32]) -> (f32, f32) {
    values.iter().fold((f32::MAX, f32::MIN), |(min, max), &x| {
        (if x < min { x } else { min }, if x > max { x } else { max })
    })
}

/// How much an error in each value counts: importance of its column times a magnitude that lets
/// large values count for more.
pub(crate) fn weights<const N: usize>(values: &[f32; N], columns: &[f32; N], mean_square: f32) -> [f32; N] {
    let mut weights = *columns;
    for (weight, x) in weights.iter_mut().zip(values) {
        *weight *= libm::sqrtf(mean_square + x * x);
    }
    weights
}

/// Values as `scale * (level - half)`.
pub(crate) struct Symmetric<const N: usize> {
    pub(crate) scale: f32,
    pub(crate) levels: [u8; N],
}

/// Tries scales around the one that takes the largest value to level -`half`, and fits each to
/// its levels by least squares.
pub(crate) fn symmetric<const N: usize>(values: &[f32; N], weights: &[f32; N], half: f32) -> Symmetric<N> {
    let extreme = largest(values);
    if extreme.abs() < EPSILON {
        return Symmetric { scale: 0.0, levels: [0; N] };
    }
    let quantize = |per_unit: f32| values.map(|x| level(per_unit * x, -half, half - 1.0));
    // (sum of w x l, sum of w l l)
    let products = |levels: &[f32; N]| {
        let terms = values.iter().zip(weights).zip(levels);
        terms.fold((0.0, 0.0), |(lx, ll), ((x, w), l)| (lx + w * x * l, ll + w * l * l))
    };

    let mut levels = quantize(-half / extreme);
    let (lx, ll) = products(&levels);
    let mut scale = if ll == 0.0 { 0.0 } else { lx / ll };
    let mut gain = scale * lx;
    for step in (-9_i8..=9).filter(|&step| step != 0) {
        let candidate = quantize(-(half + 0.1 * f32::from(step)) / extreme);
        let (lx, ll) = products(&candidate);
        if ll > 0.0 && lx * lx > gain * ll {
            levels = candidate;
            scale = lx / ll;
            gain = scale * lx;
        }
    }
    Symmetric { scale, levels: levels.map(|level| (level + half) as u8) }
}

/// Which scales [`affine`] tries: those that spread the values over `top + first`,
/// `top + first + width`, … levels.
#[derive(Clone, Copy)]
pub(crate) struct Steps {
    pub(crate) first: f32,
    pub(crate) width: f32,
    pub(crate) last: u8,
}

/// The search that importance weights are worth.
pub(crate) const FINE: Steps = Steps { first: -0.9, width: 0.05, last: 36 };

/// Values as `scale * level + minimum`; the minimum is never above 0.
pub(crate) struct Affine<const N: usize> {
    pub(crate) scale: f32,
    pub(crate) minimum: f32,
    pub(crate) levels: [u8; N],
}

/// Tries a number of scales, and fits scale and minimum to the levels of each by least squares.
pub(crate) fn affine<const N: usize>(
    values: &[f32; N],
    weights: &[f32; N],
    top: f32,
    steps: Steps,
) -> Affine<N> {
    let (minimum, maximum) = extent(values);
    let mut minimum = if minimum > 0.0 { 0.0 } else { minimum };
    if maximum <= minimum {
        return Affine { scale: 0.0, minimum, levels: [0; N] };
    }
    let quantize = |per_unit: f32, minimum: f32| values.map(|x| level(per_unit * (x - minimum), 0.0, top));
    let error = |scale: f32, minimum: f32, levels: &[f32; N]| {
        let terms = values.iter().zip(weights).zip(levels);
        terms.fold(0.0, |sum, ((x, w), l)| {
            let difference = scale * l + minimum - x;
            sum + w * (difference * difference)
        })
    };
    let (sum_w, sum_x) =
        values.iter().zip(weights).fold((0.0, 0.0), |(sum_w, sum_x), (x, w)| (sum_w + w, sum_x + w * x));

    let per_unit = top / (maximum - minimum);
    let mut scale = 1.0 / per_unit;
    let mut levels = quantize(per_unit, minimum);
    let mut least = error(scale, minimum, &levels);
    for step in 0..=steps.last {
        // The minimum is that of the best fit so far.
        let wanted = steps.first + steps.width * f32::from(step) + top;
        let candidate = quantize(wanted / (maximum - minimum), minimum);
        let Some((new_scale, new_minimum)) = least_squares(values, weights, &candidate, sum_w, sum_x) else {
            continue;
        };
        let new_error = error(new_scale, new_minimum, &candidate);
        if new_error < least {
            (least, levels, scale, minimum) = (new_error, candidate, new_scale, new_minimum);
        }
    }
    Affine { scale, minimum, levels: levels.map(|level| level as u8) }
}

/// The scale and minimum that fit given levels best; `None` if those are all alike.
fn least_squares<const N: usize>(
    values: &[f32; N],
    weights: &[f32; N],
    levels: &[f32; N],
    sum_w: f32,
    sum_x: f32,
) -> Option<(f32, f32)> {
    let terms = values.iter().zip(weights).zip(levels);
    let (sum_l, sum_ll, sum_xl) = terms.fold((0.0, 0.0, 0.0), |(sum_l, sum_ll, sum_xl), ((x, w), l)| {
        let wl = w * l;
        (sum_l + wl, sum_ll + wl * l, sum_xl + wl * x)
    });
    let determinant = sum_w * sum_ll - sum_l * sum_l;
    if determinant.is_nan() || determinant <= 0.0 {
        return None;
    }
    let minimum = (sum_ll * sum_x - sum_l * sum_xl) / determinant;
    if minimum > 0.0 {
        return Some((sum_xl / sum_ll, 0.0));
    }
    Some(((sum_w * sum_xl - sum_x * sum_l) / determinant, minimum))
}

/// Values that are not negative as `scale * level`, levels 0 to `top`: tries scales, then moves
/// single levels while that helps. Returns the scale and the levels.
pub(crate) fn positive<const N: usize>(values: &[f32; N], weights: &[f32; N], top: f32) -> (f32, [u8; N]) {
    let (_, maximum) = extent(values);
    if maximum.is_nan() || maximum < EPSILON {
        return (0.0, [0; N]);
    }
    let quantize = |per_unit: f32| values.map(|x| level(per_unit * x, 0.0, top));
    let error = |per_unit: f32| {
        let scale = 1.0 / per_unit;
        let levels = quantize(per_unit);
        values.iter().zip(weights).zip(&levels).fold(0.0, |sum, ((x, w), l)| {
            let difference = x - scale * l;
            sum + w * difference * difference
        })
    };

    let mut per_unit = top / maximum;
    let mut least = error(per_unit);
    for step in (-4_i8..=4).filter(|&step| step != 0) {
        let candidate = (0.1 * f32::from(step) + top) / maximum;
        let new_error = error(candidate);
        if new_error < least {
            (least, per_unit) = (new_error, candidate);
        }
    }
    let mut levels = quantize(per_unit);
    let scale = settle(values, weights, top, &mut levels);
    (scale, levels.map(|level| level as u8))
}

/// Moves each level to where the least-squares scale of the others wants it, at most five times
/// round. Returns the scale of the result.
fn settle<const N: usize>(values: &[f32; N], weights: &[f32; N], top: f32, levels: &mut [f32; N]) -> f32 {
    let terms = values.iter().zip(weights).zip(&*levels);
    let (mut lx, mut ll) = terms.fold((0.0, 0.0), |(lx, ll), ((x, w), l)| (lx + w * x * l, ll + w * l * l));
    for _ in 0..5 {
        let mut moved = false;
        for ((x, w), l) in values.iter().zip(weights).zip(&mut *levels) {
            let (others_lx, others_ll) = (lx - w * x * *l, ll - w * *l * *l);
            if !(others_lx > 0.0 && others_ll > 0.0) {
                continue;
            }
            let wanted = level(x * others_ll / others_lx, 0.0, top);
            let (new_lx, new_ll) = (others_lx + w * x * wanted, others_ll + w * wanted * wanted);
            if wanted != *l && new_lx * new_lx * ll > lx * lx * new_ll {
                (*l, lx, ll, moved) = (wanted, new_lx, new_ll, true);
            }
        }
        if !moved {
            break;
        }
    }
    if ll > 0.0 { lx / ll } else { 0.0 }
}
