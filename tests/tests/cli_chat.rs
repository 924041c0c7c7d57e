//! `ouro chat` with its lines from a pipe.

use ouro_tests::harness::golden;
use ouro_tests::run_command;

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
