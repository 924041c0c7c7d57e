//! What depends on instructions that were passed over.

use iced_x86::{
    EncodingKind, FlowControl, Instruction, InstructionInfo, InstructionInfoFactory, Mnemonic, OpAccess,
    Register, UsedMemory,
};
use nix::libc::user_regs_struct;
use std::collections::HashSet;
use std::hash::Hash;
use std::ops::Range;

/// Flags that a comparison of two floats sets, in the CPU's places, and those of them that say "equal".
const COMPARED: u64 = 1 << 11 | 1 << 7 | 1 << 6 | 1 << 4 | 1 << 2 | 1;
const EQUAL: u64 = 1 << 6;

/// Registers, flags and bytes of memory that might hold something else if all had been executed.
#[derive(Default)]
pub(crate) struct Unknown {
    registers: HashSet<Register>,
    /// Bits as in `iced_x86::RflagsBits`.
    flags: u32,
    bytes: HashSet<u64>,
}

impl Unknown {
    /// Whether to pass over an instruction that finds these general registers: if it works with vectors and
    /// not every x86-64 has it. The others copy structures, pointers among them.
    ///
    /// Of comparisons that are passed over, equal is what comes out: so attention counts its blocks
    /// as if none had a score above all before it, which is true of most.
    ///
    /// # Panics
    /// If something unknown is an address or decides, in another way, what comes next.
    pub(crate) fn passes(&mut self, instruction: &Instruction, found: &mut user_regs_struct) -> bool {
        let optional = instruction.code().encoding() != EncodingKind::Legacy;
        if !optional && self.is_empty() {
            return false;
        }
        let mut factory = InstructionInfoFactory::new();
        let info = factory.info(instruction);
        let passed = optional && info.used_registers().iter().any(|used| holds_data(used.register()));
        let unknown = passed || self.reaches(info, found);
        let decides = unknown && instruction.flow_control() != FlowControl::Next
            || instruction.rflags_read() & self.flags != 0
            || places(info).any(|used| self.is_where(used));
        let (code, at) = (instruction.code(), instruction.ip());
        assert!(!decides, "{code:?} at {at:x}: what comes next depends on what was passed over");
        self.note(instruction, info, unknown, found);
        if passed && matches!(instruction.mnemonic(), Mnemonic::Vcomiss | Mnemonic::Vucomiss) {
            found.eflags = found.eflags & !COMPARED | EQUAL;
            self.flags = 0;
        }
        passed
    }

    fn is_empty(&self) -> bool {
        self.registers.is_empty() && self.flags == 0 && self.bytes.is_empty()
    }

    /// Whether an instruction reads something unknown.
    fn reaches(&self, info: &InstructionInfo, found: &user_regs_struct) -> bool {
        let mut registers = info.used_registers().iter();
        let mut memory = places(info);
        registers
            .any(|used| reads(used.access()) && self.registers.contains(&used.register().full_register()))
            || memory
                .any(|used| reads(used.access()) && bytes(used, found).any(|at| self.bytes.contains(&at)))
    }

    /// Whether an address is unknown.
    fn is_where(&self, used: &UsedMemory) -> bool {
        let unknown = |register: Register| self.registers.contains(&register.full_register());
        (reads(used.access()) || writes(used.access())) && (unknown(used.base()) || unknown(used.index()))
    }

    /// Notes what becomes of all that an instruction writes.
    fn note(
        &mut self,
        instruction: &Instruction,
        info: &InstructionInfo,
        unknown: bool,
        found: &user_regs_struct,
    ) {
        for used in info.used_registers().iter().filter(|used| writes(used.access())) {
            // What is left of a register of which a byte or two are written stays what it was.
            let whole = used.access() == OpAccess::Write && used.register().size() >= 4;
            note(&mut self.registers, used.register().full_register(), unknown, whole);
        }
        for used in places(info).filter(|used| writes(used.access())) {
            let whole = used.access() == OpAccess::Write;
            bytes(used, found).for_each(|byte| note(&mut self.bytes, byte, unknown, whole));
        }
        let flags = instruction.rflags_modified();
        self.flags = if unknown { self.flags | flags } else { self.flags & !flags };
    }
}

fn holds_data(register: Register) -> bool {
    register.is_vector_register() || register.is_k()
}

/// Notes what became of a place that was written, perhaps not the whole of it.
fn note<P: Eq + Hash>(places: &mut HashSet<P>, place: P, unknown: bool, whole: bool) {
    if unknown {
        places.insert(place);
    } else if whole {
        places.remove(&place);
    }
}

fn reads(access: OpAccess) -> bool {
    !matches!(access, OpAccess::None | OpAccess::Write | OpAccess::CondWrite | OpAccess::NoMemAccess)
}

fn writes(access: OpAccess) -> bool {
    !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
}

/// Memory that an instruction uses, but for lists of addresses: what gathers is passed over, and what scatters
/// is trusted to write numbers alone.
fn places(info: &InstructionInfo) -> impl Iterator<Item = &UsedMemory> {
    info.used_memory().iter().filter(|used| !used.index().is_vector_register())
}

/// The bytes that are read or written.
fn bytes(used: &UsedMemory, found: &user_regs_struct) -> Range<u64> {
    let at = used
        .virtual_address(0, |register, _, _| value(register, found))
        .expect("an address of general registers");
    at..at + used.memory_size().size() as u64
}

fn value(register: Register, found: &user_regs_struct) -> Option<u64> {
    Some(match register.full_register() {
        Register::RAX => found.rax,
        Register::RBX => found.rbx,
        Register::RCX => found.rcx,
        Register::RDX => found.rdx,
        Register::RSI => found.rsi,
        Register::RDI => found.rdi,
        Register::RBP => found.rbp,
        Register::RSP => found.rsp,
        Register::R8 => found.r8,
        Register::R9 => found.r9,
        Register::R10 => found.r10,
        Register::R11 => found.r11,
        Register::R12 => found.r12,
        Register::R13 => found.r13,
        Register::R14 => found.r14,
        Register::R15 => found.r15,
        Register::FS => found.fs_base,
        Register::GS => found.gs_base,
        Register::CS | Register::DS | Register::ES | Register::SS => 0,
        _ => return None,
    })
}
