//! A disk that fails while the command reads weights from it: what it bears, what it then says, and that no
//! answer is ever another one.
#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

use ouro_runtime::store::Span;
use ouro_tests::convert::quantize;
use ouro_tests::harness::{golden, load};
use ouro_tests::{Ran, Then, run_traced, skip};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const OURO: &str = env!("CARGO_BIN_EXE_ouro-tested");

const EIO: i32 = 5;
const ENODEV: i32 = 19;

/// A model with checksums and a tokenizer, in a folder without links on the way.
fn model() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = fs::canonicalize(folder.path()).unwrap().join("model.gguf");
    quantize(&golden("lively/lively-gate-f32.gguf"), &path, &["--type", "f32"]).unwrap();
    (folder, path)
}

/// Where a tensor begins.
fn place(model: &Path, name: &str) -> Span {
    let file = fs::read(model).unwrap();
    let is_it = |at: &Span| &file[at.offset as usize..][..at.len] == name.as_bytes();
    let gguf = load(model).gguf;
    let tensor = gguf.tensors().iter().find(|tensor| is_it(&tensor.name())).unwrap();
    Span { offset: tensor.offset, len: 1 }
}

/// Runs the command with weights in a file whose reads fail with what `fault` says. `None`, and the test is
/// skipped, where that can't be done.
fn ouro(
    command: &str,
    model: &Path,
    options: &[&str],
    input: &str,
    fault: &mut dyn FnMut(Span) -> Option<i32>,
) -> Option<Ran> {
    let common = [command, "-m", model.to_str().unwrap(), "--store", "file", "--block-buffer", "150K"];
    let options = [&common[..], &["--threads", "1", "--max-new", "6"], options].concat();
    let ran = run_traced(OURO, &options, input.as_bytes(), &mut |call| {
        call.read_of(model).and_then(&mut *fault).map_or(Then::Returns, Then::Fails)
    });
    if ran.is_none() {
        skip("ptrace, or what it tells of system calls, is forbidden here, as in some containers");
    }
    ran
}

const PROMPT: [&str; 3] = ["--raw", "hello", "--ignore-eos"];

/// A read is repeated after 20, 40 and 60 ms, and that is counted; then it is given up.
#[test]
fn a_read_may_fail_three_times() {
    let (_folder, model) = model();
    let options = [&PROMPT[..], &["--json"]].concat();
    let first = place(&model, "blk.0.attn_q.weight");
    let Some(whole) = ouro("run", &model, &options, "", &mut |_| None) else { return };
    for failures in 0..=4 {
        let mut tried = Vec::new();
        let ran = ouro("run", &model, &options, "", &mut |read| {
            if !read.contains(first) || tried.len() > failures {
                return None;
            }
            tried.push(Instant::now());
            (tried.len() <= failures).then_some(EIO)
        });
        let ran = ran.unwrap();
        for (pair, retry) in tried.windows(2).zip(1..) {
            let waited = pair[1] - pair[0];
            assert!(waited >= retry * Duration::from_millis(20), "{waited:?} before retry {retry}");
        }
        if failures <= 3 {
            assert_eq!(tried.len(), failures + 1);
            assert_eq!(ran.json()["tokens"], whole.json()["tokens"], "{failures} failures");
            assert_eq!(ran.json()["counters"]["retries"], failures);
        } else {
            assert_eq!(tried.len(), 4, "it is given up");
            ran.expect_error(3, &["blk.0.attn_q.weight: reading", "failed with code 5"]);
        }
    }
}

/// From some read on there is nothing any more, or for so long that no read is repeated any more.
#[test]
fn a_disk_that_goes_away_is_an_error_and_never_another_answer() {
    let (_folder, model) = model();
    let mut reads = Vec::new();
    let whole = ouro("run", &model, &PROMPT, "", &mut |read| {
        reads.push(read);
        None
    });
    let Some(whole) = whole else { return };
    let whole = whole.text();
    // Before it, the directory is read.
    let embedding = place(&model, "token_embd.weight");
    let (reads, first) =
        (reads.len(), reads.iter().position(|read| read.offset >= embedding.offset).unwrap());
    assert!(first > 30 && reads > first + 100 && whole.ends_with('\n'), "{first} of {reads}: {whole:?}");
    let (mut of_weights, mut begun) = (0, 0);
    for at in [0, first / 2].into_iter().chain((first..reads).step_by((reads - first) / 9)) {
        for away in [4, usize::MAX] {
            let mut read = 0;
            let ran = ouro("run", &model, &PROMPT, "", &mut |_| {
                read += 1;
                (read > at && read - at <= away).then_some(ENODEV)
            });
            let Ran { code, stdout, stderr } = ran.unwrap();
            let stdout = String::from_utf8(stdout).unwrap();
            if code == Some(0) {
                // Five reads are needed where the first was on order; what was on order in vain nobody misses.
                assert!(stdout == whole && (away == 4 || at + 5 > reads), "read {at}: {stdout:?}");
                continue;
            }
            let is_told = stderr.contains("failed with code 19: check the medium");
            assert!(code == Some(3) && is_told, "read {at}: {code:?} {stderr}");
            of_weights += usize::from(stderr.contains(".weight: reading"));
            begun += usize::from(!stdout.is_empty());
            // What was shown before is right, but its line has no end.
            assert!(stdout.len() < whole.len() && whole.starts_with(&stdout), "read {at}: {stdout:?}");
        }
    }
    println!("{of_weights} errors in weights, {begun} after tokens were shown");
    assert!(of_weights > 4 && begun > 2, "{of_weights} errors in weights, {begun} after tokens");
}

/// A question that failed is forgotten, and the next one has the answer that it has in a new conversation.
#[test]
fn chat_goes_on_when_the_disk_is_back() {
    let (_folder, model) = model();
    let Some(alone) = ouro("chat", &model, &[], "hello\n", &mut |_| None) else { return };
    let first = place(&model, "blk.0.attn_q.weight");
    let mut left = 4;
    let ran = ouro("chat", &model, &[], "hello\nhello\n", &mut |read| {
        let fails = left > 0 && read.contains(first);
        left -= i32::from(fails);
        fails.then_some(ENODEV)
    });
    let ran = ran.unwrap();
    assert_eq!(ran.text(), alone.text());
    for words in ["error: blk.0.attn_q.weight: reading", "failed with code 19", "begins anew"] {
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    }
}
