//! Our own exp, sigmoid, SiLU, sine, cosine and reciprocal square root, against f64.
//!
//! With `--nocapture` this prints the table of `runtime/src/kernels/README.md`, "Functions".

use ouro_runtime::kernels::math::{exp, rsqrt, sigmoid, silu, sin_cos};

/// The error of `found` in units in the last place of an f32 at `exact`.
fn ulps(found: f32, exact: f64) -> f64 {
    let magnitude = (exact.abs() as f32).max(f32::MIN_POSITIVE);
    let unit = f64::from(magnitude.next_up()) - f64::from(magnitude);
    (f64::from(found) - exact).abs() / unit
}

/// Every `step`th f32 from `low` to `high`, which are both positive.
fn every(step: usize, low: f32, high: f32) -> impl Iterator<Item = f32> {
    (low.to_bits()..=high.to_bits()).step_by(step).map(f32::from_bits)
}

/// The worst error over some arguments, where it is, and how many there were.
fn worst(name: &str, range: &str, errors: impl Iterator<Item = (f32, f64)>) -> f64 {
    let (mut worst, mut at, mut count) = (0.0, 0.0, 0u64);
    for (x, error) in errors {
        count += 1;
        assert!(!error.is_nan(), "{name}({x})");
        if error > worst {
            (worst, at) = (error, x);
        }
    }
    println!("| {name} | {range} | {worst:.3} | {at:e} | {count} |");
    worst
}

fn both_signs(numbers: impl Iterator<Item = f32>) -> impl Iterator<Item = f32> {
    numbers.flat_map(|x| [x, -x])
}

#[test]
fn errors_in_ulp() {
    // An odd step meets all low bits. The exponents of the argument are all there.
    const STEP: usize = 499;
    println!("| function | argument | worst error (ulp) | at | arguments |\n|---|---|---|---|---|");

    let negative = every(STEP, f32::MIN_POSITIVE, 86.6).map(|x| -x);
    let positive = every(STEP, f32::MIN_POSITIVE, 88.72);
    let errors = |x: f32| (x, ulps(exp(x), f64::from(x).exp()));
    assert!(worst("exp", "-86.6 to 0: all of softmax", negative.map(errors)) < 1.0);
    assert!(worst("exp", "0 to 88.72", positive.map(errors)) < 1.0);
    // Each f32 from 1/2 to 1, and with it every mantissa.
    assert!(worst("exp", "-1 to -1/2, each", every(1, 0.5, 1.0).map(|x| errors(-x))) < 1.0);

    let exact = |x: f32| 1.0 / (1.0 + f64::from(-x).exp());
    let arguments = || both_signs(every(STEP, f32::MIN_POSITIVE, 86.6));
    let errors = |x: f32| (x, ulps(sigmoid(x), exact(x)));
    assert!(worst("sigmoid", "-86.6 to 86.6", arguments().map(errors)) < 2.5);
    let errors = |x: f32| (x, ulps(silu(x), f64::from(x) * exact(x)));
    assert!(worst("silu", "-86.6 to 86.6", arguments().map(errors)) < 2.5);

    let angles = || both_signs(every(STEP, 1e-20, 1_048_576.0)).chain((0..1 << 20).map(|x| x as f32));
    let sin = angles().map(|x| (x, ulps(sin_cos(x)[0], f64::from(x).sin())));
    assert!(worst("sin", "-2^20 to 2^20", sin) < 0.501);
    let cos = angles().map(|x| (x, ulps(sin_cos(x)[1], f64::from(x).cos())));
    assert!(worst("cos", "-2^20 to 2^20", cos) < 0.501);
    let far = every(STEP, 1_048_576.0, 268_435_456.0);
    let far = far.map(|x| (x, ulps(sin_cos(x)[0], f64::from(x).sin())));
    assert!(worst("sin", "2^20 to 2^28", far) < 0.501);

    // Two binades: the rest differ by powers of two.
    let errors = |x: f32| (x, ulps(rsqrt(x), 1.0 / f64::from(x).sqrt()));
    assert!(worst("rsqrt", "1 to 4, each", every(1, 1.0, 4.0).map(errors)) < 1.5);
}

#[test]
fn exp_never_falls() {
    // Neighbours in order: what softmax and the policies compare.
    let mut before = 0.0;
    for x in every(101, 1e-9, 86.7).collect::<Vec<_>>().into_iter().rev() {
        let e = exp(-x);
        assert!(e >= before, "exp({}) = {e} < {before}", -x);
        before = e;
    }
}
