//! The control loop that must not wait for the model, and how punctual it is.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use core::time::Duration;
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;

/// Cycles of SysTick and of the timer in a microsecond.
const MHZ: u32 = 25;
/// Microseconds from tick to tick.
const PERIOD: u32 = 1000;
/// TIMER0 of the board: 32 bits, counting down. Control, value and reload, of which it needs
/// the first two, are words from here on.
const TIMER0: *mut u32 = 0x4000_0000 as *mut u32;

/// What a tick of the control loop leaves for others to read.
pub static LOOP: Loop = Loop {
    began: AtomicU32::new(0),
    ticks: AtomicU32::new(0),
    missed: AtomicU32::new(0),
    worst: AtomicU32::new(0),
    reading: AtomicU32::new(0),
};

/// Counts of the control loop.
pub struct Loop {
    /// When SysTick was started, in cycles.
    began: AtomicU32,
    ticks: AtomicU32,
    missed: AtomicU32,
    /// In cycles.
    worst: AtomicU32,
    reading: AtomicU32,
}

impl Loop {
    /// Starts both timers: SysTick, which interrupts every millisecond, and TIMER0, which nothing
    /// resets and by which punctuality is measured.
    pub fn start(&self, syst: &mut SYST) {
        // SAFETY: registers of a timer that only this function and `cycles` know; they exist on
        // this board.
        unsafe {
            TIMER0.add(2).write_volatile(u32::MAX); // reload
            TIMER0.add(1).write_volatile(u32::MAX); // value
            TIMER0.write_volatile(1); // on, without interrupt
        }
        syst.set_clock_source(SystClkSource::Core);
        syst.set_reload(PERIOD * MHZ - 1);
        syst.clear_current();
        self.began.store(cycles(), Relaxed);
        syst.enable_counter();
        syst.enable_interrupt();
    }

    /// Ticks done.
    pub fn ticks(&self) -> u32 {
        self.ticks.load(Relaxed)
    }

    /// Ticks that were not even begun when the next one was due.
    pub fn missed(&self) -> u32 {
        self.missed.load(Relaxed)
    }

    /// The longest time from when a tick was due until it began.
    pub fn worst_lateness(&self) -> Duration {
        Duration::from_nanos(u64::from(self.worst.load(Relaxed)) * 1000 / u64::from(MHZ))
    }

    /// The temperature last read, in whole degrees.
    pub fn reading(&self) -> u32 {
        self.reading.load(Relaxed)
    }

    /// Logs what the loop came to.
    pub fn log(&self) {
        defmt::info!("ticks: {}", self.ticks());
        defmt::info!("missed: {}", self.missed());
        defmt::info!("worst lateness ns: {}", self.worst_lateness().as_nanos() as u32);
    }

    /// Notes that a tick begins. Only the control loop calls this, so nobody counts in between.
    fn begin_tick(&self) {
        let now = cycles().wrapping_sub(self.began.load(Relaxed));
        let due = |tick: u32| tick.wrapping_mul(PERIOD * MHZ);
        let mut number = self.ticks() + self.missed() + 1;
        let late = |number| now.wrapping_sub(due(number)).cast_signed().max(0).cast_unsigned();
        self.worst.fetch_max(late(number), Relaxed);
        while late(number) >= PERIOD * MHZ {
            self.missed.fetch_add(1, Relaxed);
            number += 1;
        }
        self.ticks.fetch_add(1, Relaxed);
    }
}

/// Cycles of TIMER0, which wrap.
fn cycles() -> u32 {
    // SAFETY: reading the timer's value changes nothing.
    !unsafe { TIMER0.add(1).read_volatile() }
}

/// A heater, simulated, and the PI controller that holds it at a temperature.
pub struct Control {
    temperature: f32,
    integral: f32,
}

impl Control {
    /// Cold.
    #[must_use]
    pub const fn new() -> Self {
        Self { temperature: 20.0, integral: 0.0 }
    }

    /// One tick of a thousandth of a second.
    pub fn tick(&mut self) {
        LOOP.begin_tick();
        // What it should be changes now and then, so that there is something to answer.
        let target = match LOOP.ticks() / 4096 % 3 {
            0 => 60.0,
            1 => 80.0,
            _ => 50.0,
        };
        let error = target - self.temperature;
        self.integral = (self.integral + error * 0.002).clamp(0.0, 100.0);
        let power = (self.integral + error * 4.0).clamp(0.0, 100.0);
        self.temperature += (power - (self.temperature - 20.0)) * 0.005;
        LOOP.reading.store(self.temperature as u32, Relaxed);
    }
}

impl Default for Control {
    fn default() -> Self {
        Self::new()
    }
}
