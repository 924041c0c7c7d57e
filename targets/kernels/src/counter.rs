//! Instructions, as QEMU counts them with `-icount`: every one the same, whatever it does.

/// Counts instructions.
pub(crate) struct Counter {
    #[cfg(target_arch = "arm")]
    timer: cortex_m::peripheral::SYST,
}

#[cfg(target_arch = "arm")]
mod arm {
    use super::Counter;
    use cortex_m::Peripherals;
    use cortex_m::peripheral::SYST;
    use cortex_m::peripheral::syst::SystClkSource;

    /// The counter's width.
    const MASK: u32 = 0x00ff_ffff;

    impl Counter {
        pub(crate) fn new() -> Self {
            // SAFETY: nothing else uses the timer.
            let mut timer = unsafe { Peripherals::steal() }.SYST;
            timer.set_clock_source(SystClkSource::Core);
            timer.set_reload(MASK);
            timer.clear_current();
            timer.enable_counter();
            Self { timer }
        }

        /// Ticks that `work` takes; how many make an instruction depends on the board's clock
        /// and on `-icount`.
        pub(crate) fn count(&mut self, work: impl FnOnce()) -> u64 {
            let _ = &self.timer;
            let before = SYST::get_current();
            work();
            u64::from(before.wrapping_sub(SYST::get_current()) & MASK)
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::Counter;
    use core::arch::asm;

    impl Counter {
        pub(crate) fn new() -> Self {
            // SAFETY: switches the cycle counter on, which nothing else uses.
            unsafe {
                asm!(
                    "msr pmccfiltr_el0, xzr",
                    "msr pmcntenset_el0, {counter}",
                    "msr pmcr_el0, {enable}",
                    "isb",
                    counter = in(reg) 1u64 << 31,
                    enable = in(reg) 1u64 << 6 | 1, // all 64 bits
                    options(nostack),
                );
            }
            Self {}
        }

        /// Instructions that `work` takes: QEMU counts a cycle for each.
        pub(crate) fn count(&mut self, work: impl FnOnce()) -> u64 {
            let before = cycles();
            work();
            cycles() - before
        }
    }

    fn cycles() -> u64 {
        let cycles: u64;
        // SAFETY: reads a counter. Nothing is moved past it, for all that the compiler knows.
        unsafe { asm!("mrs {}, pmccntr_el0", out(reg) cycles, options(nostack)) }
        cycles
    }
}

#[cfg(any(target_arch = "riscv32", target_arch = "riscv64"))]
impl Counter {
    pub(crate) fn new() -> Self {
        Self {}
    }

    /// Instructions that `work` takes.
    pub(crate) fn count(&mut self, work: impl FnOnce()) -> u64 {
        let before = riscv::register::minstret::read64();
        work();
        riscv::register::minstret::read64() - before
    }
}
