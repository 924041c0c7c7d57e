//! Running the command `ouro` as its users do.

use serde_json::Value;
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

/// How a run of the command ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code.
    pub code: Option<i32>,
    /// The standard output.
    pub stdout: Vec<u8>,
    /// The standard error output.
    pub stderr: String,
}

/// Runs the program at `path` with `input` on its standard input.
///
/// # Panics
/// If it can't be run.
#[must_use]
pub fn run_command(path: &str, args: &[&str], input: &[u8]) -> Ran {
    let mut command = Command::new(path);
    let command = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || match stdin.write_all(&input) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => panic!("{error}"),
        _ => {}
    });
    let output = child.wait_with_output().expect("it was started");
    writer.join().expect("the writer ends");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ran { code: output.status.code(), stdout: output.stdout, stderr }
}

impl Ran {
    /// The standard output of a run that went well.
    ///
    /// # Panics
    /// If it did not.
    #[must_use]
    pub fn text(&self) -> &str {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        std::str::from_utf8(&self.stdout).expect("UTF-8")
    }

    /// The one JSON object on the standard output of a run that went well.
    ///
    /// # Panics
    /// If it did not, or if there is anything else.
    #[must_use]
    pub fn json(&self) -> Value {
        let text = self.text();
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(value.is_object() && text.trim_end().lines().count() == 1, "{text}");
        value
    }

    /// Panics unless the run ended with this exit code, all of `words` on the standard error output
    /// and nothing on the other.
    ///
    /// # Panics
    /// As said.
    pub fn expect_error(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert!(self.stdout.is_empty(), "{}", String::from_utf8_lossy(&self.stdout));
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} expected in {}", self.stderr);
        }
    }
}
