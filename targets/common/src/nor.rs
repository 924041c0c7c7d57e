//! A NOR chip as a driver shows it: reads of whole words at word addresses, copied out of a region
//! of its own, and faults on demand.

use crate::arguments::Arguments;
use embedded_storage::nor_flash::{ErrorType, NorFlashErrorKind, ReadNorFlash, check_read};

/// The driver. What it reads is the model's section, word by word, past any cache or copy.
pub(crate) struct Nor {
    chip: &'static [u8],
    flip: Option<u32>,
    reads_left: Option<u32>,
}

impl Nor {
    /// A chip that holds `chip`, with the faults that are asked for.
    pub(crate) fn new(chip: &'static [u8], arguments: &Arguments) -> Self {
        Self { chip, flip: arguments.flip, reads_left: arguments.fail_after }
    }
}

impl ErrorType for Nor {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Nor {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len())?;
        if let Some(left) = &mut self.reads_left {
            *left = left.checked_sub(1).ok_or(NorFlashErrorKind::Other)?;
        }
        let start = offset as usize;
        let words = self.chip.get(start..start + bytes.len()).ok_or(NorFlashErrorKind::OutOfBounds)?;
        for (to, from) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words.as_chunks::<4>().0) {
            // SAFETY: four bytes of the chip; its section is page-aligned and `start` a multiple of 4.
            *to = unsafe { from.as_ptr().cast::<u32>().read_volatile() }.to_ne_bytes();
        }
        let flipped = self.flip.and_then(|at| at.checked_sub(offset));
        if let Some(byte) = flipped.and_then(|at| bytes.get_mut(at as usize)) {
            *byte = !*byte;
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.chip.len()
    }
}
