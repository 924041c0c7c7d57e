//! Ctrl-C as a flag: long work looks at it now and then, and ends cleanly.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C (and a polite `kill`) only sets the flag.
pub fn watch() {
    static HANDLER: OnceLock<()> = OnceLock::new();
    HANDLER.get_or_init(|| {
        // It fails only if the process has a handler already, whose owner then decides what happens.
        let _ = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed));
    });
}

/// Whether Ctrl-C was pressed since [`watch`].
#[must_use]
pub fn is_set() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Takes note of an interruption: the next one counts anew.
pub fn clear() {
    INTERRUPTED.store(false, Ordering::Relaxed);
}
