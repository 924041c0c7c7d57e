//! `targets/c-abi`: the header says what the source says, C programs answer as `ouro run` does, and
//! bad input of every kind is a status, here and on an emulated Cortex-M4F.

use ouro_tests::{run_command, skip};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const OURO: &str = env!("CARGO_BIN_EXE_ouro-tested");
const MODEL: &str = "models/ouro-pico/ouro-pico-Q4_0.gguf";
const TARGET: &str = "thumbv7em-none-eabihf";
/// The deepest stack of the firmware, measured and 3 % more; `ouro.h` and its README ask for 16 KiB.
const STACK: u64 = 15_900;
const PROMPTS: [&str; 3] = [
    "60 plus 70?",
    "if tank7 is above 15, stop belt7 and bring fan4 to 20",
    "pump3 feeds fan1. tank7 feeds belt2. fan1 feeds tank7. From pump3, 2 steps?",
];

/// Set `OURO_UPDATE=1` to write the header anew.
#[test]
fn the_header_is_fresh() {
    let folder = folder();
    let mut header = cbindgen::Builder::new()
        .with_config(cbindgen::Config::from_file(folder.join("cbindgen.toml")).unwrap());
    for part in ["source", "settings", "open", "text", "run", "budget", "hash", "status", "handle"] {
        header = header.with_src(folder.join("src").join(part).with_extension("rs"));
    }
    let mut fresh = Vec::new();
    header.generate().unwrap().write(&mut fresh);
    let fresh = String::from_utf8(fresh).unwrap();
    let path = folder.join("include/ouro.h");
    if std::env::var_os("OURO_UPDATE").is_some() {
        fs::write(&path, &fresh).unwrap();
    }
    let found = fs::read_to_string(path).unwrap();
    assert!(found == fresh, "include/ouro.h is not what cbindgen makes: run this test with OURO_UPDATE=1");

    let exported = |line: &str| line.contains("extern \"C\" fn ouro_");
    let sources =
        fs::read_dir(folder.join("src")).unwrap().map(|file| fs::read_to_string(file.unwrap().path()));
    let count: usize =
        sources.map(|source| source.unwrap().lines().filter(|line| exported(line)).count()).sum();
    let declared = fresh.lines().filter(|line| line.starts_with("ouro_status ouro_")).count();
    // ouro_status_text gives a text, not a status.
    assert_eq!(declared + 1, count, "a call is missing in the header");
}

#[test]
fn a_host_program_answers_as_ouro_run() {
    let Some(build) = host() else { return };
    let model = model();
    for prompt in PROMPTS {
        let expected = expected(&model, prompt);
        for arguments in [vec![prompt], vec![prompt, "4096"]] {
            let output = Command::new(build.join("c/answer")).arg(&model).args(&arguments).output().unwrap();
            let said = text(&output);
            assert_eq!(output.status.code(), Some(0), "{said}");
            assert!(said.starts_with(&expected), "{arguments:?}: {said}\nexpected {expected}");
            let (done, most) = (number(&said, "MACs"), number(&said, "MACs at most"));
            assert!(done > 0 && done <= most, "{said}");
            assert_eq!(number(&said, "RAM, block buffer"), if arguments.len() == 2 { 4096 } else { 0 });
        }
    }
}

#[test]
fn bad_input_is_a_status_and_the_hash_is_ouros() {
    let Some(build) = host() else { return };
    let output = Command::new(build.join("c/bad-input")).arg(model()).output().unwrap();
    assert_all_passed(&output);
}

/// A library in which every kernel but the definition computes wrong: the answer is the same, and the check
/// says which kernel fails.
#[test]
fn a_kernel_that_computes_wrong_is_a_status_and_not_used() {
    let Some(()) = host_tools() else { return };
    let Some(build) = make("c-abi-wrong", "answer", &[("OURO_WRONG_KERNELS", "1")]) else { return };
    let output = Command::new(build.join("c/answer")).arg(model()).arg(PROMPTS[0]).output().unwrap();
    let (said, expected) = (text(&output), expected(&model(), PROMPTS[0]));
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.starts_with(&expected), "{said}\nexpected {expected}");
    assert!(said.contains("a kernel computes wrong on this CPU"), "{said}");
    assert!(said.contains("fails its check: Q4_0"), "{said}");
}

#[test]
fn cpp_can_use_the_header() {
    let Some(build) = host() else { return };
    let output = Command::new(build.join("c/smoke")).arg(model()).output().unwrap();
    assert!(output.status.success() && text(&output).starts_with("C++: token "), "{}", text(&output));
}

#[test]
fn firmware_answers_as_ouro_run() {
    let Some(build) = firmware() else { return };
    for prompt in PROMPTS {
        let output = emulate(&build.join("c/answer.elf"), prompt);
        let (said, expected) = (text(&output), expected(&model(), prompt));
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.starts_with(&expected), "{said}\nexpected {expected}");
        assert_eq!(number(&said, "RAM, block buffer"), 0);
        assert!(number(&said, "stack") <= STACK, "{said}");
    }
}

#[test]
fn so_it_is_on_a_microcontroller() {
    let Some(build) = firmware() else { return };
    assert_all_passed(&emulate(&build.join("c/bad-input.elf"), ""));
}

/// The panic handler is never inlined, so an image without it can't panic; this one has every call in
/// it. And the library has no variable but the one that says which back ends this CPU can't run.
#[test]
fn firmware_has_no_panic_and_no_variables() {
    let Some(build) = firmware() else { return };
    let nm = |file: PathBuf| {
        let output = Command::new("arm-none-eabi-nm").arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let image = nm(build.join("c/bad-input.elf"));
    assert!(image.contains("ouro_hash") && image.contains("ouro_worst_case"), "not every call is in it");
    let panics: Vec<&str> = image.lines().filter(|line| line.contains("rust_begin_unwind")).collect();
    assert!(panics.is_empty(), "{panics:?}");

    // But for what is known of this core's kernels, for all sessions.
    let is_known = |line: &str| ["VERDICT", "PACKED_IS_WRONG"].iter().any(|name| line.contains(name));
    let variables =
        |line: &&str| [" b ", " B ", " d ", " D "].iter().any(|kind| line.contains(kind)) && !is_known(line);
    let library = nm(build.join(TARGET).join("release/libouro.a"));
    assert!(library.contains("T ouro_open"));
    let found: Vec<&str> = library.lines().filter(variables).collect();
    assert!(found.is_empty(), "{found:?}");
}

/// What the examples print at first: the answer, then its tokens.
fn expected(model: &Path, prompt: &str) -> String {
    let run = run_command(OURO, &["run", "-m", model.to_str().unwrap(), "--json", prompt], b"").json();
    let list = |key: &str| run[key].as_array().unwrap().clone();
    let mut lines = format!("{}\n", run["text"].as_str().unwrap());
    for ((token, depth), reason) in list("tokens").iter().zip(list("depths")).zip(list("reasons")) {
        lines += &format!("token {token}: {depth} loops, {}\n", reason.as_str().unwrap());
    }
    lines
}

/// The checks of bad_input.c, and the hash of the numerics.
fn assert_all_passed(output: &Output) {
    let said = text(output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let passed: u32 = said.split_once(" checks passed, 0 failed").expect(&said).0.parse().expect(&said);
    assert!(passed > 150, "{said}");
    let model = model();
    let hash = run_command(OURO, &["hash", "-m", model.to_str().unwrap(), "--tokens", "5,40,7"], b"");
    assert!(said.contains(&format!("hash: {}", hash.text())), "{said}\nexpected {}", hash.text());
}

fn number(said: &str, name: &str) -> u64 {
    let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.expect(said).parse().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn folder() -> PathBuf {
    repository().join("targets/c-abi")
}

fn model() -> PathBuf {
    repository().join(MODEL)
}

/// Builds what runs on this machine; gives the folder it is in.
fn host() -> Option<PathBuf> {
    host_tools()?;
    make("c-abi-host", "all", &[])
}

fn host_tools() -> Option<()> {
    has("cc", "build-essential")?;
    has("make", "build-essential")
}

/// Builds what runs on the board; gives the folder it is in.
fn firmware() -> Option<PathBuf> {
    has("make", "build-essential")?;
    has("arm-none-eabi-gcc", "gcc-arm-none-eabi")?;
    has("qemu-system-arm", "qemu-system-arm")?;
    make("c-abi-cross", "firmware", &[])
}

fn has(program: &str, package: &str) -> Option<()> {
    if Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok() {
        return Some(());
    }
    skip(format!("no {program}: apt-get install {package}"));
    None
}

/// Makes what `goal` says in a folder of this name, with these variables in the environment.
fn make(build: &str, goal: &str, variables: &[(&str, &str)]) -> Option<PathBuf> {
    // Beside this test's own builds. Tests of one binary build at the same time: make one after another.
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE.lock().unwrap();
    let build = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(build);
    let output = Command::new("make")
        .current_dir(folder())
        .arg(format!("BUILD={}", build.display()))
        .arg(goal)
        .env_remove("MAKEFLAGS")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    // Of cross.sh, as make tells it, when there is no toolchain for the target.
    if text(&output).contains("Error 69") {
        skip(text(&output).trim_end());
        return None;
    }
    assert!(output.status.success(), "{}", text(&output));
    Some(build)
}

fn emulate(image: &Path, prompt: &str) -> Output {
    // A comma in an option of QEMU is written twice.
    let arguments = format!("enable=on,target=native,arg=image,arg={}", prompt.replace(',', ",,"));
    // An image that hangs would never end by itself.
    Command::new("timeout")
        .args(["120", "qemu-system-arm", "-M", "mps2-an386", "-icount", "shift=0", "-nographic", "-kernel"])
        .arg(image)
        .args(["-semihosting-config", &arguments])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}
