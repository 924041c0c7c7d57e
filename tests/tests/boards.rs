//! The images of all boards, in QEMU: they answer as the host does, with the same bits, from mapped
//! flash and through the driver of a NOR chip; and whatever is wrong ends in an error with a name.

use ouro_tests::{run_command, skip};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use xtask::boards::{BOARDS, Board, find};
use xtask::build::{Built, Run, build_as, missing_emulator, run, sizes};
use xtask::report::{Report, escape};

const PROMPT: &str = "60 plus 70?";
const MAX_NEW: &str = "16";
/// The deepest stack of a board, measured and a tenth more.
const STACK: u64 = 28_600;
const STACK_OF_AARCH64: u64 = 31_200;

/// The image of a board; `None` where building or running it is not possible.
fn image(board: &Board) -> Option<PathBuf> {
    image_as(board, board.name, &[])
}

/// The same under another name, with these variables in the environment of the build.
fn image_as(board: &Board, name: &'static str, variables: &[(&str, &str)]) -> Option<PathBuf> {
    // One build at a time, as boards of one target build to the same file; and once for all tests.
    static BUILT: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(image) = built.get(name) {
        return Some(image.clone());
    }
    if let Some(missing) = missing_emulator(board) {
        skip(missing);
        return None;
    }
    // Beside the other cross builds, or wherever this test itself was built.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("cross");
    match build_as(board, name, variables, None, &folder).unwrap() {
        Built::Image(image) => {
            built.insert(name, image.clone());
            Some(image)
        }
        Built::Missing(what) => {
            skip(what);
            None
        }
    }
}

fn ask(board: &Board, image: &Path, prompt: &str, arguments: &[&str]) -> Run {
    let mut all = vec![format!("prompt={}", escape(prompt)), format!("max-new={MAX_NEW}")];
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    run(board, image, &all).unwrap()
}

fn host(args: &[&str]) -> Value {
    run_command(env!("CARGO_BIN_EXE_ouro-tested"), args, &[]).json()
}

fn numbers(value: &Value) -> String {
    let numbers: Vec<_> = value.as_array().unwrap().iter().map(Value::to_string).collect();
    numbers.join(",")
}

/// Compares a run with the host's on the same prompt.
fn agrees_with_host(board: &Board, run: &Run, prompt: &str, more: &[&str]) {
    let name = board.name;
    assert_eq!(run.status, Some(0), "{name}: {}", run.text);
    let report = Report(&run.text);
    let get = |key| report.get(key).unwrap();
    let here = host(&[&["run", "--json", "--max-new", MAX_NEW], more, &[prompt]].concat());
    assert_eq!((get("backend"), get("refused")), (board.backend, "nothing"), "{name}");
    assert_eq!(report.answer().unwrap(), here["text"].as_str().unwrap(), "{name}");
    assert_eq!(get("ids"), numbers(&here["tokens"]), "{name}");
    assert_eq!(get("depths"), numbers(&here["depths"]), "{name}");
    assert_eq!(get("reasons"), numbers(&here["reasons"]).replace('"', ""), "{name}");
    let hash = host(&["hash", "--json", "--tokens", get("prompt ids")]);
    assert_eq!(get("hash"), hash["sha256"].as_str().unwrap(), "{name}");
    let most = if board.krate == "aarch64" { STACK_OF_AARCH64 } else { STACK };
    assert!(report.number("stack bytes").unwrap() <= most, "{name}: {}", run.text);
    assert!(report.number("decode instructions").unwrap() > 0, "{name}: {}", run.text);
    assert!(run.log.iter().any(|line| line.starts_with("INFO answer of ")), "{name}: {:?}", run.log);
}

#[test]
fn every_board_answers_as_the_host() {
    for board in BOARDS.iter().filter(|board| board.emulator.is_some()) {
        let Some(image) = image(board) else { continue };
        agrees_with_host(board, &ask(board, &image, PROMPT, &[]), PROMPT, &[]);
    }
}

#[test]
fn a_token_that_goes_deeper_and_a_policy_of_ones_own() {
    let board = find("mps3-an547").unwrap();
    let Some(image) = image(board) else { return };
    let prompt = "pump3 feeds fan1. tank7 feeds belt2. fan1 feeds tank7. From pump3, 2 steps?";
    let run = ask(board, &image, prompt, &["policy=q=0.5", "kv-type=int8"]);
    agrees_with_host(board, &run, prompt, &["--exit", "q=0.5", "--kv-type", "int8"]);
    let run = ask(board, &image, prompt, &["policy=fixed", "kv-type=int8"]);
    agrees_with_host(board, &run, prompt, &["--exit", "fixed", "--kv-type", "int8"]);
    assert!(Report(&run.text).get("depths").unwrap().starts_with("4,4"), "{}", run.text);
}

/// The model lies apart from RAM, and passes through a block buffer of less than a tenth of it.
#[test]
fn the_same_answer_through_the_driver_of_a_nor_chip() {
    for name in ["mps3-an547", "virt-rv32imac"] {
        let board = find(name).unwrap();
        let Some(image) = image(board) else { return };
        let run = ask(board, &image, PROMPT, &["store=nor", "buffer=8192"]);
        agrees_with_host(board, &run, PROMPT, &[]);
        let report = Report(&run.text);
        let model = sizes(&image).unwrap().model;
        assert!(10 * report.number("block buffer bytes").unwrap() < model);
        // The prompt alone takes every loop of the whole stack.
        assert!(report.number("bytes fetched").unwrap() > 2 * model, "{}", run.text);
    }
}

#[test]
fn whatever_is_wrong_is_an_error_with_a_name() {
    let cases: &[(&str, &[&str], i32, &str)] = &[
        ("the first byte flipped", &["store=nor", "flip=0"], 3, "not a GGUF file"),
        ("the version flipped", &["store=nor", "flip=4"], 3, "version"),
        ("the number of tensors", &["store=nor", "flip=8"], 3, "a tensor's name"),
        ("a key's length", &["store=nor", "flip=30"], 3, "the length of a key"),
        ("cut in the weights", &["truncate=300000"], 3, "the file ends at offset 300000"),
        ("cut in the weights, NOR", &["store=nor", "truncate=300000"], 3, "the file ends at offset 300000"),
        ("cut in the header", &["truncate=20"], 3, "the file ends at offset 20"),
        ("no bytes", &["truncate=0"], 3, "the file ends at offset 0"),
        ("the chip fails at once", &["store=nor", "fail-after=0"], 3, "failed with code 3"),
        ("the chip fails in set-up", &["store=nor", "fail-after=100"], 3, "failed with code 3"),
        ("the chip fails in a token", &["store=nor", "fail-after=900"], 3, "weight: reading"),
        ("a weight flipped", &["store=nor", "flip=300000"], 3, "at offset 299008 have another checksum"),
        ("the last weight flipped", &["store=nor", "flip=552900"], 3, "have another checksum"),
        ("the block buffer is too small", &["store=nor", "buffer=256"], 4, "256 bytes"),
        ("no block buffer", &["store=nor", "buffer=0"], 4, "256 bytes"),
        ("the arena lacks one byte", &["short=1"], 4, "arena too small"),
        ("the arena lacks all", &["short=100000000"], 4, "arena too small"),
        ("a context beyond all RAM", &["max-new=100000"], 4, "arena too small"),
        ("a stack too small by far", &["stack=2048"], 4, "bytes of stack were used, of 2048 there are"),
        ("a stack that prompts overrun", &["stack=6000"], 4, "bytes of stack were used, of 6000 there are"),
        ("an allocation after set-up", &["late"], 1, "1 allocations after the heap was closed"),
        ("an argument that is none", &["nonsense"], 2, "expected prompt="),
    ];
    for name in ["mps2-an386", "virt-rv32imac"] {
        let board = find(name).unwrap();
        let Some(image) = image(board) else { return };
        for (case, arguments, status, words) in cases {
            let run = ask(board, &image, PROMPT, arguments);
            assert_eq!(run.status, Some(*status), "{name}: {case}: {}", run.text);
            assert!(
                run.text.starts_with("error: ") && run.text.contains(words),
                "{name}: {case}: {}",
                run.text
            );
            assert!(run.log.iter().any(|line| line.starts_with("ERROR ")), "{name}: {case}: {:?}", run.log);
        }
    }
}

/// Where every kernel but the definition computes wrong, the definition computes, with the host's bits.
#[test]
fn a_kernel_that_computes_wrong_is_reported_and_not_used() {
    for (board, name, kernel) in
        [("mps2-an386", "wrong-dsp", "dsp"), ("virt-rv32imac", "wrong-packed", "scalar")]
    {
        let board = find(board).unwrap();
        let Some(image) = image_as(board, name, &[("OURO_WRONG_KERNELS", "1")]) else { return };
        let run = ask(board, &image, PROMPT, &["max-new=2"]);
        assert_eq!(run.status, Some(0), "{name}: {}", run.text);
        let report = Report(&run.text);
        let get = |key| report.get(key).unwrap();
        assert_eq!(get("backend"), "scalar", "{name}");
        let refused = report.refused().unwrap().unwrap_or_default();
        assert!(
            refused.starts_with(&format!("back end {kernel} fails its check: Q4_0")),
            "{name}: {refused}"
        );
        assert!(run.log.iter().any(|line| line.starts_with("WARN ")), "{name}: {:?}", run.log);
        let hash = host(&["hash", "--json", "--tokens", get("prompt ids")]);
        assert_eq!(get("hash"), hash["sha256"].as_str().unwrap(), "{name}");
    }
}

#[test]
fn a_stack_that_overflows_is_an_error_and_not_silence() {
    for board in BOARDS.iter().filter(|board| board.emulator.is_some()) {
        let (name, Some(image)) = (board.name, image(board)) else { continue };
        let run = ask(board, &image, PROMPT, &["overflow"]);
        assert_eq!(run.status, Some(4), "{name}: {}", run.text);
        assert!(run.text.starts_with("error: the stack ran into the guard"), "{name}: {}", run.text);
        assert!(run.log.iter().any(|line| line.starts_with("ERROR ")), "{name}: {:?}", run.log);
    }
}

/// So a test that ends without a fault has not written to the model.
#[test]
fn a_write_to_the_model_is_a_fault() {
    for board in BOARDS.iter().filter(|board| board.emulator.is_some()) {
        let Some(image) = image(board) else { continue };
        let run = ask(board, &image, PROMPT, &["stray"]);
        assert_eq!(run.status, Some(102), "{}: {}", board.name, run.text);
    }
}

#[test]
fn the_smallest_core_has_room_for_it() {
    let board = find("rp2040").unwrap();
    let Some(image) = image(board) else { return };
    let sizes = sizes(&image).unwrap();
    let model =
        fs::metadata(xtask::build::repository().join("models/ouro-pico/ouro-pico-Q4_0.gguf")).unwrap().len();
    assert_eq!(sizes.model, model.next_multiple_of(4096));
    // The linker has held it against the flash of 2 MiB.
    assert!(sizes.code > 50_000 && sizes.bss < 4096, "{sizes:?}");
}
