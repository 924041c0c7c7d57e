//! What depends on instructions that were passed over.

use iced_x86::{
    EncodingKind, Instruction, InstructionInfoFactory, OpAccess, Register, RflagsBits, UsedMemory,
};
use nix::libc::user_regs_struct;
use std::collections::HashSet;
use std::hash::Hash;
use std::ops::Range;

/// Vector and mask registers and bytes of memory that might hold something else if all had been executed.
#[derive(Default)]
pub(crate) struct Unknown {
    registers: HashSet<Register>,
    bytes: HashSet<u64>,
}

impl Unknown {
    /// Whether to pass over an instruction that finds these general registers: if it works with vectors and
    /// not every x86-64 has it. The others copy structures, pointers among them.
    ///
    /// # Panics
    /// If general registers or flags depend on something unknown.
    pub(crate) fn passes(&mut self, instruction: &Instruction, found: &user_regs_struct) -> bool {
        let optional = instruction.code().encoding() != EncodingKind::Legacy;
        if !optional && self.registers.is_empty() && self.bytes.is_empty() {
            return false;
        }
        let mut factory = InstructionInfoFactory::new();
        let info = factory.info(instruction);
        let registers =
            || info.used_registers().iter().map(|used| (used.register().full_register(), used.access()));
        let memory = || info.used_memory().iter().map(|used| (bytes(used, found), used.access()));
        let passed = optional && registers().any(|(register, _)| holds_data(register));
        let unknown = passed
            || registers().any(|(register, access)| reads(access) && self.registers.contains(&register))
            || memory().any(|(mut at, access)| reads(access) && at.any(|byte| self.bytes.contains(&byte)));
        let mut decides = unknown && instruction.rflags_modified() != RflagsBits::NONE;
        for (register, access) in registers().filter(|(_, access)| writes(*access)) {
            decides |= unknown && !holds_data(register);
            note(&mut self.registers, register, unknown, access);
        }
        for (at, access) in memory().filter(|(_, access)| writes(*access)) {
            at.for_each(|byte| note(&mut self.bytes, byte, unknown, access));
        }
        let (code, at) = (instruction.code(), instruction.ip());
        assert!(!decides, "{code:?} at {at:x}: what comes next depends on what was passed over");
        passed
    }
}

fn holds_data(register: Register) -> bool {
    register.is_vector_register() || register.is_k()
}

/// Notes what became of a place that was written.
fn note<P: Eq + Hash>(places: &mut HashSet<P>, place: P, unknown: bool, access: OpAccess) {
    if unknown {
        places.insert(place);
    } else if access == OpAccess::Write {
        places.remove(&place);
    }
}

fn reads(access: OpAccess) -> bool {
    !matches!(access, OpAccess::None | OpAccess::Write | OpAccess::CondWrite | OpAccess::NoMemAccess)
}

fn writes(access: OpAccess) -> bool {
    !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
}

/// The bytes that are read or written.
fn bytes(used: &UsedMemory, found: &user_regs_struct) -> Range<u64> {
    let at =
        used.virtual_address(0, |register, _, _| value(register, found)).expect("no gathering of unknown");
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
