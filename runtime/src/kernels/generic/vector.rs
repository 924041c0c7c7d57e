//! What an instruction set has to offer.

/// A register of 32-bit lanes. Each lane belongs to one row of weights, so sums over a row stay
/// within a lane, in the order of the definition, whatever the register's width.
///
/// # Safety
/// All methods, and those of [`Dot`], may only be called where the instructions that they stand
/// for exist; those that take a pointer read or write what they say there.
pub(crate) trait Vector: Copy {
    /// The same register as f32 lanes.
    type Float: Copy;
    /// Rows side by side.
    const LANES: usize;

    /// 16 bytes of each row, the first row's at `from`, the others' `stride` bytes after one
    /// another: vector `i` of the result holds bytes `4i..4i + 4` of all rows.
    unsafe fn load_rows(from: *const u8, stride: usize) -> [Self; 4];
    /// The same number in all lanes.
    unsafe fn splat(value: i32) -> Self;
    /// `first * pair[0] + second * pair[1]` in all lanes.
    #[inline(always)]
    unsafe fn splat_pair(pair: &[i16; 2], first: i16, second: i16) -> Self {
        let [a, b] = pair.map(i32::from);
        // SAFETY: as the caller says.
        unsafe { Self::splat(i32::from(first) * a + i32::from(second) * b) }
    }
    unsafe fn and(self, other: Self) -> Self;
    unsafe fn or(self, other: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    /// Zeros come in from the left.
    unsafe fn shift_right<const BITS: i32>(self) -> Self;
    /// The sign comes in from the left.
    unsafe fn shift_right_signed<const BITS: i32>(self) -> Self;
    unsafe fn shift_left<const BITS: i32>(self) -> Self;
    /// The lanes as signed integers.
    unsafe fn to_float(self) -> Self::Float;
    /// `values[0] * factors[0] + values[1] * factors[1]`, where products and sum are below 2^24: so floats, which
    /// many CPUs multiply in half of the time, are exact. A zero may be -0, which changes no sum that begins at 0.
    #[inline(always)]
    unsafe fn weighted_sum(values: [Self; 2], factors: [Self; 2]) -> Self::Float {
        // SAFETY: as the caller says.
        unsafe {
            let first = Self::mul_floats(values[0].to_float(), factors[0].to_float());
            let second = Self::mul_floats(values[1].to_float(), factors[1].to_float());
            Self::add_floats(first, second)
        }
    }
    /// The low 16 bits of each lane as an f16; the others count for nothing.
    unsafe fn half_to_float(self) -> Self::Float;

    unsafe fn splat_float(value: f32) -> Self::Float;
    /// Reads [`LANES`](Self::LANES) numbers, at any address.
    unsafe fn load_floats(from: *const f32) -> Self::Float;
    /// Writes [`LANES`](Self::LANES) numbers, at any address.
    unsafe fn store_floats(to: *mut f32, value: Self::Float);
    unsafe fn add_floats(a: Self::Float, b: Self::Float) -> Self::Float;
    unsafe fn mul_floats(a: Self::Float, b: Self::Float) -> Self::Float;
    unsafe fn negate_floats(a: Self::Float) -> Self::Float;

    /// The same address of rows and the same stride, of which the compiler knows nothing. Otherwise it
    /// may keep an address for every row and advance them all, or multiples of the stride, which takes
    /// more registers than there are.
    unsafe fn untracked(rows: *const u8, stride: usize) -> (*const u8, usize);
    /// Asks for the cache line at `address`, which need not exist.
    unsafe fn prefetch(address: *const u8);
}

/// Integer products of four bytes in each lane.
pub(crate) trait Dot<V: Vector> {
    /// Whether two positions at a time are cheaper than one after the other.
    const PAIRS: bool = false;
    /// Whether unsigned weights may be as large as 255.
    const BYTES: bool = false;
    /// Whether products with eight positions at a time leave registers for their sums.
    const EIGHT: bool = true;

    /// The exact sums of products of `4 * N` unsigned weights of each row, none larger than
    /// `MAX`, with the `4 * N` levels at `x`, which lie within -127..=127.
    unsafe fn unsigned<const N: usize, const MAX: i32>(weights: &[V; N], x: *const i8) -> V;
    /// The same for any signed weights. The two `sums` together are the sum of the levels.
    unsafe fn signed<const N: usize>(weights: &[V; N], x: *const i8, sums: &[i16; 2]) -> V;

    /// `sum` and what [`unsigned`](Self::unsigned) gives: one chain of additions, where that spares
    /// instructions. Worth it where others are under way at the same time.
    #[inline(always)]
    unsafe fn add_unsigned<const N: usize, const MAX: i32>(sum: V, weights: &[V; N], x: *const i8) -> V {
        // SAFETY: as the caller says.
        unsafe { sum.add(Self::unsigned::<N, MAX>(weights, x)) }
    }

    /// [`unsigned`](Self::unsigned) for two positions.
    #[inline(always)]
    unsafe fn unsigned_pair<const N: usize, const MAX: i32>(weights: &[V; N], x: [*const i8; 2]) -> [V; 2] {
        // SAFETY: as the caller says.
        unsafe { [Self::unsigned::<N, MAX>(weights, x[0]), Self::unsigned::<N, MAX>(weights, x[1])] }
    }

    /// [`signed`](Self::signed) for two positions.
    #[inline(always)]
    unsafe fn signed_pair<const N: usize>(
        weights: &[V; N],
        x: [*const i8; 2],
        sums: [&[i16; 2]; 2],
    ) -> [V; 2] {
        // SAFETY: as the caller says.
        unsafe { [Self::signed(weights, x[0], sums[0]), Self::signed(weights, x[1], sums[1])] }
    }
}
