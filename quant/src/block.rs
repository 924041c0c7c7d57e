//! What a format has to say about itself.

use bytemuck::Pod;

/// One block as it is stored. Its size is the format's block size in bytes; it must be made of
/// byte-aligned fields, as blocks start at any address.
pub(crate) trait Block: Pod {
    /// The values of a block, in the (nested) shape in which the layout groups them. Their
    /// number is the format's block length.
    type Values: Pod;

    /// How values become a block, if this format can be written.
    const ENCODE: Option<Encode<Self>> = None;

    /// What the block means.
    fn decode(&self, values: &mut Self::Values);
}

/// Makes a block of finite values; `None` if a scale does not fit its field.
pub(crate) type Encode<B> =
    fn(&<B as Block>::Values, Option<&Importance<'_, <B as Block>::Values>>) -> Option<B>;

/// How much each value of a block matters.
pub(crate) struct Importance<'a, Values> {
    /// The weights of the block's columns.
    pub(crate) columns: &'a Values,
    /// The mean of the squared values of the whole row.
    pub(crate) row_mean_square: f32,
}

/// Two levels of four bits in each byte, `low` in the low half.
pub(crate) fn pack_nibbles<const N: usize>(low: &[u8; N], high: &[u8; N]) -> [u8; N] {
    let mut packed = *low;
    for (byte, high) in packed.iter_mut().zip(high) {
        *byte |= high << 4;
    }
    packed
}
