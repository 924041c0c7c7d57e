//! Common boards. No figure is ours unless it says so: each has its source, or how it was derived.
//! They are of one specimen with one card or chip; what is known better is given instead
//! (`--flash`, `--mem`, `--gmacs`), and on the board itself measured (`--measure`).

use super::Machine;
use crate::ram::Place;
use std::fmt::Write as _;

/// A board.
#[derive(Clone, Copy, Debug)]
pub struct Board {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Where its weights are if there is not enough memory: in a file, or in mapped flash.
    pub place: Place,
    /// All its memory, where that is the same on each; else it is to be said.
    pub ram: Option<usize>,
    /// Bytes per second from flash, in 10^6.
    pub flash: f64,
    /// Where that figure is from.
    pub flash_source: &'static str,
    /// Bytes per second from memory, in 10^9.
    pub memory: f64,
    /// Where that figure is from.
    pub memory_source: &'static str,
    /// Products per second, in 10^9, of all cores that compute.
    pub gmacs: f64,
    /// Where that figure is from.
    pub gmacs_source: &'static str,
}

const LLAMAFILE: &str =
    "J. Tunney, LLaMA Now Goes Faster on CPUs (github.com/guevara/read-it-later/issues/11711)";

/// All boards.
pub const BOARDS: [Board; 6] = [
    Board {
        name: "pi-zero-2",
        about: "Raspberry Pi Zero 2 W: four Cortex-A53 at 1 GHz, 512 MB of LPDDR2, 384 MiB of them free, microSD",
        place: Place::File,
        ram: Some(384 << 20),
        flash: 22.0,
        flash_source: "derived: SD high speed is 4 bits at 50 MHz, 25 MB/s at most; 90 % of that",
        memory: 2.1,
        memory_source: "derived: tinymembench copies 1.07 GB/s on a CM0 (same chip and memory), which reads and \
                        writes each byte (github.com/geerlingguy/sbc-reviews/issues/98)",
        gmacs: 3.0,
        gmacs_source: "derived: the Pi 4's, by clock (1.0 of 1.8 GHz) and by the A53's half as wide vector unit",
    },
    Board {
        name: "pi4",
        about: "Raspberry Pi 4: four Cortex-A72 at 1.8 GHz, LPDDR4, microSD",
        place: Place::File,
        ram: None,
        flash: 45.0,
        flash_source: "measured on a microSD card, 45 MB/s as a rule \
                       (zhonguncle.github.io, Performance Record of Raspberry Pi 4B); its bus is DDR50, 50 MB/s",
        memory: 3.5,
        memory_source: "derived: 3 tokens/s of TinyLlama 1.1B q8_0, 1.17 GB each (LLAMAFILE); STREAM copies \
                        5.5 GB/s, reading and writing (sci-pi.org.uk/bench/stream.html)",
        gmacs: 11.0,
        gmacs_source: "derived: a prompt's 10 tokens/s of TinyLlama 1.1B q8_0 (LLAMAFILE)",
    },
    Board {
        name: "pi5",
        about: "Raspberry Pi 5: four Cortex-A76 at 2.4 GHz, LPDDR4X, microSD",
        place: Place::File,
        ram: None,
        flash: 90.0,
        flash_source: "derived: its bus is SDR104, 104 MB/s at most, and about 100 MB/s were measured \
                       (zhonguncle.github.io, Performance Record of Raspberry Pi 4B); 90 % of that. \
                       NVMe reads 400 MB/s and more: say --flash",
        memory: 10.5,
        memory_source: "derived: 9 tokens/s of TinyLlama 1.1B q8_0, 1.17 GB each (LLAMAFILE)",
        gmacs: 49.0,
        gmacs_source: "derived: a prompt's 45 tokens/s of TinyLlama 1.1B q8_0 (LLAMAFILE)",
    },
    Board {
        name: "esp32-s3",
        about: "ESP32-S3: Xtensa LX7 at 240 MHz, one core, 512 KB of SRAM, quad flash at 80 MHz",
        place: Place::Flash,
        ram: Some(512 << 10),
        flash: 33.0,
        flash_source: "derived: 4 bits at 80 MHz are 40 MB/s, and a cache line of 64 bytes waits 0.33 us more, as \
                       measured for its PSRAM (github.com/project-x51/esp32-s3-memorycopy/issues/2)",
        memory: 0.96,
        memory_source: "derived: 4 bytes per cycle of SRAM",
        gmacs: 0.042,
        gmacs_source: "derived: 5.7 instructions per product of the scalar kernel, counted on a Cortex-M4 \
                       (runtime/src/kernels/README.md), one per cycle",
    },
    Board {
        name: "rp2350",
        about: "RP2350 (Pico 2): Cortex-M33 at 150 MHz, one core, 520 KB of SRAM, quad flash at 75 MHz",
        place: Place::Flash,
        ram: Some(520 << 10),
        flash: 37.5,
        flash_source: "derived: 4 bits at 75 MHz, half the system clock, as the SDK starts it",
        memory: 0.6,
        memory_source: "derived: 4 bytes per cycle of SRAM",
        gmacs: 0.095,
        gmacs_source: "derived: 1.57 instructions per product of the DSP kernel for Q4_0, counted on a Cortex-M4 \
                       (runtime/src/kernels/README.md), one per cycle",
    },
    Board {
        name: "stm32h743",
        about: "STM32H743: Cortex-M7 at 480 MHz, 512 KiB of AXI SRAM (of 1 MiB), quad flash at 133 MHz",
        place: Place::Flash,
        ram: Some(512 << 10),
        flash: 66.5,
        flash_source: "derived: 4 bits at 133 MHz, the most that its datasheet (DS12110) allows; the 2 MiB inside \
                       are faster",
        memory: 1.92,
        memory_source: "derived: 8 bytes per cycle of the AXI bus at 240 MHz",
        gmacs: 0.305,
        gmacs_source: "derived: 1.57 instructions per product of the DSP kernel for Q4_0, counted on a Cortex-M4 \
                       (runtime/src/kernels/README.md), one per cycle, though the M7 can issue two",
    },
];

impl Board {
    /// The board of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        BOARDS.iter().find(|board| board.name == name)
    }

    /// Its rates.
    #[must_use]
    pub fn machine(&self) -> Machine {
        let memory = 1e9 * self.memory;
        Machine {
            flash: Some(1e6 * self.flash),
            memory,
            kv: memory,
            prompt_kv: memory,
            macs: 1e9 * self.gmacs,
        }
    }

    /// All boards, with the source of each figure.
    #[must_use]
    pub fn list() -> String {
        let mut text = String::new();
        for board in &BOARDS {
            let Board {
                name, about, flash, flash_source, memory, memory_source, gmacs, gmacs_source, ..
            } = board;
            // Writing to a string never fails.
            let _ = writeln!(text, "{name}: {about}");
            for (figure, source) in [
                (format!("flash {flash} MB/s"), flash_source),
                (format!("memory {memory} GB/s"), memory_source),
                (format!("products {gmacs} G/s"), gmacs_source),
            ] {
                let _ = writeln!(text, "  {figure:18} {}", source.replace("LLAMAFILE", LLAMAFILE));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_a_source() {
        for board in &BOARDS {
            assert_eq!(Board::named(board.name).unwrap().about, board.about);
            for source in [board.flash_source, board.memory_source, board.gmacs_source] {
                let known = ["derived: ", "measured "].iter().any(|word| source.starts_with(word));
                assert!(known && !source.contains("  "), "{}: {source}", board.name);
            }
            assert!(board.flash / 1e3 <= board.memory && board.gmacs > 0.0);
            assert!(board.ram.is_some() || board.place == Place::File);
        }
        assert!(Board::list().matches("derived").count() > 6 && !Board::list().contains("LLAMAFILE"));
    }
}
