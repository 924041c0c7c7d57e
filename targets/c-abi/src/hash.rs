//! One number for every bit that the model computes.

use crate::handle::{self, Body, Ouro};
use crate::pointer;
use crate::status::{Error, Status};
use ouro_runtime::depth::Budget;
use ouro_runtime::fingerprint::{self, Seen};
use ouro_runtime::kernels::Backend;
use ouro_runtime::text::Utf8Stream;
use sha2::{Digest, Sha256};

/// Runs the prompt `ids` and 16 tokens after it in a fixed way, and writes the SHA-256 of all logits to
/// `digest`, which has room for 32 bytes. `ouro hash --tokens IDS` prints the same on the workstation:
/// firmware that compares the two knows that its arithmetic is right.
///
/// The handle is to be one of its own, opened with these settings, else the answer is
/// OURO_STATUS_SETTING: `context` is `count` + 16, `prompt` is `count`, `kv_sharing`
/// OURO_KV_SHARING_LAST, `kv_type` OURO_KV_TYPE_INT8, and everything else that decides memory or depth
/// is 0. `logits` is scratch for `logits_count` values, at least `ouro_plan_t.vocab`. The conversation is
/// forgotten and the budget lifted. It takes as long as an answer of 16 tokens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ouro_hash(
    handle: *mut Ouro,
    ids: *const u32,
    count: usize,
    logits: *mut f32,
    logits_count: usize,
    digest: *mut u8,
) -> Status {
    // SAFETY: as the header asks.
    unsafe {
        handle::with(handle, |body| {
            let ids = pointer::values(ids, count, "ids")?;
            let digest = pointer::room(digest, 32, "digest")?;
            let Body { medium, session, answer, text, .. } = body;
            if *session.settings() != fingerprint::settings(session.model(), count) {
                return Err(Error::Setting { name: "settings", expected: "those that ouro_hash names" });
            }
            let vocab = session.model().config().vocab;
            let logits = pointer::room(logits, logits_count, "logits")?;
            let short = Error::Buffer { needed: vocab, found: logits.len() };
            let logits = logits.get_mut(..vocab).ok_or(short)?;

            (*answer, *text) = (None, Utf8Stream::new());
            session.clear();
            session.set_budget(Budget::UNLIMITED, medium)?;
            let mut hash = Sha256::new();
            let run = fingerprint::run(session, medium, ids, logits, &mut |seen| {
                if let Seen::Logits(logits) = seen {
                    logits.iter().for_each(|logit| hash.update(logit.to_le_bytes()));
                }
            });
            session.clear();
            run?;
            for (to, from) in digest.iter_mut().zip(hash.finalize()) {
                *to = from;
            }
            Ok(())
        })
    }
}

/// Whether the CPU's fast kernels compute right, as was found when the first handle was opened.
/// OURO_STATUS_KERNEL if one does not: it is not used, and a slower one with the right results stands in for
/// it. `ouro_explain` then tells which it is, and at what it failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ouro_check_kernels(handle: *mut Ouro) -> Status {
    // SAFETY: as the header asks.
    unsafe { handle::with(handle, |_| Backend::refused().map_or(Ok(()), |mismatch| Err(mismatch.into()))) }
}
