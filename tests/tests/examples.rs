//! The programs of `targets/examples`, in QEMU: a model that thinks beside a control loop gives the
//! host's answers, and the loop never misses a tick.
//!
//! QEMU counts instructions for time, so a run is the same on every machine, however busy.

use ouro_tests::{run_command, skip};
use std::path::Path;
use xtask::build::{Built, Run};
use xtask::example::{build, run};

/// Ticks of the control loop that a run takes at least.
const TICKS: u64 = 10_000;
/// The latest that a tick may begin: a tenth of its period.
const LATENESS_NS: u64 = 100_000;

/// Builds and runs a program; `None` where that is not possible.
fn example(name: &str) -> Option<Run> {
    // Beside the other cross builds, or wherever this test itself was built.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("cross");
    match build(name, &folder).unwrap() {
        Built::Image(image) => Some(run(&image).unwrap()),
        Built::Missing(what) => {
            skip(what);
            None
        }
    }
}

/// The number that a run logged under a name.
fn number(run: &Run, name: &str) -> u64 {
    let prefix = format!("INFO {name}: ");
    let value = run.log.iter().find_map(|line| line.strip_prefix(&prefix));
    value.unwrap_or_else(|| panic!("no {name}: {:?}", run.log)).parse().unwrap()
}

/// The log, question by question.
fn by_question(run: &Run) -> Vec<(&str, &[String])> {
    let question = |line: &str| line.starts_with("INFO question: ");
    let parts = run.log.chunk_by(|_, next| !question(next));
    parts.filter_map(|part| Some((part.first()?.strip_prefix("INFO question: ")?, &part[1..]))).collect()
}

/// What two lines of the log say of a question is the host's answer; gives it.
fn answer_of_host<'r>(question: &str, lines: &'r [String]) -> &'r str {
    let [answer, ids] = lines else { panic!("{question}: not an answer: {lines:?}") };
    let answer = answer.strip_prefix("INFO answer: ").unwrap();
    let ids = ids.strip_prefix("INFO ids: ").unwrap();
    let args = ["run", "--json", "--max-new", "16", question];
    let host = run_command(env!("CARGO_BIN_EXE_ouro-tested"), &args, &[]).json();
    assert_eq!(answer, host["text"], "{question}");
    assert_eq!(ids.replace(' ', ""), host["tokens"].to_string(), "{question}");
    answer
}

#[test]
fn the_control_loop_never_waits_for_the_model() {
    for name in ["embassy", "bare_loop"] {
        let Some(run) = example(name) else { return };
        assert_eq!(run.status, Some(0), "{name}: {:?} {}", run.log, run.text);
        let questions = by_question(&run);
        let answers: Vec<_> = questions.iter().map(|(q, lines)| answer_of_host(q, &lines[..2])).collect();
        assert!(answers.contains(&"yes") && answers.contains(&"no"), "{name}: {answers:?}");
        assert!(number(&run, "ticks") >= TICKS, "{name}: {:?}", run.log);
        assert_eq!(number(&run, "missed"), 0, "{name}: {:?}", run.log);
        // Counted in instructions, and so no matter of this machine's.
        assert!(number(&run, "worst lateness ns") <= LATENESS_NS, "{name}: {:?}", run.log);
    }
}

/// A flash chip that hangs, fails or crashes its driver costs the question in work at most.
#[test]
fn after_a_hang_and_a_crash_in_a_token_the_next_question_is_answered() {
    let Some(run) = example("watchdog") else { return };
    assert_eq!(run.status, Some(0), "{:?} {}", run.log, run.text);
    assert_eq!(run.log[0], "INFO power on");
    let questions = by_question(&run);
    let [first, hangs, fails, crashes, last] = questions[..] else { panic!("{:?}", run.log) };
    answer_of_host(first.0, first.1);
    let in_token = |question: usize, lines: &[String]| {
        let [reset, place] = lines else { panic!("{lines:?}") };
        let word = format!("WARN in question {question}, after loop 1 layer ");
        assert!(place.starts_with(&word), "{lines:?}");
        reset.clone()
    };
    assert_eq!(in_token(1, hangs.1), "WARN reset: watchdog");
    let (error, answer) = fails.1.split_first().unwrap();
    assert!(error.starts_with("WARN once more: blk.0.") && error.contains("failed with code 3"), "{error}");
    answer_of_host(fails.0, answer);
    assert!(in_token(3, crashes.1).starts_with("WARN reset: fault at 0x"), "{:?}", crashes.1);
    answer_of_host(last.0, last.1);
}
