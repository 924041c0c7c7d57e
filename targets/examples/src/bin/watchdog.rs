//! What firmware does when its model's flash chip fails: an error is tried again, a hang or a
//! crash in the middle of a token ends in a reset, after which the next question is answered.
//!
//! The model is behind the driver of a NOR chip. The watchdog is fed after every step, which is a
//! layer of a loop at most. When nobody feeds it, it raises the NMI, whose handler notes this in
//! memory that a reset leaves alone, and resets; a fault of the processor ends the same way.
//! Should the handler hang too, the watchdog resets by itself.

#![no_std]
#![no_main]

use core::cell::Cell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use cortex_m::peripheral::SCB;
use cortex_m::singleton;
use cortex_m_rt::{ExceptionFrame, entry, exception};
use embedded_storage::nor_flash::{ErrorType, NorFlashErrorKind, ReadNorFlash, check_read};
use ouro_examples::{Answer, Failure, Opened, PROMPT, model, prompt};
use ouro_runtime::arena::{Aligned, Arena};
use ouro_runtime::depth::{ExitPolicy, FixedDepth};
use ouro_runtime::sample::argmax;
use ouro_runtime::session::{Feed, Session, SessionError, Settings, Step};
use ouro_runtime::store::FlashStore;
use semihosting::process::exit;

/// Memory for all that the model needs; `Session::arena_bytes` says how much that is.
const ARENA: usize = 300 << 10;
/// Tiles of the model pass through so many bytes.
const BLOCK_BUFFER: usize = 8 << 10;
/// How often a token is tried.
const TRIES: u32 = 3;

/// What is asked, and what goes wrong meanwhile.
const QUESTIONS: [(&str, Option<Trouble>); 5] = [
    ("60 plus 70?", None),
    ("Limit 70, reading 41. Alarm?", Some(Trouble::Hang)),
    ("Limit 70, reading 78. Alarm?", Some(Trouble::Error)),
    ("12 plus 34?", Some(Trouble::Crash)),
    ("5 plus 6?", None),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// The chip reports an error, once.
    Error,
    /// It is never ready again.
    Hang,
    /// Its driver executes what is no instruction.
    Crash,
}

/// The driver of the chip, which has what is asked for after so many reads.
struct Chip<'t> {
    trouble: &'t Cell<(u32, Option<Trouble>)>,
}

impl ErrorType for Chip<'_> {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Chip<'_> {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len())?;
        match self.trouble.get() {
            (0, Some(trouble)) => {
                self.trouble.set((0, None));
                match trouble {
                    Trouble::Error => return Err(NorFlashErrorKind::Other),
                    Trouble::Hang => loop {
                        cortex_m::asm::nop(); // waits for a bit that never comes
                    },
                    Trouble::Crash => cortex_m::asm::udf(),
                }
            }
            (reads, trouble) => self.trouble.set((reads.saturating_sub(1), trouble)),
        }
        let begin = offset as usize;
        let chip = model().get(begin..begin + bytes.len()).ok_or(NorFlashErrorKind::OutOfBounds)?;
        bytes.copy_from_slice(chip);
        Ok(())
    }

    fn capacity(&self) -> usize {
        model().len()
    }
}

/// The watchdog of the board: 32 bits, counting down at 25 MHz; its first word is the reload.
struct Watchdog;

impl Watchdog {
    /// A second, three times the longest step.
    const CYCLES: u32 = 25_000_000;
    const RELOAD: *mut u32 = 0x4000_8000 as *mut u32;

    /// Starts it, for good: an interrupt when it is not fed in time, a reset when not even then.
    fn start() {
        // SAFETY: the watchdog's registers of reload and control, on this board.
        unsafe {
            Self::RELOAD.write_volatile(Self::CYCLES);
            Self::RELOAD.add(2).write_volatile(0b11);
        }
    }

    /// Not yet.
    fn feed() {
        // SAFETY: as above; the register that clears the interrupt reloads.
        unsafe { Self::RELOAD.add(3).write_volatile(1) }
    }
}

/// What is known after a reset of what was before. A chip that tells the cause of a reset in a
/// register needs less.
struct Record {
    /// [`VALID`](Self::VALID), unless the power was off.
    valid: AtomicU32,
    /// What led to the reset.
    cause: AtomicU32,
    /// Where the processor was at a fault.
    address: AtomicU32,
    /// The question in work, and how far it was.
    question: AtomicU32,
    loops: AtomicU32,
    layer: AtomicU32,
}

impl Record {
    const VALID: u32 = 0x0b5e_55ed;
    const UNKNOWN: u32 = 0;
    const WATCHDOG: u32 = 1;
    const FAULT: u32 = 2;

    fn get() -> &'static Self {
        // The start-up clears and copies other sections, but not this one.
        // SAFETY: the linker's script sets it aside as memory without initial values.
        #[unsafe(link_section = ".uninit.record")]
        static RECORD: MaybeUninit<Record> = MaybeUninit::uninit();
        // SAFETY: the hardware has initialized this memory, if not Rust; whatever it holds are values of
        // these fields, as any bits are a u32.
        unsafe { RECORD.assume_init_ref() }
    }

    /// The question to begin with: after a reset, the one after that in work, and the log tells what
    /// was. So even a start-up that hangs does not go on for ever.
    fn next_question(&self) -> usize {
        let question = self.question.load(Relaxed);
        if self.valid.swap(Self::VALID, Relaxed) != Self::VALID {
            defmt::info!("power on");
            self.question.store(0, Relaxed);
            return 0;
        }
        match self.cause.swap(Self::UNKNOWN, Relaxed) {
            Self::WATCHDOG => defmt::warn!("reset: watchdog"),
            Self::FAULT => defmt::warn!("reset: fault at {:#010x}", self.address.load(Relaxed)),
            _ => defmt::warn!("reset: not by this firmware"),
        }
        let (loops, layer) = (self.loops.load(Relaxed), self.layer.load(Relaxed));
        defmt::warn!("in question {}, after loop {} layer {}", question, loops, layer);
        let next = question.saturating_add(1);
        self.question.store(next, Relaxed);
        next as usize
    }

    fn note(&self, loops: usize, layer: usize) {
        self.loops.store(loops as u32, Relaxed);
        self.layer.store(layer as u32, Relaxed);
    }

    fn reset(&self, cause: u32, address: u32) -> ! {
        self.cause.store(cause, Relaxed);
        self.address.store(address, Relaxed);
        SCB::sys_reset()
    }
}

// SAFETY: writes to atomics and resets.
#[exception]
unsafe fn NonMaskableInt() {
    Record::get().reset(Record::WATCHDOG, 0);
}

// SAFETY: writes to atomics and resets.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    Record::get().reset(Record::FAULT, frame.pc())
}

#[entry]
fn main() -> ! {
    Watchdog::start();
    let first = Record::get().next_question();
    let outcome = answer_from(first);
    if let Err(failure) = outcome {
        defmt::error!("{}", failure);
    }
    exit(outcome.is_err().into()) // of QEMU
}

fn answer_from(first: usize) -> Result<(), Failure> {
    if first >= QUESTIONS.len() {
        return Ok(());
    }
    let memory = singleton!(: (Aligned<ARENA>, Aligned<BLOCK_BUFFER>) =
        (Aligned([0; ARENA]), Aligned([0; BLOCK_BUFFER])));
    // Called once, so it is there.
    let Some((Aligned(memory), Aligned(block_buffer))) = memory else { return Ok(()) };
    let mut arena = Arena::new(memory);
    let trouble = Cell::new((0, None));
    let store = &mut FlashStore::new(Chip { trouble: &trouble }, 0, model().len() as u64, block_buffer)?;
    let Opened { model, tokenizer } = Opened::new(store, &mut arena)?;
    let settings = Settings::new(&model, PROMPT + Answer::TOKENS, PROMPT);
    let mut session = Session::new(&model, settings, &mut arena)?;

    for (number, (question, what)) in QUESTIONS.iter().enumerate().skip(first) {
        Record::get().question.store(number as u32, Relaxed);
        Record::get().note(0, 0);
        trouble.set((300, *what)); // the prompt's second loop
        defmt::info!("question: {}", question);
        session.clear();
        let mut answer = Answer::new(&tokenizer);
        let prompt = prompt(&tokenizer, question)?;
        let mut id = next_token(&mut session, store, &prompt, Feed::Prompt)?;
        while answer.push(store, id)? {
            id = next_token(&mut session, store, &[id], Feed::Generated)?;
        }
        defmt::info!("answer: {}", answer.text.as_str());
        defmt::info!("ids: {}", answer.ids.as_slice());
    }
    Ok(())
}

/// The token after `tokens`. A step that failed has harmed nothing, so they are fed once more.
fn next_token(
    session: &mut Session<'_>,
    store: &mut FlashStore<'_, Chip<'_>>,
    tokens: &[u32],
    feed: Feed,
) -> Result<u32, SessionError> {
    let mut tried = 1;
    loop {
        session.feed(tokens, feed)?;
        match all_steps(session, store) {
            Ok(()) => return Ok(argmax(session.logits())),
            Err(error @ (SessionError::Weights { .. } | SessionError::Store(_))) if tried < TRIES => {
                defmt::warn!("once more: {}", defmt::Display2Format(&error));
                tried += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

fn all_steps(session: &mut Session<'_>, store: &mut FlashStore<'_, Chip<'_>>) -> Result<(), SessionError> {
    let policy: &dyn ExitPolicy = match session.model().exit_default() {
        Some(policy) => policy,
        None => &FixedDepth,
    };
    loop {
        Watchdog::feed();
        match session.step(store, policy)? {
            Step::Layer { loops, layer } => Record::get().note(loops, layer),
            Step::Done(_) => return Ok(()),
            Step::Loop { .. } | Step::Head { .. } => {}
        }
    }
}
