//! Budgets on the command line.

use ouro_tests::harness::golden;
use ouro_tests::{Ran, run_command};
use serde_json::{Value, json};

fn ouro(args: &[&str]) -> Ran {
    let model = golden("lively/lively-gate-f32.gguf");
    let model = ["run", "-m", model.to_str().unwrap(), "--tokens", "175,462,33", "--max-new", "12"];
    run_command(env!("CARGO_BIN_EXE_ouro-tested"), &[&model, args].concat(), b"")
}

/// Depth 4 is wanted by every token: 2 of each are paid, 4 are saved up at the beginning. What comes
/// of it was worked out by hand.
#[test]
fn a_budget_of_loops() {
    let ran = ouro(&["--exit", "fixed", "--budget", "2", "--burst", "4", "--resume", "3", "--json"]);
    let json = ran.json();
    // The first token comes out of the prompt, whose loops are not counted.
    let depths = [4, 4, 4, 2, 1, 1, 1, 4, 3, 1, 1, 1];
    let (b, f) = ("budget", "fallback");
    let reasons = ["fixed", "fixed", "fixed", b, f, f, f, "fixed", b, f, f, f];
    let left = [4.0, 2.0, 0.0, 0.0, 1.0, 2.0, 3.0, 1.0, 0.0, 1.0, 2.0, 3.0];
    assert_eq!(json["depths"], json!(depths), "{}", json["reasons"]);
    assert_eq!(json["reasons"], json!(reasons));
    assert_eq!(json["budget"]["left"]["loops"], json!(left));
}

#[test]
fn a_budget_that_is_out_of_time() {
    let json = ouro(&["--answer-time", "0s", "--json"]).json();
    assert_eq!((&json["stop"], &json["tokens"]), (&json!("out-of-time"), &json!([])));
    // The prompt may take its time; the second token has none.
    let json = ouro(&["--token-time", "0s", "--json"]).json();
    assert_eq!((&json["stop"], json["tokens"].as_array().map(Vec::len)), (&json!("out-of-time"), Some(1)));
    let ran = ouro(&["--token-time", "0s"]);
    assert!(ran.text().len() > 1 && ran.stderr.contains("[out of time]"), "{}", ran.stderr);
    let free = ouro(&["--json"]).json();
    let timed = ouro(&["--token-time", "1min", "--answer-time", "5min", "--json"]).json();
    assert_eq!(free["tokens"], timed["tokens"], "time enough");
    assert!(timed["budget"]["left"]["answer_seconds"][0].as_f64().is_some_and(|left| left > 0.0), "{timed}");
    assert_eq!(free.get("budget"), None::<&Value>);
}

/// A board at its limit runs the fallback depth once what was saved up is used.
#[test]
fn heat_lowers_the_rate() {
    let sysfs = tempfile::tempdir().unwrap();
    let zone = sysfs.path().join("class/thermal/thermal_zone0");
    std::fs::create_dir_all(&zone).unwrap();
    let run = |degrees: &str| {
        let files = [("temp", degrees), ("trip_point_0_type", "passive"), ("trip_point_0_temp", "85000")];
        for (name, content) in files {
            std::fs::write(zone.join(name), content).unwrap();
        }
        let sysfs = sysfs.path().to_str().unwrap();
        let power = ["--power", "auto", "--sysfs", sysfs];
        ouro(&[&power[..], &["--exit", "fixed", "--burst", "4", "--fallback", "1", "--json"]].concat()).json()
    };
    let cool = run("40000");
    assert_eq!(cool["depths"], json!(vec![4; 12]));
    assert_eq!(cool["budget"]["lowest_loop_rate"], json!(4.0));
    let hot = run("85000");
    // After the prompt one loop per token is paid, and four were saved up.
    assert_eq!(hot["depths"], json!([4, 4, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1]), "{}", hot["reasons"]);
    assert_eq!(hot["budget"]["lowest_loop_rate"], json!(1.0));
    std::fs::remove_dir_all(&zone).unwrap();
    let args = ["--power", "auto", "--sysfs", sysfs.path().to_str().unwrap()];
    ouro(&args).expect_error(2, &["no thermal zone"]);
}

/// A processor whose counter stands still pays every loop; without one, energy can't be bounded.
#[test]
fn a_budget_of_energy() {
    let sysfs = tempfile::tempdir().unwrap();
    let args = ["--energy-budget", "300mJ", "--sysfs", sysfs.path().to_str().unwrap()];
    ouro(&args).expect_error(2, &["does not tell the energy", "--token-time"]);
    let zone = sysfs.path().join("class/powercap/intel-rapl:0");
    std::fs::create_dir_all(&zone).unwrap();
    for (name, content) in
        [("name", "package-0"), ("max_energy_range_uj", "262143328850"), ("energy_uj", "1234")]
    {
        std::fs::write(zone.join(name), content).unwrap();
    }
    let json = ouro(&[&args[..], &["--exit", "fixed", "--json"]].concat()).json();
    assert_eq!(json["depths"], json!(vec![4; 12]), "{}", json["reasons"]);
    assert_eq!(json["budget"]["joules"], json!({ "rate": 0.3, "burst": 0.6, "resume": 0.3 }));
    assert_eq!(json["budget"]["left"]["joules"], json!(vec![0.6; 12]));
    let ran = ouro(&args);
    let _ = ran.text();
    assert!(ran.stderr.contains("300 mJ per token; 600 mJ of 600 mJ saved up"), "{}", ran.stderr);
}

#[test]
fn the_report_says_what_was_spent() {
    let ran = ouro(&["--exit", "fixed", "--budget", "2.5", "--fallback", "2"]);
    let _ = ran.text();
    for words in ["2.5 loops per token", "fallback depth of 2", "no token can take more than 4 loops"] {
        assert!(ran.stderr.contains(words), "{words:?} expected in {}", ran.stderr);
    }
}

#[test]
fn budgets_that_make_no_sense() {
    let cases: [(&[&str], &str); 8] = [
        (
            &["--budget", "2", "--fallback", "3"],
            "adds 2.000 loops per token, less than the fallback depth of 3",
        ),
        (&["--budget", "0.5"], "less than the fallback depth of 1"),
        (&["--budget", "3", "--fallback", "1", "--min-loops", "2"], "fallback depth: expected at least"),
        (&["--budget", "3", "--burst", "1", "--resume", "2"], "resume: expected at most the burst"),
        (&["--byte-budget", "1K"], "needs at least"),
        (&["--burst", "2"], "give --budget LOOPS, too"),
        (&["--token-time", "5"], "250ms"),
        (&["--token-time", "1s", "--kv-window", "0"], "a KV window of at least 1"),
    ];
    for (args, words) in cases {
        ouro(args).expect_error(2, &[words]);
    }
}
