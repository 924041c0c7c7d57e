//! What generated tokens may cost, and what they can cost at most.

use crate::handle::{self, Ouro};
use crate::pointer;
use crate::status::Status;
use core::time::Duration;
use ouro_runtime::depth::{Bucket as RuntimeBucket, Budget as RuntimeBudget, ExitPolicy};

/// A bucket: what it may give is added with every token, kept up to a bound, and taken by tokens. All
/// zero: no bound.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// What every token adds.
    pub rate: u64,
    /// The most that is kept from one token to the next, and what there is at the beginning.
    pub burst: u64,
    /// What must be left after a token for the fallback to end; at most the burst.
    pub resume: u64,
}

/// What generated tokens may cost. Any n of them take at most burst + n * rate, whatever the exit
/// policy wants; the prompt is known beforehand and is not counted. All zero: no bounds.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Loops, in thousandths: a rate of 2500 is two and a half loops per token.
    pub loops: Bucket,
    /// Bytes read from the model, whole pages where a medium reads no less.
    pub bytes: Bucket,
    /// The depth of every token once a bucket was found empty, until it has recovered: at least the
    /// fewest loops of the settings, and no more than the rates can pay. 0: one loop.
    pub fallback: u32,
    /// The longest that a generated token may take, in microseconds; needs the clock of the settings.
    /// 0: no bound.
    pub token_us: u64,
    /// The longest that a prompt and its answer may take together, in microseconds, from when the prompt,
    /// or its first part, is fed. 0: no bound.
    pub answer_us: u64,
}

/// An amount of work.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Loops of all tokens together.
    pub loops: u64,
    /// Times that the output head is computed.
    pub heads: u64,
    /// Multiplications with accumulation.
    pub macs: u64,
    /// Bytes read from the model.
    pub bytes: u64,
}

/// Bounds what is generated from the next feed on. The budget stays as it was after an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ouro_set_budget(handle: *mut Ouro, budget: *const Budget) -> Status {
    // SAFETY: as the header asks.
    unsafe {
        handle::with(handle, |body| {
            let budget = pointer::read(budget, "budget")?;
            let bucket = |Bucket { rate, burst, resume }: Bucket| {
                let is_bound = rate > 0 || burst > 0 || resume > 0;
                is_bound.then_some(RuntimeBucket { rate, burst, resume })
            };
            let time = |us: u64| (us > 0).then_some(Duration::from_micros(us));
            let budget = RuntimeBudget {
                loops: bucket(budget.loops),
                bytes: bucket(budget.bytes),
                fallback: budget.fallback.max(1) as usize,
                token_time: time(budget.token_us),
                answer_time: time(budget.answer_us),
                ..RuntimeBudget::UNLIMITED
            };
            Ok(body.session.set_budget(budget, &body.medium)?)
        })
    }
}

/// Tells the most that a prompt of `prompt` tokens, in as few feeds as the settings allow, and then
/// `generated` tokens fed one by one, can cost from here on. What is computed never exceeds it: with instructions per multiplication, or bytes
/// per second of the flash, that is the worst-case time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ouro_worst_case(
    handle: *mut Ouro,
    prompt: u32,
    generated: u32,
    cost: *mut Cost,
) -> Status {
    // SAFETY: as the header asks.
    unsafe {
        handle::with(handle, |body| {
            let needs = body.policy.needs();
            let most = body.session.worst_case(&body.medium, prompt as usize, generated as usize, needs);
            let found = Cost { loops: most.loops, heads: most.heads, macs: most.macs, bytes: most.bytes };
            pointer::write(cost, found, "cost")
        })
    }
}
