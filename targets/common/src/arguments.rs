//! Arguments that QEMU hands over (`-semihosting-config arg=…`), `name=value` or `name` each.

use crate::STACK_BYTES;
use crate::failure::Failure;
use heapless::String;
use ouro_runtime::kv::{KvSharing, KvType};
use ouro_runtime::model::{ExitDefault, ExitKind};
use semihosting::experimental::env;

/// Enough for any command line here; a longer one counts as none.
const COMMAND_LINE: usize = 1024;
/// The longest prompt in bytes.
pub(crate) const PROMPT: usize = 320;

/// How the model in flash is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    /// In place (XIP).
    Mapped,
    /// Through the driver of a NOR chip, into a block buffer in RAM.
    Nor,
}

/// What the image is to do.
#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    /// `prompt=`, with every byte that is no letter or digit as `%` and two hexadecimal digits.
    pub(crate) prompt: String<PROMPT>,
    /// `policy=`: `fixed`, or `q`, `confidence`, `margin`, `step` with `=X`; else the file's.
    pub(crate) policy: Option<ExitDefault>,
    /// `kv=`: `per-loop`, `last` or `averaged`; else the file's.
    pub(crate) kv: Option<KvSharing>,
    /// `kv-type=`: `f32`, `f16`, `int8` or `int4`; else `f16`.
    pub(crate) kv_type: Option<KvType>,
    /// `max-new=`: the most tokens of an answer.
    pub(crate) max_new: usize,
    /// `store=xip` or `store=nor`.
    pub(crate) medium: Medium,
    /// `buffer=`: bytes of the block buffer.
    pub(crate) buffer: usize,
    /// `truncate=`: the file ends after this many bytes.
    pub(crate) truncate: Option<usize>,
    /// `flip=`: the NOR chip delivers the byte at this offset with all bits flipped.
    pub(crate) flip: Option<u32>,
    /// `fail-after=`: the NOR chip fails after this many reads.
    pub(crate) fail_after: Option<u32>,
    /// `short=`: the session's arena is this many bytes too small.
    pub(crate) short: usize,
    /// `stack=`: the most bytes of stack that the run may use; at most all there are.
    pub(crate) stack: usize,
    /// `late`: allocates after the heap is closed.
    pub(crate) late: bool,
    /// `stray`: writes to flash.
    pub(crate) stray: bool,
    /// `overflow`: needs more stack than there is.
    pub(crate) overflow: bool,
}

impl Arguments {
    /// Reads the command line; without one, what a first look at the image wants to see.
    pub(crate) fn read() -> Result<Self, Failure> {
        let mut arguments = Self {
            prompt: String::new(),
            policy: None,
            kv: None,
            kv_type: None,
            max_new: 16,
            medium: Medium::Mapped,
            buffer: 16 << 10,
            truncate: None,
            flip: None,
            fail_after: None,
            short: 0,
            stack: STACK_BYTES,
            late: false,
            stray: false,
            overflow: false,
        };
        let line = env::args::<COMMAND_LINE>().map_err(|_| Failure::Argument("a shorter command line"))?;
        for argument in (&line).skip(1) {
            let argument = argument.map_err(|_| Failure::Argument("arguments in ASCII"))?;
            arguments.set(argument).map_err(Failure::Argument)?;
        }
        if arguments.prompt.is_empty() {
            let _ = arguments.prompt.push_str("60 plus 70?");
        }
        Ok(arguments)
    }

    fn set(&mut self, argument: &str) -> Result<(), &'static str> {
        let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
        match name {
            "prompt" => self.prompt = unescape(value).ok_or("prompt= with text of at most 320 bytes")?,
            "policy" => {
                self.policy =
                    Some(policy(value).ok_or("policy= with fixed, q=X, confidence=X, margin=X or step=X")?);
            }
            "kv" => {
                let found = KvSharing::ALL.into_iter().find(|sharing| sharing.name() == value);
                self.kv = Some(found.ok_or("kv= with per-loop, last or averaged")?);
            }
            "kv-type" => {
                self.kv_type = Some(match value {
                    "f32" => KvType::F32,
                    "f16" => KvType::F16,
                    "int8" => KvType::Int8,
                    "int4" => KvType::Int4,
                    _ => return Err("kv-type= with f32, f16, int8 or int4"),
                });
            }
            "max-new" => self.max_new = number(value)?,
            "store" => {
                self.medium = match value {
                    "xip" => Medium::Mapped,
                    "nor" => Medium::Nor,
                    _ => return Err("store= with xip or nor"),
                }
            }
            "buffer" => self.buffer = number(value)?,
            "truncate" => self.truncate = Some(number(value)?),
            "flip" => self.flip = Some(number(value)?),
            "fail-after" => self.fail_after = Some(number(value)?),
            "short" => self.short = number(value)?,
            "stack" => self.stack = number(value)?,
            "late" => self.late = true,
            "stray" => self.stray = true,
            "overflow" => self.overflow = true,
            _ => {
                return Err(
                    "prompt=, policy=, kv=, kv-type=, max-new=, store=, buffer=, truncate=, flip=, fail-after=, short=, stack=, late, stray, overflow",
                );
            }
        }
        Ok(())
    }
}

fn number<T: core::str::FromStr>(value: &str) -> Result<T, &'static str> {
    value.parse().map_err(|_| "a number behind =")
}

fn policy(value: &str) -> Option<ExitDefault> {
    let (name, threshold) = value.split_once('=').unwrap_or((value, "1"));
    let kind = ExitKind::ALL.into_iter().find(|kind| kind.name() == name)?;
    let threshold = threshold.parse().ok().filter(|threshold| (0.0..=1.0).contains(threshold))?;
    Some(ExitDefault { kind, threshold })
}

fn unescape(mut value: &str) -> Option<String<PROMPT>> {
    let mut bytes = heapless::Vec::new();
    while let Some((before, escaped)) = value.split_once('%') {
        bytes.extend_from_slice(before.as_bytes()).ok()?;
        let (digits, rest) = escaped.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?).ok()?;
        value = rest;
    }
    bytes.extend_from_slice(value.as_bytes()).ok()?;
    String::from_utf8(bytes).ok()
}
