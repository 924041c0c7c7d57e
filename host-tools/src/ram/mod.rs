//! Dividing the memory that a process may have: what a session needs, the block buffer, and in what
//! is left, weights that stay.

mod division;
mod pins;

pub use division::{Demand, Division, Parts, Place};
pub use pins::choose_pins;

use crate::args::ModelArgs;
use crate::error::Error;
use crate::open::Opened;
use crate::report::human_bytes;
use crate::store::HostStore;
use ouro_runtime::session::Settings;
use ouro_runtime::store::Store;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Memory for weights that are not all in memory.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Memory")]
pub struct RamArgs {
    /// All the memory that the process may have, with K, M or G: weights that do not fit are read
    /// in every loop; implies --store file, so not for the built-in model
    #[arg(long, value_name = "BYTES", value_parser = crate::args::parse_bytes)]
    pub ram: Option<usize>,
    /// Weights that stay in memory once they were read: auto (as many as --ram has room for), none,
    /// or a list of layers and the head, such as blk.0-5,blk.9,output
    #[arg(long, value_name = "auto|none|LIST", default_value = "auto")]
    pub pin: PinChoice,
}

/// Which weights stay in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinChoice {
    /// As many as there is room for.
    Auto,
    /// None.
    None,
    /// These parts.
    Parts {
        /// Layers, from 0.
        layers: Vec<RangeInclusive<usize>>,
        /// The output head.
        head: bool,
    },
}

impl FromStr for PinChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = |part: &str| {
            format!("{part:?} found, expected auto, none, or a list such as blk.0-5,blk.9,output")
        };
        match text {
            "auto" => return Ok(Self::Auto),
            "none" => return Ok(Self::None),
            _ => {}
        }
        let (mut layers, mut head) = (Vec::new(), false);
        for part in text.split(',').map(str::trim) {
            if part == "output" {
                head = true;
                continue;
            }
            let range = part.strip_prefix("blk.").ok_or_else(|| expected(part))?;
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| text.parse::<usize>().map_err(|_| expected(part));
            layers.push(number(first)?..=number(last)?);
        }
        Ok(Self::Parts { layers, head })
    }
}

/// The block buffer where nothing is said.
const BLOCK_BUFFER: usize = 4 << 20;
/// The least that is chosen for a small memory.
const SMALLEST_BLOCK_BUFFER: usize = 128 << 10;

/// Bytes of the block buffer: what was asked for, else a small part of the memory.
#[must_use]
pub fn block_buffer(asked: Option<usize>, ram: Option<usize>) -> usize {
    let usual = |ram: usize| (ram / 32).clamp(SMALLEST_BLOCK_BUFFER, BLOCK_BUFFER);
    asked.unwrap_or_else(|| ram.map_or(BLOCK_BUFFER, usual))
}

impl RamArgs {
    /// Decides which tiles stay in memory beside so many sessions, and has the store keep them.
    ///
    /// # Errors
    /// [`Error::DoesNotFit`] before any weight is read, with the least memory that would do.
    pub fn divide(
        &self,
        model: &ModelArgs,
        store: &mut HostStore,
        opened: &Opened<'_>,
        (settings, sessions): (&Settings, usize),
    ) -> Result<Division, Error> {
        let place = if store.max_tile() == usize::MAX { Place::Memory } else { Place::File };
        if let (Place::Memory, PinChoice::Parts { .. }) = (place, &self.pin) {
            let text = "--pin needs --store file or --ram: all of the model is in memory already";
            return Err(Error::Usage(text.to_owned()));
        }
        let demand = Demand { sessions, ..Demand::of(store, opened, settings) };
        let division = demand.divide(place, self.ram, model.block_buffer, &self.pin)?;
        if place == Place::File {
            debug_assert_eq!(division.max_tile, store.max_tile());
            pins::note_order(opened.model.stack_tiles(division.max_tile), division.max_tile);
        }
        store.pin(&division.pins).map_err(|_| {
            let bytes = human_bytes(division.parts.weights as u64);
            Error::DoesNotFit(format!("{bytes} of pinned weights do not fit in memory"))
        })?;
        Ok(division)
    }
}

/// Bytes of memory that the process has now; `None` where the system does not tell.
#[must_use]
pub fn resident() -> Option<usize> {
    status("VmRSS:")
}

/// The most memory that the process has had.
#[must_use]
pub fn peak_resident() -> Option<usize> {
    status("VmHWM:")
}

fn status(name: &str) -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_on_the_command_line() {
        assert_eq!("auto".parse(), Ok(PinChoice::Auto));
        assert_eq!("none".parse(), Ok(PinChoice::None));
        assert_eq!(
            "blk.0-5, blk.9,output".parse(),
            Ok(PinChoice::Parts { layers: vec![0..=5, 9..=9], head: true })
        );
        for text in ["", "5", "blk.", "blk.x", "blk.1-", "head", "auto,output"] {
            assert!(text.parse::<PinChoice>().unwrap_err().contains("blk.0-5"), "{text}");
        }
    }
}
