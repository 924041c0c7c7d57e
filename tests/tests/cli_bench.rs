//! `ouro bench` as users run it. No test asserts a time: what is checked is the work that was timed.

use ouro_tests::harness::golden;
use ouro_tests::{Ran, run_command};
use serde_json::{Value, json};

fn ouro(args: &[&str]) -> Ran {
    run_command(env!("CARGO_BIN_EXE_ouro-tested"), args, b"")
}

const SMALL: [&str; 8] = ["bench", "--prompt", "16", "--generate", "4", "--batch", "1,3", "--repeat"];

#[test]
fn every_test_for_all_threads_and_depths() {
    let options = ["1", "--threads", "1,2", "--loops", "1,4", "--json"];
    let report = ouro(&[&SMALL[..], &options].concat()).json();
    let rows = report["rows"].as_array().unwrap();
    let mut expected = Vec::new();
    for threads in [1, 2] {
        for loops in [1, 4] {
            for (test, tokens) in [("batch", 1), ("batch", 3), ("prompt", 16), ("generate", 4)] {
                expected.push(json!([threads, loops, test, tokens]));
            }
        }
    }
    let found: Vec<Value> = rows
        .iter()
        .map(|row| ["threads", "loops", "test", "tokens"].map(|key| row[key].clone()).into_iter().collect())
        .collect();
    assert_eq!(found, expected);
    for row in rows {
        for key in ["tokens_per_second", "milliseconds", "machine_read", "machine_peak", "of_read", "of_peak"]
        {
            let figure = row[key].as_f64().unwrap();
            assert!(figure > 0.0 && figure.is_finite(), "{key}: {row}");
        }
        let [low, high] = [0, 1].map(|end| row["range"][end].as_f64().unwrap());
        let median = row["tokens_per_second"].as_f64().unwrap();
        assert!(low <= median && median <= high, "{row}");
    }
    assert_eq!((&report["repetitions"], &report["trained_loops"]), (&json!(1), &json!(4)));
    let peak = report["peak_memory"].as_u64();
    assert!(peak.is_none_or(|peak| peak > report["session_bytes"].as_u64().unwrap()), "{report}");
}

/// With one repetition rate times time is the amount of work, which the shape of the model tells.
#[test]
fn the_work_is_the_models() {
    let inspect = ouro(&["inspect", "pico", "--json"]).json();
    let reads = |key: &str| inspect["reads"][key].as_u64().unwrap() as f64;
    let shape = |key: &str| inspect["shape"][key].as_u64().unwrap() as f64;
    let (hidden, layers) = (shape("hidden"), shape("layers"));
    let matrices = layers * hidden * (4.0 * hidden + 3.0 * shape("ffn"));
    let head = hidden * shape("vocabulary");
    let rows = [1, 20].into_iter().flat_map(|after| {
        let options = ["1", "--loops", "3", "--json", "--after", &after.to_string()];
        let report = ouro(&[&SMALL[..], &options].concat()).json();
        assert_eq!(report["after"], after);
        let rows = report["rows"].as_array().unwrap().clone();
        rows.into_iter().map(move |row| (after, row))
    });
    for (after, row) in rows {
        let figure = |key: &str| row[key].as_f64().unwrap();
        let seconds = figure("milliseconds") / 1e3;
        let (macs, bytes) =
            (1e9 * seconds * figure("gmac_per_second"), 1e9 * seconds * figure("gb_per_second"));
        let tokens = if row["test"] == "generate" { 1.0 } else { figure("tokens") };
        // Positions that a query reads, all queries together; the first of 4 generated ones reads itself too.
        let read =
            if row["test"] == "generate" { f64::from(after) + 2.5 } else { tokens * (tokens + 1.0) / 2.0 };
        let expected = 3.0 * (tokens * matrices + read * layers * 2.0 * hidden) + head;
        assert!((macs / expected - 1.0).abs() < 1e-6, "{macs} {expected} {row}");
        // Tiles have gaps between matrices, but there is nothing else in them.
        let least = 3.0 * reads("per_loop") + reads("head") + tokens * reads("embedding_row");
        let most = 3.0 * inspect["bytes"].as_f64().unwrap() + least;
        assert!((least..most).contains(&(bytes * (1.0 + 1e-9))), "{bytes} {least} {row}");
    }
}

/// Bytes are those fetched: what is pinned is not, and so a list of pins takes its part away.
#[test]
fn weights_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("random.gguf");
    let path = model.to_str().unwrap();
    let made = ouro(&["random", "--like", "smollm2-135m", "--type", "q4_0", path]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let options = ["1", "-m", path, "--loops", "1", "--threads", "1", "--store", "file", "--json"];
    let bytes = |pin: &str| {
        let report = ouro(&[&SMALL[..], &options, &["--pin", pin]].concat()).json();
        assert!(report["medium"].as_str().unwrap().starts_with("file"), "{report}");
        let of_row = |row: &Value| {
            assert!(row["of_read"].as_f64().unwrap() > 0.0, "{row}");
            row["milliseconds"].as_f64().unwrap() * row["gb_per_second"].as_f64().unwrap() * 1e6
        };
        let rows = report["rows"].as_array().unwrap().iter().map(of_row).collect::<Vec<_>>();
        (report["pinned_bytes"].as_f64().unwrap(), rows)
    };
    let (nothing, all) = bytes("none");
    let (pinned, less) = bytes("blk.0-9");
    assert!(nothing == 0.0 && pinned > 1e7, "{pinned}");
    for (all, less) in all.iter().zip(&less) {
        // To a tile, which may have been read ahead in the token before.
        assert!((all - less - pinned).abs() < 5e6, "{all} {less} {pinned}");
    }
    let ram =
        ouro(&[&SMALL[..], &["1", "-m", path, "--loops", "1", "--ram", "60M", "--json"]].concat()).json();
    let peak = ram["peak_memory"].as_u64();
    assert!(peak.is_none_or(|peak| peak <= 60 << 20), "{ram}");
    assert!(ram["pinned_bytes"].as_u64().unwrap() > 10 << 20, "{ram}");
}

#[test]
fn the_table_and_the_errors() {
    let table = ouro(&[&SMALL[..], &["2", "--backend", "scalar"]].concat());
    for word in ["batch 3", "prompt 16", "generate 4", "tokens/s", "of peak", "of read", "scalar", "memory:"]
    {
        assert!(table.text().contains(word), "{word}: {}", table.text());
    }
    assert_eq!(table.stderr, "", "nobody is looking");
    let gateless = golden("wide/wide-Q4_K_M.gguf");
    let options = ["1", "-m", gateless.to_str().unwrap(), "--backend", "reference"];
    assert!(ouro(&[&SMALL[..], &options].concat()).text().contains("reference"));
    let cases: [(&[&str], i32, &[&str]); 8] = [
        (&["bench", "--ram", "100M"], 2, &["--ram need a file"]),
        (&["bench", "--pin", "blk.0"], 2, &["--pin needs --store file or --ram"]),
        (&["bench", "-m", "no-such-file"], 3, &["no-such-file"]),
        (&["bench", "--prompt", "0"], 2, &["a number from 1"]),
        (&["bench", "--batch", "2,x"], 2, &["x found"]),
        (&["bench", "--loops", "0"], 2, &["0"]),
        (&["bench", "--threads", "0"], 2, &["0"]),
        (&["bench", "--backend", "gpu"], 2, &["gpu", "scalar"]),
    ];
    for (args, code, words) in cases {
        ouro(args).expect_error(code, words);
    }
}
