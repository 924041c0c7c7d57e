//! `--save-kv` and `--load-kv`: what was kept goes on as if nothing had happened in between.

use ouro_tests::harness::golden;
use ouro_tests::{Ran, run_command};
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
use ouro_tests::{Then, run_traced, skip};
use serde_json::Value;
use std::path::{Path, PathBuf};

const OURO: &str = env!("CARGO_BIN_EXE_ouro-tested");

fn ouro(args: &[&str]) -> Ran {
    let model = golden("lively/lively-gate-f32.gguf");
    let model = ["run", "-m", model.to_str().unwrap(), "--json"];
    run_command(OURO, &[&model, args].concat(), b"")
}

/// The tokens of every turn, how deep each went, and why not deeper.
fn turns(ran: &Ran) -> Vec<[Value; 3]> {
    let told = |turn: &Value| ["tokens", "depths", "reasons"].map(|what| turn[what].clone());
    let json = ran.json();
    match json["turns"].as_array() {
        Some(turns) => turns.iter().map(told).collect(),
        None => vec![told(&json)],
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_conversation_in_parts_is_the_same_conversation() {
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("talk.kv");
    let random = ["--temperature", "0.9", "--seed", "5", "--repetition-penalty", "1.3"];
    let on = ["--temperature", "0.9", "--repetition-penalty", "1.3"];
    let ids = [["--tokens", "175,462,33,245"], ["--tokens", "3,4"], ["--tokens", "9,8,7,6,5,4,3,2,1"]];
    let text = [["hello"], ["and then?"], ["12 345\nwell"]];
    // The prompts of all turns, how tokens are chosen at first and later, and the KV cache.
    let kept: [&[&str]; 6] = [
        &["--exit", "fixed", "--budget", "2", "--burst", "4", "--resume", "3"],
        &["--exit", "q=0.4", "--budget", "1.5", "--burst", "3"],
        &["--kv", "last", "--kv-type", "int8"],
        &["--kv", "averaged", "--exit", "q=0.4"],
        &["--kv", "per-loop", "--kv-type", "f32", "--exit", "q=0.4"],
        &["--kv", "last", "--kv-window", "0", "--exit", "q=0.4"],
    ];
    for kv in kept {
        for (first, later) in [(&[][..], &[][..]), (&random, &on)] {
            let common = |options: &[&'static str]| [kv, options, &["--max-new", "7"]].concat();
            for prompts in [ids.map(|ids| ids.to_vec()), text.map(|text| text.to_vec())] {
                let then = |prompt: &[&'static str]| ["--then", *prompt.last().unwrap()];
                let whole =
                    [&common(first)[..], &prompts[0], &then(&prompts[1]), &then(&prompts[2])].concat();
                let whole = turns(&ouro(&whole));
                let mut parts = Vec::new();
                for (number, prompt) in prompts.iter().enumerate() {
                    let state = match number {
                        0 => vec!["--save-kv", path(&file)],
                        _ => vec!["--load-kv", path(&file), "--save-kv", path(&file)],
                    };
                    let options = if number == 0 { first } else { later };
                    parts.extend(turns(&ouro(&[&common(options)[..], prompt, &state].concat())));
                }
                assert_eq!(parts, whole, "{kv:?} {first:?} {prompts:?}");
            }
        }
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "no temporary files: {left:?}");
}

/// With K/V of every loop it makes no difference in which parts a prompt is read.
#[test]
fn a_system_message_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("system.kv");
    let system = "Be brief, and never say why.";
    let kv = ["--kv", "per-loop", "--max-new", "6"];
    let ran = ouro(&[&kv[..], &["--system", system, "--save-kv", path(&file)]].concat());
    let read = ran.json()["counters"]["prompt_loops"].as_u64().unwrap() / 4;
    for prompt in ["hello", "\n\nhello", "7"] {
        let whole = ouro(&[&kv[..], &["--system", system, prompt]].concat()).json();
        let rest = ouro(&[&kv[..], &["--load-kv", path(&file), prompt]].concat()).json();
        assert_eq!(rest["tokens"], whole["tokens"], "{prompt:?}");
        let loops = |json: &Value| json["counters"]["prompt_loops"].as_u64().unwrap() / 4;
        assert!(read > 10 && loops(&rest) + read == loops(&whole), "{read}, {rest}, {whole}");
    }
    // It can be kept, too, and goes on.
    let talk = folder.path().join("talk.kv");
    let begun = ouro(&[&kv[..], &["--load-kv", path(&file), "--save-kv", path(&talk), "hello"]].concat());
    let whole = ouro(&[&kv[..], &["--system", system, "hello", "--then", "so?"]].concat());
    let rest = ouro(&[&kv[..], &["--load-kv", path(&talk), "so?"]].concat());
    assert_eq!([turns(&begun), turns(&rest)].concat(), turns(&whole));
}

#[test]
fn chat_keeps_what_was_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.kv");
    let model = golden("lively/lively-gate-f32.gguf");
    let chat = |state: &[&str], input: &str| {
        let args = ["chat", "-m", path(&model), "--max-new", "5"];
        let ran = run_command(OURO, &[&args, state].concat(), input.as_bytes());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran.stdout
    };
    let whole = chat(&[], "hello\nand?\n");
    let first = chat(&["--save-kv", path(&file)], "hello\n");
    let second = chat(&["--load-kv", path(&file)], "and?\n");
    assert_eq!([first, second].concat(), whole);
}

/// What went wrong ends a conversation, but not the one that was saved.
#[test]
fn chat_saves_nothing_over_a_conversation_that_failed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.kv");
    let model = golden("lively/lively-gate-f32.gguf");
    let long = "hello ".repeat(60);
    let chat = |input: &str| {
        let args = ["chat", "-m", path(&model), "--max-new", "5", "--ctx", "60", "--save-kv", path(&file)];
        let ran = run_command(OURO, &args, input.as_bytes());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        (std::fs::read(&file).unwrap_or_default(), ran.stderr)
    };
    let (first, _) = chat("hello\n");
    let (kept, said) = chat(&format!("hello\n{long}\nother\n"));
    assert!(said.contains("begins anew") && said.contains("talk.kv keeps the one before"), "{said}");
    assert!(!first.is_empty() && kept == first);
    let (other, _) = chat(&format!("hello\n{long}\n/reset\nother\n"));
    assert!(other != first);
    // Where nothing was saved, nothing is to be kept.
    std::fs::remove_file(&file).unwrap();
    let (after, said) = chat(&format!("{long}\nhello\n"));
    assert!(!said.contains("keeps the one before") && after == first, "{said}");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let good = at("good.kv");
    let tokens = ["--tokens", "1,2,3", "--max-new", "3"];
    let _ = ouro(&[&tokens[..], &["--save-kv", path(&good)]].concat()).json();
    let bytes = std::fs::read(&good).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(at(name), bytes).unwrap();
        at(name)
    };
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    let model = golden("lively/lively-gate-f32.gguf");
    let half = write("half.kv", &bytes[..bytes.len() / 2]);
    let cases: [(PathBuf, &[&str], i32, &str); 10] = [
        (at("none.kv"), &[], 3, "none.kv"),
        (write("empty.kv", b""), &[], 3, "truncated"),
        (write("short.kv", &bytes[..40]), &[], 3, "truncated"),
        (half, &[], 3, "half.kv: truncated"),
        (write("changed.kv", &changed), &[], 3, "changed.kv: damaged"),
        (write("longer.kv", &[&bytes[..], &[0]].concat()), &[], 3, "damaged"),
        (model, &[], 3, "this is no saved KV cache"),
        (good.clone(), &["--kv-type", "f32"], 3, "bits of a K or V 16, but here it is 32"),
        (good.clone(), &["--kv", "averaged"], 3, "saved with K/V sharing last"),
        (good.clone(), &["--ctx", "4", "--max-new", "1", "--tokens", "4"], 4, "(--ctx)"),
    ];
    for (file, options, code, words) in cases {
        let tokens: &[&str] = if options.contains(&"--tokens") { &[] } else { &["--tokens", "4"] };
        ouro(&[tokens, options, &["--load-kv", path(&file)]].concat()).expect_error(code, &[words]);
    }
    // Another model with the same tokenizer, and text where there are only ids.
    let other = golden("mha/mha-f32.gguf");
    let args = ["run", "-m", path(&other), "--tokens", "4", "--load-kv", path(&good)];
    run_command(OURO, &args, b"").expect_error(3, &["another model"]);
    ouro(&["hello", "--load-kv", path(&good)]).expect_error(3, &["--raw or --tokens"]);
    ouro(&["--save-kv", path(&good)]).expect_error(2, &["nothing to keep"]);
    assert_eq!(std::fs::read(&good).unwrap(), bytes, "untouched");
    let nowhere = at("no folder").join("talk.kv");
    let ran = ouro(&[&tokens[..], &["--save-kv", path(&nowhere)]].concat());
    ran.expect_error(2, &["no folder does not exist"]); // before there is an answer to lose
}

/// Beyond the limit writing fails as it does on a full disk.
#[test]
fn a_full_disk_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.kv");
    let model = golden("lively/lively-gate-f32.gguf");
    let _ = ouro(&["--tokens", "1,2,3", "--max-new", "2", "--save-kv", path(&file)]).json();
    let old = std::fs::read(&file).unwrap();
    let limited = ["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh", OURO, "run", "-m", path(&model)];
    let on = ["--json", "--tokens", "4", "--load-kv", path(&file), "--save-kv", path(&file)];
    let ran = run_command("/bin/sh", &[&limited[..], &on].concat(), b"");
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    assert!(ran.stderr.contains("talk.kv") && ran.stderr.contains("free some space"), "{}", ran.stderr);
    assert_eq!(std::fs::read(&file).unwrap(), old);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

/// Goes on from a file and keeps it, and is killed after each system call in turn from the moment on that there
/// is a temporary file, until it ends by itself.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
fn a_kill_leaves_the_old_file_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.kv");
    let model = golden("lively/lively-gate-f32.gguf");
    let begin = ["--tokens", "1,2,3", "--max-new", "2", "--save-kv", path(&file)];
    let _ = ouro(&begin).json();
    let old = std::fs::read(&file).unwrap();
    let args = ["run", "-m", path(&model), "--threads", "1", "--tokens", "4", "--max-new", "2"];
    let on = [&args[..], &["--load-kv", path(&file), "--save-kv", path(&file)]].concat();
    let _ = run_command(OURO, &on, b"").text();
    let new = std::fs::read(&file).unwrap();
    assert_ne!(old, new);
    let temporary = || {
        let entries = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|entry| *entry != file).collect::<Vec<_>>()
    };
    let (mut kept_old, mut kept_new) = (0, 0);
    for last in 1.. {
        std::fs::write(&file, &old).unwrap();
        let mut calls = 0;
        let ran = run_traced(OURO, &on, b"", &mut |_| {
            calls += u32::from(calls > 0 || !temporary().is_empty());
            if calls == last { Then::Kills } else { Then::Returns }
        });
        let Some(ran) = ran else {
            skip("ptrace, or what it tells of system calls, is forbidden here, as in some containers");
            return;
        };
        match std::fs::read(&file).unwrap() {
            bytes if bytes == old => kept_old += 1,
            bytes if bytes == new => kept_new += 1,
            bytes => panic!("killed after call {last}: {} bytes of neither", bytes.len()),
        }
        temporary().iter().for_each(|left| std::fs::remove_file(left).unwrap());
        match ran.code {
            None => {}
            Some(0) => break,
            Some(code) => panic!("killed after call {last}: {code}, {}", ran.stderr),
        }
    }
    println!("{kept_old} kills left the old file, {} the new one", kept_new - 1);
    assert!(kept_old > 3 && kept_new > 1, "{kept_old} kills left the old file, {} the new one", kept_new - 1);
}
