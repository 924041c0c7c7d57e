//! A model that thinks beside a control loop, without any framework: the loop is SysTick's
//! interrupt, and the model has what time is left.
//!
//! The interrupt owns the controller (`static mut` of `#[exception]`), and what it reads passes
//! through an atomic, so neither locks anything. RTIC would generate just this: a hardware task on
//! SysTick and `#[idle]`.

#![no_std]
#![no_main]

use core::fmt::Write;
use core::time::Duration;
use cortex_m::{Peripherals, singleton};
use cortex_m_rt::{entry, exception};
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

#[exception]
fn SysTick() {
    static mut CONTROL: Control = Control::new();
    CONTROL.tick();
}

/// The control loop's ticks as a clock, good to a millisecond.
#[derive(Debug)]
struct Ticks;

impl Clock for Ticks {
    fn now(&self) -> Duration {
        Duration::from_millis(LOOP.ticks().into())
    }
}

#[entry]
fn main() -> ! {
    let outcome = match (singleton!(: Aligned<ARENA> = Aligned([0; ARENA])), Peripherals::take()) {
        (Some(Aligned(memory)), Some(mut peripherals)) => {
            // Not before `singleton!`, which clears the memory with interrupts off.
            LOOP.start(&mut peripherals.SYST);
            think(memory)
        }
        _ => Ok(()), // each is there once, and this is called once
    };
    if let Err(failure) = outcome {
        defmt::error!("{}", failure);
    }
    exit(outcome.is_err().into()) // of QEMU
}

fn think(memory: &mut [u8]) -> Result<(), Failure> {
    let mut arena = Arena::new(memory);
    let store = &mut SliceStore::new(model());
    let Opened { model, tokenizer } = Opened::new(store, &mut arena)?;
    let policy: &dyn ExitPolicy = match model.exit_default() {
        Some(policy) => policy,
        None => &FixedDepth,
    };
    let settings = Settings::new(&model, PROMPT + Answer::TOKENS, PROMPT);
    defmt::info!("session bytes: {}", Session::arena_bytes(&model, &settings)?);
    let mut session = Session::new(&model, settings, &mut arena)?;
    // A token that takes longer answers with the loops that it has finished.
    session.set_clock(&Ticks);
    let budget = Budget { token_time: Some(Duration::from_millis(500)), ..Budget::UNLIMITED };
    session.set_budget(budget, store)?;

    let mut longest = 0;
    while LOOP.ticks() < TICKS {
        let mut question = String::<64>::new();
        let _ = write!(question, "Limit 70, reading {}. Alarm?", LOOP.reading()); // at most 36 bytes
        session.clear();
        session.feed(&prompt(&tokenizer, &question)?, Feed::Prompt)?;
        let mut answer = Answer::new(&tokenizer);
        loop {
            // A step is a layer of a loop at most: here is the place to feed a watchdog, or to look
            // whether the answer is still wanted. `session.run(store, policy)` does all steps at once.
            loop {
                let before = LOOP.ticks();
                let step = session.step(store, policy)?;
                longest = longest.max(LOOP.ticks() - before);
                if let Step::Done(_) = step {
                    break;
                }
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
    defmt::info!("longest step ms: {}", longest);
    LOOP.log();
    Ok(())
}
