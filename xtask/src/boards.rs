//! The boards: how their images are built, and which emulator runs them.

use std::fmt;

/// A board.
#[derive(Clone, Copy, Debug)]
pub struct Board {
    /// Its name, QEMU's where there is one.
    pub name: &'static str,
    /// What it stands for.
    pub about: &'static str,
    /// The crate in `targets/`.
    pub krate: &'static str,
    /// Rust's name of the target.
    pub target: &'static str,
    /// Features of the crate, comma-separated: what the core has and its target does not tell.
    pub features: &'static str,
    /// The back end that its image should choose.
    pub backend: &'static str,
    /// How it is run; `None`: built only.
    pub emulator: Option<Emulator>,
    /// What instructions are turned into time with; `None`: nothing is counted on it.
    pub clock: Option<Clock>,
}

/// How fast a chip runs that has this core and enough RAM.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The chip.
    pub chip: &'static str,
    /// Its highest clock.
    pub mhz: u32,
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} MHz", self.chip, self.mhz)
    }
}

const fn clock(chip: &'static str, mhz: u32) -> Option<Clock> {
    Some(Clock { chip, mhz })
}

/// An emulator with a machine.
#[derive(Clone, Copy, Debug)]
pub struct Emulator {
    /// The program.
    pub program: &'static str,
    /// The Debian package that has it.
    pub package: &'static str,
    /// The machine and what else it needs.
    pub arguments: &'static [&'static str],
}

const fn arm(arguments: &'static [&'static str]) -> Option<Emulator> {
    Some(Emulator { program: "qemu-system-arm", package: "qemu-system-arm", arguments })
}

const fn riscv(program: &'static str, arguments: &'static [&'static str]) -> Option<Emulator> {
    Some(Emulator { program, package: "qemu-system-misc", arguments })
}

/// All boards.
pub const BOARDS: [Board; 10] = [
    Board {
        name: "mps2-an386",
        about: "Cortex-M4F",
        krate: "cortex-m",
        target: "thumbv7em-none-eabihf",
        features: "",
        backend: "dsp",
        emulator: arm(&["-M", "mps2-an386"]),
        clock: clock("STM32F469", 180),
    },
    Board {
        name: "mps2-an500",
        about: "Cortex-M7",
        krate: "cortex-m",
        target: "thumbv7em-none-eabihf",
        features: "",
        backend: "dsp",
        emulator: arm(&["-M", "mps2-an500"]),
        clock: clock("STM32F767", 216),
    },
    Board {
        name: "mps2-an505",
        about: "Cortex-M33",
        krate: "cortex-m",
        target: "thumbv8m.main-none-eabihf",
        features: "dsp",
        backend: "dsp",
        emulator: arm(&["-M", "mps2-an505"]),
        clock: clock("nRF5340", 128),
    },
    Board {
        name: "mps3-an547",
        about: "Cortex-M55",
        krate: "cortex-m",
        target: "thumbv8m.main-none-eabihf",
        features: "dsp,helium",
        backend: "helium",
        emulator: arm(&["-M", "mps3-an547"]),
        clock: clock("Alif Ensemble E7", 400),
    },
    Board {
        name: "rp2040",
        about: "Cortex-M0+; built, not run",
        krate: "cortex-m",
        target: "thumbv6m-none-eabi",
        features: "",
        backend: "scalar",
        emulator: None,
        clock: None,
    },
    Board {
        name: "virt-rv32imac",
        about: "RISC-V, 32 bits, no FPU",
        krate: "riscv",
        target: "riscv32imac-unknown-none-elf",
        features: "",
        backend: "scalar",
        emulator: riscv("qemu-system-riscv32", &["-M", "virt", "-bios", "none"]),
        clock: clock("ESP32-C6", 160),
    },
    Board {
        name: "virt-rv32imafc",
        about: "RISC-V, 32 bits, single-precision FPU",
        krate: "riscv",
        target: "riscv32imafc-unknown-none-elf",
        features: "",
        backend: "scalar",
        emulator: riscv("qemu-system-riscv32", &["-M", "virt", "-bios", "none"]),
        clock: clock("ESP32-P4", 400),
    },
    Board {
        name: "virt-rv64gc",
        about: "RISC-V, 64 bits",
        krate: "riscv",
        target: "riscv64gc-unknown-none-elf",
        features: "",
        backend: "scalar",
        emulator: riscv("qemu-system-riscv64", &["-M", "virt", "-bios", "none"]),
        clock: clock("Kendryte K210", 400),
    },
    Board {
        name: "virt-rv64gcv",
        about: "RISC-V, 64 bits, vectors of 128 bits",
        krate: "riscv",
        target: "riscv64gc-unknown-none-elf",
        features: "rvv",
        backend: "rvv",
        emulator: riscv(
            "qemu-system-riscv64",
            &["-M", "virt", "-bios", "none", "-cpu", "rv64,v=true,vext_spec=v1.0,vlen=128"],
        ),
        clock: clock("Kendryte K230", 1600),
    },
    Board {
        name: "virt-aarch64",
        about: "Cortex-A76, bare metal",
        krate: "aarch64",
        target: "aarch64-unknown-none",
        features: "",
        backend: "neon",
        emulator: arm_64(&["-M", "virt", "-cpu", "cortex-a76", "-nic", "none"]),
        clock: clock("Raspberry Pi 5", 2400),
    },
];

const fn arm_64(arguments: &'static [&'static str]) -> Option<Emulator> {
    Some(Emulator { program: "qemu-system-aarch64", package: "qemu-system-arm", arguments })
}

/// The board of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Board> {
    BOARDS.iter().find(|board| board.name == name)
}
