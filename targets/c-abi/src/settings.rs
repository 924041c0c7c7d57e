//! What a handle is made with.

use crate::status::Error;
use core::ffi::c_void;
use core::fmt;
use core::time::Duration;
use ouro_runtime::clock::Clock;
use ouro_runtime::kv::{KvSettings, KvSharing, KvType};
use ouro_runtime::model::{ExitDefault, ExitKind, Model};
use ouro_runtime::session::{self, SessionError};

/// How K and V of older positions are shared among loops: values of `ouro_settings.kv_sharing`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvSharingChoice {
    /// As the file asks, else the last loop's.
    File = 0,
    /// Every loop's: the original model, and the most memory.
    PerLoop = 1,
    /// The last loop's that a position ran.
    Last = 2,
    /// The mean over the loops that a position ran.
    Averaged = 3,
}

/// How K and V are stored: values of `ouro_settings.kv_type`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvTypeChoice {
    /// 2 bytes a value.
    F16 = 0,
    /// 1 byte a value, and scales.
    Int8 = 1,
    /// 4 bytes a value.
    F32 = 2,
    /// Half a byte a value, and scales.
    Int4 = 3,
}

/// When a token may stop before the last loop: values of `ouro_settings.exit_policy`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitChoice {
    /// As the file asks, else never.
    File = 0,
    /// Never.
    Fixed = 1,
    /// When the exit gate's accumulated probability is at least the threshold.
    Q = 2,
    /// When the likeliest token's probability is at least the threshold.
    Confidence = 3,
    /// When the two likeliest tokens' probabilities are at least this far apart.
    Margin = 4,
    /// When the hidden state changed by at most this share of its norm.
    Step = 5,
}

/// Which checksums are compared, if the file has them: values of `ouro_settings.verify`. What differs is
/// OURO_STATUS_CHECKSUM.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyChoice {
    /// That of all before the weights, when the file is opened.
    Metadata = 0,
    /// That, and those of the weights when a part of them is read for the first time. 4 bytes and a bit of
    /// memory for every 4096 bytes of weights; a block buffer must be 8190 bytes larger.
    Weights = 1,
    /// None.
    Never = 2,
}

/// Microseconds since some fixed moment, never less than before. Called from inside calls of this
/// library, on the same thread; it must not use the handle.
pub type Now = Option<unsafe extern "C" fn(context: *mut c_void) -> u64>;

/// `ouro_settings.kv_window`: no position keeps every loop's K and V.
pub const OURO_NO_KV_WINDOW: u32 = u32::MAX;

/// What a handle is made with. Begin with `ouro_settings settings = {0};`: all fields but the first two
/// may stay 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Settings {
    /// Positions (tokens) in all, prompts and answers together. Decides the memory of K and V.
    pub context: u32,
    /// The most tokens fed at once: the longest prompt. Decides the memory of activations.
    pub prompt: u32,
    /// The most loops of a token; 0: as many as the model was trained with.
    pub max_loops: u32,
    /// The fewest loops of a token; 0: one.
    pub min_loops: u32,
    /// An `ouro_kv_sharing`.
    pub kv_sharing: u32,
    /// An `ouro_kv_type`.
    pub kv_type: u32,
    /// How many of the latest positions keep every loop's K and V; 0: one less than the loops of
    /// training, or than `max_loops` if that is more; OURO_NO_KV_WINDOW: none.
    pub kv_window: u32,
    /// An `ouro_exit`.
    pub exit_policy: u32,
    /// The policy's threshold, 0 to 1; of no meaning for OURO_EXIT_FILE and OURO_EXIT_FIXED.
    pub exit_threshold: f32,
    /// Bytes of the buffer that the model's bytes pass through; used with a read callback only. At
    /// least one row of the widest matrix, and 256; with OURO_VERIFY_WEIGHTS 8190 more.
    pub block_buffer: u32,
    /// The longest word in bytes that text to be encoded may have; 0: 64. Above 64, each byte takes
    /// 20 bytes of memory.
    pub longest_word: u32,
    /// The clock, for a budget of time; else NULL.
    pub now_us: Now,
    /// Handed to `now_us`.
    pub now_context: *mut c_void,
    /// An `ouro_verify`.
    pub verify: u32,
}

/// Words up to this long need no memory of their own.
const SHORT_WORD: usize = 64;

impl Settings {
    /// Symbols of scratch for words that are longer than most.
    pub(crate) fn word_symbols(&self) -> usize {
        let longest = self.longest_word as usize;
        if longest > SHORT_WORD { longest } else { 0 }
    }

    /// Those of the session.
    pub(crate) fn session(&self, model: &Model<'_>) -> Result<session::Settings, Error> {
        let or = |value: u32, default: usize| if value == 0 { default } else { value as usize };
        let max_loops = or(self.max_loops, model.config().loops);
        let context = self.context as usize;
        let window = match self.kv_window {
            OURO_NO_KV_WINDOW => 0,
            window => or(window, model.config().kv_window(max_loops)),
        };
        let kv = KvSettings { sharing: self.sharing(model)?, element: self.element()?, window };
        let rows = self.prompt as usize;
        Ok(session::Settings { context, rows, max_loops, min_loops: or(self.min_loops, 1), kv })
    }

    /// Which checksums are compared.
    pub(crate) fn verify(&self) -> Result<VerifyChoice, Error> {
        const METADATA: u32 = VerifyChoice::Metadata as u32;
        const WEIGHTS: u32 = VerifyChoice::Weights as u32;
        const NEVER: u32 = VerifyChoice::Never as u32;
        match self.verify {
            METADATA => Ok(VerifyChoice::Metadata),
            WEIGHTS => Ok(VerifyChoice::Weights),
            NEVER => Ok(VerifyChoice::Never),
            _ => Err(Error::Setting { name: "settings.verify", expected: "an ouro_verify" }),
        }
    }

    fn sharing(&self, model: &Model<'_>) -> Result<KvSharing, Error> {
        const FILE: u32 = KvSharingChoice::File as u32;
        const PER_LOOP: u32 = KvSharingChoice::PerLoop as u32;
        const LAST: u32 = KvSharingChoice::Last as u32;
        const AVERAGED: u32 = KvSharingChoice::Averaged as u32;
        match self.kv_sharing {
            FILE => Ok(model.kv_sharing_default().unwrap_or(KvSharing::Last)),
            PER_LOOP => Ok(KvSharing::PerLoop),
            LAST => Ok(KvSharing::Last),
            AVERAGED => Ok(KvSharing::Averaged),
            _ => Err(Error::Setting { name: "settings.kv_sharing", expected: "an ouro_kv_sharing" }),
        }
    }

    fn element(&self) -> Result<KvType, Error> {
        const F16: u32 = KvTypeChoice::F16 as u32;
        const INT8: u32 = KvTypeChoice::Int8 as u32;
        const F32: u32 = KvTypeChoice::F32 as u32;
        const INT4: u32 = KvTypeChoice::Int4 as u32;
        match self.kv_type {
            F16 => Ok(KvType::F16),
            INT8 => Ok(KvType::Int8),
            F32 => Ok(KvType::F32),
            INT4 => Ok(KvType::Int4),
            _ => Err(Error::Setting { name: "settings.kv_type", expected: "an ouro_kv_type" }),
        }
    }

    /// The exit policy.
    pub(crate) fn policy(&self, model: &Model<'_>) -> Result<ExitDefault, Error> {
        const FILE: u32 = ExitChoice::File as u32;
        const FIXED: u32 = ExitChoice::Fixed as u32;
        const Q: u32 = ExitChoice::Q as u32;
        const CONFIDENCE: u32 = ExitChoice::Confidence as u32;
        const MARGIN: u32 = ExitChoice::Margin as u32;
        const STEP: u32 = ExitChoice::Step as u32;
        let fixed = ExitDefault { kind: ExitKind::Fixed, threshold: 1.0 };
        let kind = match self.exit_policy {
            FILE => return Ok(model.exit_default().copied().unwrap_or(fixed)),
            FIXED => return Ok(fixed),
            Q if model.gate().is_none() => return Err(SessionError::NoGate.into()),
            Q => ExitKind::Q,
            CONFIDENCE => ExitKind::Confidence,
            MARGIN => ExitKind::Margin,
            STEP => ExitKind::Step,
            _ => return Err(Error::Setting { name: "settings.exit_policy", expected: "an ouro_exit" }),
        };
        if !(0.0..=1.0).contains(&self.exit_threshold) {
            return Err(Error::Setting { name: "settings.exit_threshold", expected: "0 to 1" });
        }
        Ok(ExitDefault { kind, threshold: self.exit_threshold })
    }
}

/// The caller's clock.
pub(crate) struct CallerClock {
    now: unsafe extern "C" fn(*mut c_void) -> u64,
    context: *mut c_void,
}

impl CallerClock {
    /// The clock of the settings, if they have one.
    ///
    /// # Safety
    /// As the header asks of the callback.
    pub(crate) unsafe fn of(settings: &Settings) -> Option<Self> {
        settings.now_us.map(|now| Self { now, context: settings.now_context })
    }
}

impl Clock for CallerClock {
    fn now(&self) -> Duration {
        // SAFETY: whoever made it vouches for the callback.
        Duration::from_micros(unsafe { (self.now)(self.context) })
    }
}

impl fmt::Debug for CallerClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallerClock")
    }
}

// SAFETY: it stays inside one handle, which one thread uses at a time.
unsafe impl Sync for CallerClock {}
