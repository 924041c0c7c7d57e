//! A model that thinks beside a control loop, with embassy: the loop is a task of an executor that
//! runs in an interrupt, the model one of the executor in thread mode, which the other preempts.
//!
//! The model's task yields after every step, so other tasks of thread mode get their turn too.

#![no_std]
#![no_main]

use core::cell::{Cell, RefCell};
use core::fmt::Write;
use core::task::Waker;
use core::time::Duration;
use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::scb::SystemHandler;
use cortex_m::{Peripherals, singleton};
use cortex_m_rt::exception;
use critical_section::Mutex;
use embassy_executor::{InterruptExecutor, Spawner};
use embassy_futures::yield_now;
use embassy_time::{Instant, Ticker};
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;
use heapless::String;
use ouro_examples::control::{Control, LOOP};
use ouro_examples::{Answer, Failure, Opened, PROMPT, model, prompt};
use ouro_runtime::arena::{Aligned, Arena};
use ouro_runtime::clock::Clock;
use ouro_runtime::depth::{Budget, ExitPolicy, FixedDepth};
use ouro_runtime::sample::argmax;
use ouro_runtime::session::{Feed, Session, Settings, Step};
use ouro_runtime::store::SliceStore;
use semihosting::process::exit;

/// Memory for all that the model needs; `Session::arena_bytes` says how much that is.
const ARENA: usize = 300 << 10;
/// The demonstration ends after so many ticks.
const TICKS: u32 = 10_000;

/// The control loop's executor runs in this interrupt, which no device of the board raises.
#[derive(Clone, Copy)]
struct Urgent;

const URGENT: u16 = 31;

// SAFETY: the number is one that the interrupt controller has, and always the same.
unsafe impl InterruptNumber for Urgent {
    fn number(self) -> u16 {
        URGENT
    }
}

static EXECUTOR: InterruptExecutor = InterruptExecutor::new();

/// All interrupts end up here, as there is no crate with the names of this board's.
// SAFETY: calls nothing that an interrupt may not.
#[exception]
unsafe fn DefaultHandler(number: i16) {
    if number == URGENT.cast_signed() {
        // SAFETY: this is the handler of the interrupt that the executor was started on.
        unsafe { EXECUTOR.on_interrupt() }
    } else {
        // Left alone it would come again for ever.
        defmt::error!("interrupt {} has no handler", number);
        exit(1)
    }
}

#[embassy_executor::task]
async fn control() {
    let mut control = Control::new();
    let mut ticker = Ticker::every(embassy_time::Duration::from_millis(1));
    loop {
        ticker.next().await;
        control.tick();
    }
}

/// Embassy's time, in thousandths of a second: SysTick counts them, and wakes whoever waits.
struct Milliseconds {
    now: Mutex<Cell<u64>>,
    queue: Mutex<RefCell<Queue>>,
}

impl Driver for Milliseconds {
    fn now(&self) -> u64 {
        critical_section::with(|cs| self.now.borrow(cs).get())
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            if at <= self.now.borrow(cs).get() {
                waker.wake_by_ref();
            } else {
                self.queue.borrow_ref_mut(cs).schedule_wake(at, waker);
            }
        });
    }
}

embassy_time_driver::time_driver_impl!(static TIME: Milliseconds = Milliseconds {
    now: Mutex::new(Cell::new(0)),
    queue: Mutex::new(RefCell::new(Queue::new())),
});

#[exception]
fn SysTick() {
    critical_section::with(|cs| {
        let now = TIME.now.borrow(cs).get() + 1;
        TIME.now.borrow(cs).set(now);
        TIME.queue.borrow_ref_mut(cs).next_expiration(now);
    });
}

/// The same time for the budget.
#[derive(Debug)]
struct EmbassyClock;

impl Clock for EmbassyClock {
    fn now(&self) -> Duration {
        Duration::from_micros(Instant::now().as_micros())
    }
}

#[embassy_executor::main]
async fn main(_spawner: Spawner) {
    let memory = singleton!(: Aligned<ARENA> = Aligned([0; ARENA]));
    let outcome = match (memory, Peripherals::take(), control()) {
        (Some(Aligned(memory)), Some(mut peripherals), Ok(control)) => {
            // SAFETY: neither interrupt is on yet, and no critical section is by priority.
            unsafe {
                peripherals.SCB.set_priority(SystemHandler::SysTick, 0); // the most urgent
                peripherals.NVIC.set_priority(Urgent, 0x40);
            }
            // Not before `singleton!`, which clears the memory with interrupts off.
            LOOP.start(&mut peripherals.SYST);
            EXECUTOR.start(Urgent).spawn(control);
            think(memory).await
        }
        _ => Ok(()), // each is there once, and this is called once
    };
    if let Err(failure) = outcome {
        defmt::error!("{}", failure);
    }
    exit(outcome.is_err().into()) // of QEMU
}

/// The model's task.
async fn think(memory: &mut [u8]) -> Result<(), Failure> {
    let mut arena = Arena::new(memory);
    let store = &mut SliceStore::new(model());
    let Opened { model, tokenizer } = Opened::new(store, &mut arena)?;
    let policy: &dyn ExitPolicy = match model.exit_default() {
        Some(policy) => policy,
        None => &FixedDepth,
    };
    let settings = Settings::new(&model, PROMPT + Answer::TOKENS, PROMPT);
    let mut session = Session::new(&model, settings, &mut arena)?;
    // A token that takes longer answers with the loops that it has finished.
    session.set_clock(&EmbassyClock);
    let budget = Budget { token_time: Some(Duration::from_millis(500)), ..Budget::UNLIMITED };
    session.set_budget(budget, store)?;

    while LOOP.ticks() < TICKS {
        let mut question = String::<64>::new();
        let _ = write!(question, "Limit 70, reading {}. Alarm?", LOOP.reading()); // at most 36 bytes
        session.clear();
        session.feed(&prompt(&tokenizer, &question)?, Feed::Prompt)?;
        let mut answer = Answer::new(&tokenizer);
        loop {
            while !matches!(session.step(store, policy)?, Step::Done(_)) {
                yield_now().await;
            }
            let id = argmax(session.logits());
            if !answer.push(store, id)? {
                break;
            }
            session.feed(&[id], Feed::Generated)?;
        }
        defmt::info!("question: {}", question.as_str());
        defmt::info!("answer: {}", answer.text.as_str());
        defmt::info!("ids: {}", answer.ids.as_slice());
    }
    LOOP.log();
    Ok(())
}
