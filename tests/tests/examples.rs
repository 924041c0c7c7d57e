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

/// The values that a run logged under a name, in order.
fn logged<'r>(run: &'r Run, name: &str) -> Vec<&'r str> {
    let prefix = format!("INFO {name}: ");
    run.log.iter().filter_map(|line| line.strip_prefix(&prefix)).collect()
}

fn number(run: &Run, name: &str) -> u64 {
    let [value] = logged(run, name)[..] else { panic!("not one {name}: {:?}", run.log) };
    value.parse().unwrap()
}

/// Every question was answered, as the host answers it; gives the answers.
fn answers_of_host(run: &Run) -> Vec<&str> {
    let [questions, answers, ids] = ["question", "answer", "ids"].map(|name| logged(run, name));
    assert_eq!((questions.len(), questions.len()), (answers.len(), ids.len()), "{:?}", run.log);
    for ((question, answer), ids) in questions.iter().zip(&answers).zip(ids) {
        let args = ["run", "--json", "--max-new", "16", question];
        let host = run_command(env!("CARGO_BIN_EXE_ouro-tested"), &args, &[]).json();
        assert_eq!(*answer, host["text"], "{question}");
        assert_eq!(ids.replace(' ', ""), host["tokens"].to_string(), "{question}");
    }
    answers
}

#[test]
fn the_control_loop_never_waits_for_the_model() {
    for name in ["embassy", "bare_loop"] {
        let Some(run) = example(name) else { return };
        assert_eq!(run.status, Some(0), "{name}: {:?} {}", run.log, run.text);
        let answers = answers_of_host(&run);
        assert!(answers.contains(&"yes") && answers.contains(&"no"), "{name}: {answers:?}");
        assert!(number(&run, "ticks") >= TICKS, "{name}: {:?}", run.log);
        assert_eq!(number(&run, "missed"), 0, "{name}: {:?}", run.log);
        // Counted in instructions, and so no matter of this machine's.
        assert!(number(&run, "worst lateness ns") <= LATENESS_NS, "{name}: {:?}", run.log);
    }
}
