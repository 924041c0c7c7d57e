//! A flash chip whose driver is asynchronous, waited for.

use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use embedded_storage::nor_flash::{ErrorType, ReadNorFlash};
use embedded_storage_async::nor_flash::ReadNorFlash as AsyncReadNorFlash;

/// Makes an asynchronous driver one for [`FlashStore`](super::FlashStore): each read is polled until it
/// is done, and nothing else runs on this core meanwhile but interrupts.
///
/// It is for drivers that make progress when they are polled, or by interrupts and DMA. One that waits
/// for another task of the same executor would wait for ever; such a task belongs on another core, or
/// in an executor that runs in an interrupt.
#[derive(Clone, Copy, Debug)]
pub struct BlockingFlash<F>(pub F);

impl<F: ErrorType> ErrorType for BlockingFlash<F> {
    type Error = F::Error;
}

impl<F: AsyncReadNorFlash> ReadNorFlash for BlockingFlash<F> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), F::Error> {
        wait_for(self.0.read(offset, bytes))
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

/// Polls until there is a result.
fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return result;
        }
        core::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{FlashStore, Span, Store, StoreError};
    use core::future::poll_fn;
    use embedded_storage::nor_flash::NorFlashErrorKind;
    use std::vec::Vec;

    /// A chip that takes some polls for a read, and breaks after some reads.
    struct Chip {
        bytes: Vec<u8>,
        reads: u32,
        polls: u32,
    }

    impl ErrorType for Chip {
        type Error = NorFlashErrorKind;
    }

    impl AsyncReadNorFlash for Chip {
        const READ_SIZE: usize = 4;

        async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
            assert_eq!((offset % 4, bytes.len() % 4), (0, 0), "aligned");
            let mut left = 3;
            poll_fn(|context| {
                self.polls += 1;
                if left == 0 {
                    return Poll::Ready(());
                }
                left -= 1;
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            self.reads = self.reads.checked_sub(1).ok_or(NorFlashErrorKind::Other)?;
            bytes.copy_from_slice(&self.bytes[offset as usize..][..bytes.len()]);
            Ok(())
        }

        fn capacity(&self) -> usize {
            self.bytes.len()
        }
    }

    #[test]
    fn an_asynchronous_chip_is_waited_for() {
        let bytes: Vec<u8> = (0..1024u32).map(|n| (n * 7 + n / 256) as u8).collect();
        let mut chip = BlockingFlash(Chip { bytes: bytes.clone(), reads: 2, polls: 0 });
        let mut word = [0; 8];
        chip.read(16, &mut word).unwrap();
        assert_eq!((word, chip.0.polls), (bytes[16..24].try_into().unwrap(), 4));
        let mut buffer = [0; 300];
        let mut store = FlashStore::new(chip, 8, 1000, &mut buffer).unwrap();
        let span = Span { offset: 5, len: 290 };
        store.load(span, None).unwrap();
        assert_eq!(store.tile(), &bytes[13..303]);
        assert_eq!(store.load(span, None), Err(StoreError::Io { span, code: 3 }));
    }
}
