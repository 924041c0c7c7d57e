//! A program whose system calls a test sees as they return: it can have them fail, as on a disk that is
//! broken, and kill the program between any two of them. Where it has one thread, they come in the same
//! order every time; what it writes has to fit into a pipe (64 KiB), as it is read at the end.

use crate::Ran;
use nix::libc::{PTRACE_SYSCALL_INFO_EXIT, SYS_pread64, user_regs_struct};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use ouro_runtime::store::Span;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A system call that has just returned.
#[derive(Debug)]
pub struct Call {
    thread: Pid,
    registers: user_regs_struct,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The program gets what it returned.
    Returns,
    /// The program gets this error code.
    Fails(i32),
    /// The program is killed.
    Kills,
}

/// Runs the program at `path` with `input` on its standard input, and asks `then` about each of its system
/// calls. `None` where tracing is forbidden, or system calls can't be told from other stops, as in some
/// containers.
///
/// # Panics
/// If it can't be run.
#[must_use]
pub fn run_traced(
    path: &str,
    args: &[&str],
    input: &[u8],
    then: &mut dyn FnMut(&Call) -> Then,
) -> Option<Ran> {
    // It waits for a line, so that nothing of the program escapes.
    let script = "read -r line && exec \"$0\" \"$@\"";
    let mut command = Command::new("/bin/sh");
    let command = command.args(["-c", script, path]).args(args);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a shell");
    let main = Pid::from_raw(child.id().try_into().expect("a process id"));
    if ptrace::attach(main).is_err() {
        child.kill().and_then(|()| child.wait()).expect("it waits for a line");
        return None;
    }
    waitpid(main, None).expect("it stops");
    let options = [Options::PTRACE_O_TRACESYSGOOD, Options::PTRACE_O_TRACECLONE, Options::PTRACE_O_TRACEEXEC];
    let options = options.into_iter().fold(Options::PTRACE_O_EXITKILL, Options::union);
    ptrace::setoptions(main, options).expect("it has stopped");
    if ptrace::syscall_info(main).is_err() {
        child.kill().and_then(|()| child.wait()).expect("it has stopped");
        return None;
    }
    go_on(main, None);
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(&[b"\n", input].concat()).expect("less than a pipe holds");
    drop(stdin);
    let code = follow(main, then);
    Some(ran(child, code))
}

/// Until the program ends: its exit code, if it was not killed.
fn follow(main: Pid, then: &mut dyn FnMut(&Call) -> Then) -> Option<i32> {
    // Threads of it, but no programs of other threads of this one.
    let mine = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    loop {
        match waitpid(None::<Pid>, Some(mine)).expect("a program that has not ended") {
            WaitStatus::Exited(thread, code) if thread == main => return Some(code),
            WaitStatus::Signaled(thread, ..) if thread == main => return None,
            WaitStatus::PtraceSyscall(thread) => {
                match Call::returned(thread).map_or(Then::Returns, |call| call.becomes(then(&call))) {
                    Then::Kills => kill(main, Signal::SIGKILL).expect("it has not ended"),
                    Then::Returns | Then::Fails(_) => go_on(thread, None),
                }
            }
            WaitStatus::PtraceEvent(thread, ..) => go_on(thread, None),
            // A new thread begins with this one.
            WaitStatus::Stopped(thread, Signal::SIGSTOP) => go_on(thread, None),
            WaitStatus::Stopped(thread, signal) => go_on(thread, Some(signal)),
            _ => {}
        }
    }
}

/// To the next system call. A thread that was killed meanwhile has none.
fn go_on(thread: Pid, signal: Option<Signal>) {
    let _ = ptrace::syscall(thread, signal);
}

/// What the pipes hold: it is little enough.
fn ran(child: Child, code: Option<i32>) -> Ran {
    let (mut stdout, mut stderr) = (Vec::new(), String::new());
    child.stdout.expect("it is piped").read_to_end(&mut stdout).expect("a pipe");
    child.stderr.expect("it is piped").read_to_string(&mut stderr).expect("UTF-8");
    Ran { code, stdout, stderr }
}

impl Call {
    /// The call that a thread returns from, if that is why it has stopped.
    fn returned(thread: Pid) -> Option<Self> {
        let info = ptrace::syscall_info(thread).ok()?;
        let registers = ptrace::getregs(thread).ok()?;
        (info.op == PTRACE_SYSCALL_INFO_EXIT).then_some(Self { thread, registers })
    }

    fn becomes(&self, then: Then) -> Then {
        if let Then::Fails(code) = then {
            let rax = -i64::from(code) as u64;
            let registers = user_regs_struct { rax, ..self.registers };
            ptrace::setregs(self.thread, registers).expect("it has stopped");
        }
        then
    }

    /// The part of `file`, a path without links, that it was to read.
    #[must_use]
    pub fn read_of(&self, file: &Path) -> Option<Span> {
        let user_regs_struct { orig_rax, rdi, rdx, r10, .. } = self.registers;
        let is_read = orig_rax == SYS_pread64 as u64;
        let opened = is_read.then(|| fs::read_link(format!("/proc/{}/fd/{rdi}", self.thread)).ok())??;
        (opened == file).then_some(Span { offset: r10, len: usize::try_from(rdx).ok()? })
    }
}
