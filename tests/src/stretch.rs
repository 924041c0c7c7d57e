//! Stretches of a program whose instructions are counted by the one that started it.

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use std::process;

/// Begins and ends a stretch. To a program that nobody traces it does nothing.
pub const MARK: Signal = Signal::SIGURG;
/// Status of a program that may not be traced.
pub const FORBIDDEN: i32 = 69;

/// Has the program that started this one trace it. Ends this one where that is forbidden.
pub fn be_traced() {
    if ptrace::traceme().is_err() {
        process::exit(FORBIDDEN);
    }
}

/// Does `work` between two marks.
///
/// # Panics
/// If there are no signals.
pub fn stretch(work: &mut dyn FnMut()) {
    raise(MARK).expect("a signal to oneself");
    work();
    raise(MARK).expect("a signal to oneself");
}
