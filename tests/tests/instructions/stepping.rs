//! Counts the instructions of stretches of another program, one by one, alike on all x86-64 CPUs.
//!
//! The program is told that its CPU has every instruction. Those that work with vectors are counted and
//! passed over, also where the CPU has them: so none can be lacking, and stops, which take longest, are
//! fewer. What decides which instruction comes next may not depend on them: [`Unknown`] sees to that.

use super::unknown::Unknown;
use iced_x86::{Decoder, Instruction, Mnemonic};
use nix::libc::user_regs_struct;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use ouro_tests::{FORBIDDEN, MARK};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// The lines of a program that wants to [be traced](ouro_tests::be_traced), one for each stretch, and the
/// instructions of that stretch, with those that its marks take. `None` where tracing is forbidden.
pub(crate) fn count(program: &Path) -> Option<Vec<(String, u64)>> {
    #[allow(clippy::zombie_processes)] // waited for by its number
    let child = Command::new(program).stdout(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    let (mut traced, mut counts) = (None, Vec::new());
    loop {
        match waitpid(pid, None).unwrap() {
            WaitStatus::Stopped(_, MARK) => {
                counts.push(traced.get_or_insert_with(|| Traced::new(pid)).stretch());
                ptrace::cont(pid, None).unwrap();
            }
            WaitStatus::Stopped(_, Signal::SIGSTOP | Signal::SIGCONT) => ptrace::cont(pid, None).unwrap(),
            WaitStatus::Exited(_, 0) => break,
            WaitStatus::Exited(_, FORBIDDEN) => return None,
            other => panic!("{}: {other:?}", program.display()),
        }
    }
    // Until now they lay in the pipe, which holds tens of thousands of bytes.
    let mut lines = String::new();
    child.stdout.unwrap().read_to_string(&mut lines).unwrap();
    assert_eq!(lines.lines().count(), counts.len(), "{lines}");
    Some(lines.lines().map(str::to_owned).zip(counts).collect())
}

/// A program that has stopped at a mark.
struct Traced {
    pid: Pid,
    memory: File,
    /// Instructions met before, by address.
    met: HashMap<u64, Instruction>,
}

impl Traced {
    fn new(pid: Pid) -> Self {
        ptrace::setoptions(pid, Options::PTRACE_O_EXITKILL).unwrap();
        let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
        Self { pid, memory, met: HashMap::new() }
    }

    /// Goes on to the next mark, and tells how many instructions that took.
    fn stretch(&mut self) -> u64 {
        let mut unknown = Unknown::default();
        let (mut count, mut last) = (0, 0);
        let mut registers = ptrace::getregs(self.pid).unwrap();
        loop {
            let at = registers.rip;
            // Each round of a repeated instruction is a step.
            count += u64::from(at != last);
            last = at;
            let instruction = self.met.entry(at).or_insert_with(|| decode(&self.memory, at));
            if unknown.passes(instruction, &mut registers) || answer(instruction, &mut registers) {
                registers.rip = instruction.next_ip();
                continue;
            }
            ptrace::setregs(self.pid, registers).unwrap();
            ptrace::step(self.pid, None).unwrap();
            match waitpid(self.pid, None).unwrap() {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
                WaitStatus::Stopped(_, Signal::SIGSTOP | Signal::SIGCONT) => {} // before it was executed
                WaitStatus::Stopped(_, MARK) => return count,
                other => panic!("{other:?} at {at:x}: {:?}", instruction.code()),
            }
            registers = ptrace::getregs(self.pid).unwrap();
        }
    }
}

fn decode(memory: &File, at: u64) -> Instruction {
    let mut bytes = [0; 15];
    let read = memory.read_at(&mut bytes, at).unwrap();
    Decoder::with_ip(64, &bytes[..read], at, 0).decode()
}

/// Answers for the CPU, where it is asked, that it has everything.
fn answer(question: &Instruction, registers: &mut user_regs_struct) -> bool {
    let all = u32::MAX.into();
    match question.mnemonic() {
        Mnemonic::Cpuid => {
            [registers.rax, registers.rbx, registers.rcx, registers.rdx] = [all; 4];
        }
        Mnemonic::Xgetbv => [registers.rax, registers.rdx] = [all; 2],
        _ => return false,
    }
    true
}
