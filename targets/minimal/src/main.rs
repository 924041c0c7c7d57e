//! The smallest image, to be measured and not run: the runtime, one prompt, greedy, no model.
//!
//! Its panic handler calls a function that exists nowhere. So it links only if no panic is left in
//! it: reading a GGUF, opening the model and, with the features, everything else that firmware
//! calls cannot panic, whatever the bytes are. `tests/tests/panic_free.rs` builds it with each
//! feature, and compares sizes with `sizes.txt`.

#![no_std]
#![no_main]

#[cfg(any(feature = "text", feature = "messages"))]
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::slice;
use cortex_m_rt::entry;
use ouro_runtime::arena::Arena;
#[cfg(not(feature = "policies"))]
use ouro_runtime::depth::FixedDepth;
use ouro_runtime::gguf::{Gguf, GgufError};
use ouro_runtime::model::{Model, ModelError};
use ouro_runtime::session::{Feed, Session, SessionError, Settings};
use ouro_runtime::store::{Store, StoreError};
#[cfg(feature = "text")]
use ouro_runtime::text::{Message, Role, TextError, Tokenizer, Utf8Stream};

unsafe extern "C" {
    safe fn a_panic_is_left_in_this_image() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    a_panic_is_left_in_this_image()
}

unsafe extern "C" {
    /// Of cortex-m-rt.
    fn DefaultHandler();
}

/// A chip's interrupts, as many as an nRF52832 has. Without a chip cortex-m-rt makes room for all that a core
/// can have, 240 of them.
// SAFETY: the section and the name by which cortex-m-rt takes it for the end of the vector table.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
static __INTERRUPTS: [unsafe extern "C" fn(); 39] = [DefaultHandler; 39];

/// A register through which the image talks: what is read can be anything, so the compiler knows
/// nothing of the prompt, the sizes or the model.
const PORT: *mut u32 = 0x4000_0000 as *mut u32;

fn receive() -> u32 {
    // SAFETY: a device register, as far as this image is concerned.
    unsafe { PORT.read_volatile() }
}

fn send(word: u32) {
    // SAFETY: as above.
    unsafe { PORT.write_volatile(word) }
}

#[cfg(any(feature = "text", feature = "messages"))]
struct Port;

#[cfg(any(feature = "text", feature = "messages"))]
impl Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| send(byte.into()));
        Ok(())
    }
}

/// Memory outside of the image: what is lent to the runtime.
fn memory() -> &'static mut [u8] {
    // SAFETY: as far as this image is concerned, RAM that nothing else uses; asked for once.
    unsafe { slice::from_raw_parts_mut(0x2400_0000 as *mut u8, receive() as usize & 0xf_ffff) }
}

#[cfg(not(feature = "nor"))]
fn store() -> Result<impl Store, StoreError> {
    // SAFETY: mapped flash, as far as this image is concerned.
    let flash = unsafe { slice::from_raw_parts(0x9000_0000 as *const u8, receive() as usize & 0xff_ffff) };
    Ok(ouro_runtime::store::SliceStore::new(flash))
}

#[cfg(feature = "nor")]
fn store() -> Result<impl Store, StoreError> {
    use embedded_storage::nor_flash::{ErrorType, NorFlashErrorKind, ReadNorFlash};
    struct Chip;
    impl ErrorType for Chip {
        type Error = NorFlashErrorKind;
    }
    impl ReadNorFlash for Chip {
        const READ_SIZE: usize = 4;
        fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
            send(offset);
            bytes.iter_mut().for_each(|byte| *byte = receive() as u8);
            if receive() == 0 { Ok(()) } else { Err(NorFlashErrorKind::Other) }
        }
        fn capacity(&self) -> usize {
            1 << 24
        }
    }
    // SAFETY: RAM beside that of `memory`, asked for once.
    let buffer = unsafe { slice::from_raw_parts_mut(0x2410_0000 as *mut u8, receive() as usize & 0xffff) };
    ouro_runtime::store::FlashStore::new(Chip, 0, receive().into(), buffer)
}

#[entry]
fn main() -> ! {
    let outcome = answer(memory());
    send(outcome.is_ok().into());
    #[cfg(feature = "messages")]
    if let Err(failure) = outcome {
        let _ = match failure {
            Failure::Store(error) => write!(Port, "{error}"),
            Failure::Gguf(error) => write!(Port, "{error}"),
            Failure::Model(error) => write!(Port, "{error}"),
            Failure::Session(error) => write!(Port, "{error}"),
            #[cfg(feature = "text")]
            Failure::Text(error) => write!(Port, "{error}"),
            Failure::Sampling => Ok(()),
        };
    }
    loop {
        core::hint::spin_loop();
    }
}

#[cfg_attr(not(feature = "messages"), allow(dead_code))]
enum Failure {
    Store(StoreError),
    Gguf(GgufError),
    Model(ModelError),
    Session(SessionError),
    #[cfg(feature = "text")]
    Text(TextError),
    #[cfg_attr(not(feature = "sampling"), allow(dead_code))]
    Sampling,
}

fn answer(memory: &mut [u8]) -> Result<(), Failure> {
    let mut arena = Arena::new(memory);
    let store = &mut store().map_err(Failure::Store)?;
    let gguf = Gguf::open(store, &mut arena).map_err(Failure::Gguf)?;
    let model = Model::open(store, &gguf, &mut arena).map_err(Failure::Model)?;
    let mut prompt = [0; 64];
    #[cfg(not(feature = "text"))]
    let len = {
        prompt.iter_mut().for_each(|id| *id = receive());
        receive() as usize
    };
    #[cfg(feature = "text")]
    let tokenizer = Tokenizer::open(store, &gguf, &mut arena).map_err(Failure::Text)?;
    #[cfg(feature = "text")]
    let mut characters = Utf8Stream::new();
    #[cfg(feature = "text")]
    let len = {
        let mut text = [0; 64];
        text.iter_mut().for_each(|byte| *byte = receive() as u8);
        let content = str::from_utf8(&text).unwrap_or_default();
        let message = Message { role: Role::User, content };
        tokenizer.chatml(&[message], &mut [], &mut prompt).map_err(Failure::Text)?
    };
    let prompt = prompt.get(..len).unwrap_or_default();
    let settings = Settings::new(&model, receive() as usize, prompt.len());
    let mut session = Session::new(&model, settings, &mut arena).map_err(Failure::Session)?;
    #[cfg(feature = "sampling")]
    let mut sampler = {
        let real = || f32::from_bits(receive());
        let sampling = ouro_runtime::sample::Sampling {
            temperature: real(),
            top_p: real(),
            min_p: real(),
            repetition_penalty: real(),
            top_k: receive() as usize,
        };
        ouro_runtime::sample::Sampler::new(sampling, receive().into()).map_err(|_| Failure::Sampling)?
    };
    #[cfg(feature = "policies")]
    let Some(policy) = model.exit_default() else { return Ok(()) };
    #[cfg(not(feature = "policies"))]
    let policy = &FixedDepth;
    #[cfg(feature = "budget")]
    bound(&mut session, store)?;
    session.feed(prompt, Feed::Prompt).map_err(Failure::Session)?;
    loop {
        let depth = session.run(store, policy).map_err(Failure::Session)?;
        #[cfg(not(feature = "sampling"))]
        let token = ouro_runtime::sample::argmax(session.logits());
        #[cfg(feature = "sampling")]
        let token = sampler.sample(session.logits(), prompt, &mut []);
        send(depth.loops as u32);
        send(token);
        #[cfg(feature = "text")]
        {
            let bytes = tokenizer.token_bytes(store, token).map_err(Failure::Text)?;
            let _ = characters.push(bytes, &mut Port);
        }
        session.feed(&[token], Feed::Generated).map_err(Failure::Session)?;
    }
}

#[cfg(feature = "budget")]
fn bound<S: Store>(session: &mut Session<'_>, store: &S) -> Result<(), Failure> {
    use core::time::Duration;
    use ouro_runtime::clock::Clock;
    use ouro_runtime::depth::{Bucket, Budget, EnergyMeter};
    #[derive(Debug)]
    struct Meter;
    impl Clock for Meter {
        fn now(&self) -> Duration {
            Duration::new(receive().into(), 0)
        }
    }
    impl EnergyMeter for Meter {
        fn microjoules(&self) -> u64 {
            receive().into()
        }
    }
    let bucket =
        || Some(Bucket { rate: receive().into(), burst: receive().into(), resume: receive().into() });
    let time = || Some(Duration::new(receive().into(), 0));
    session.set_clock(&Meter);
    session.set_energy_meter(&Meter);
    let (loops, bytes, energy) = (bucket(), bucket(), bucket());
    let fallback = receive() as usize;
    let budget = Budget { loops, bytes, energy, fallback, token_time: time(), answer_time: time() };
    session.set_budget(budget, store).map_err(Failure::Session)
}
