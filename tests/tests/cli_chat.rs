//! `ouro chat` with its lines from a pipe.

use ouro_tests::harness::golden;
use ouro_tests::run_command;
#[cfg(target_os = "linux")]
use std::{
    fs::File,
    io::{Read, Write},
    process::{Command, Stdio},
};

#[test]
fn lines_and_what_they_do() {
    let model = golden("lively/lively-gate-f32.gguf");
    let args = ["chat", "-m", model.to_str().unwrap(), "--max-new", "4", "--kv-type", "f32"];
    // What is typed; whether an answer follows; what stderr says beside.
    let cases: [(&str, bool, &[&str]); 8] = [
        ("/help\n/quit\n", false, &["/reset  forget", "Ctrl-C"]),
        ("/stats\n", false, &["positions  0 of 512", "arena"]),
        ("/reset\n/exit\n", false, &["forgotten"]),
        ("/nope\n", false, &["/nope is no command; /help"]),
        ("/depth\n/depth\n", false, &["depth is shown", "depth is not shown"]),
        ("\n  \n/quit\nhello\n", false, &["512 positions"]),
        ("hello\n", true, &["[4 tokens, mean depth 4.00", "cut at --max-new"]),
        ("hello\n/reset\n/stats\n/quit\n", true, &["[4 tokens", "positions  0 of"]),
    ];
    for (input, answers, says) in cases {
        let ran = run_command(env!("CARGO_BIN_EXE_ouro-tested"), &args, input.as_bytes());
        assert_eq!(ran.code, Some(0), "{input:?}: {}", ran.stderr);
        assert_eq!(!ran.stdout.is_empty(), answers, "{input:?}: {:?}", ran.stdout);
        for words in says {
            assert!(ran.stderr.contains(words), "{input:?}: {words:?} expected in {}", ran.stderr);
        }
    }
}

/// It was never shown a second turn, unlike other models.
#[test]
fn the_built_in_model_is_said_to_forget() {
    let model = golden("lively/lively-gate-f32.gguf");
    for (options, expected) in [(&[][..], 1), (&["-m", model.to_str().unwrap()], 0)] {
        let ran = run_command(
            env!("CARGO_BIN_EXE_ouro-tested"),
            &[&["chat"], options].concat(),
            b"/reset\n/quit\n",
        );
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(ran.stderr.matches("single questions: /reset").count(), expected, "{}", ran.stderr);
    }
}

/// A conversation that was reset goes on as a new one, also where the repetition penalty looks back.
#[test]
fn reset_forgets_everything() {
    let model = golden("lively/lively-gate-f32.gguf");
    let args = ["chat", "-m", model.to_str().unwrap(), "--max-new", "6", "--repetition-penalty", "1.5"];
    let ran = |input: &str| run_command(env!("CARGO_BIN_EXE_ouro-tested"), &args, input.as_bytes());
    let once = ran("hello\n").stdout;
    let twice = ran("hello\n/reset\nhello\n").stdout;
    assert!(!once.is_empty());
    assert_eq!(twice, [once.as_slice(), &once].concat());
}

#[test]
fn thinking_that_the_template_does_not_know() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    let mut bytes = std::fs::read(golden("lively/lively-gate-f32.gguf")).unwrap();
    let known = b"enable_thinking";
    while let Some(at) = bytes.windows(known.len()).position(|window| window == known) {
        bytes[at] = b'x';
    }
    std::fs::write(&file, bytes).unwrap();
    let says = "the chat template does not know --think";
    for (file, expected) in [(file, true), (golden("lively/lively-gate-f32.gguf"), false)] {
        let args = ["chat", "-m", file.to_str().unwrap(), "--think"];
        let ran = run_command(env!("CARGO_BIN_EXE_ouro-tested"), &args, b"/quit\n");
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(ran.stderr.contains(says), expected, "{}", ran.stderr);
    }
}

/// What `ouro chat` writes to a terminal when these lines are typed.
#[cfg(target_os = "linux")]
fn on_a_terminal(args: &[&str], input: &str) -> String {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ouro-tested"));
    command.args(args).stdin(Stdio::piped()).stdout(terminal.slave).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(command); // and with it this side's hold on the terminal
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let mut written = Vec::new();
    // A terminal that nobody has open any more ends with an error.
    let _ = File::from(terminal.master).read_to_end(&mut written);
    assert!(child.wait().unwrap().success());
    String::from_utf8(written).unwrap().replace("\r\n", "\n")
}

/// Each token has the shade of its depth, on a terminal and when asked for.
#[test]
#[cfg(target_os = "linux")]
fn depth_is_shown_by_shade() {
    let model = golden("lively/lively-gate-f32.gguf");
    let program = env!("CARGO_BIN_EXE_ouro-tested");
    let options = ["-m", model.to_str().unwrap(), "--exit", "q=0.4", "--max-new", "24", "--kv-type", "f32"];
    let chat = [&["chat"], &options[..]].concat();
    let shaded = [&chat[..], &["--depth"]].concat();

    // Four shades of the 256-color palette for four loops.
    let run = run_command(program, &[&["run", "hello", "--json"], &options[..]].concat(), b"").json();
    let depths = run["depths"].as_array().unwrap().iter().map(|depth| depth.as_u64().unwrap() as usize);
    let expected: Vec<&str> = depths.map(|depth| ["241", "245", "250", "255"][depth - 1]).collect();
    assert!(["241", "245", "250"].iter().all(|shade| expected.contains(shade)), "{expected:?}");

    let plain = on_a_terminal(&chat, "hello\n");
    assert_eq!(plain.as_bytes(), run_command(program, &shaded, b"hello\n").stdout, "no terminal");
    assert!(!plain.contains('\x1b'));
    let found = on_a_terminal(&shaded, "hello\n");
    let pieces = found.strip_suffix('\n').unwrap().split_terminator("\x1b[0m");
    let pieces = pieces.map(|piece| piece.strip_prefix("\x1b[38;5;").unwrap().split_once('m').unwrap());
    let (shades, texts): (Vec<&str>, Vec<&str>) = pieces.unzip();
    assert_eq!(shades[..expected.len()], expected);
    assert_eq!(texts.concat() + "\n", plain);

    let toggled = on_a_terminal(&chat, "/depth\nhello\n/depth\n/reset\nhello\n");
    assert_eq!(toggled, found + &plain);
}
