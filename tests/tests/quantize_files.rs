//! `ouro quantize` and the file system: whole files or none, whatever happens.

use ouro::error::Error;
use ouro_tests::checkpoint_dir::{CheckpointDir, RawTensor};
use ouro_tests::convert::quantize;
use ouro_tests::harness::golden;
use safetensors::tensor::Dtype;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const OURO: &str = env!("CARGO_BIN_EXE_ouro-tested");

fn ouro(words: &[&str]) -> Output {
    Command::new(OURO).arg("quantize").args(words).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn outputs_that_make_no_sense() {
    let folder = TempDir::new().unwrap();
    let gguf = folder.path().join("model.gguf");
    fs::copy(golden("mha/mha-f32.gguf"), &gguf).unwrap();
    let before = fs::read(&gguf).unwrap();
    let link = folder.path().join("link.gguf");
    std::os::unix::fs::symlink(&gguf, &link).unwrap();
    let roundabout = folder.path().join("../").join(folder.path().file_name().unwrap()).join("model.gguf");
    let cases: [(&Path, PathBuf, &str); 6] = [
        (&gguf, gguf.clone(), "same file"),
        (&gguf, link, "same file"),
        (&gguf, roundabout, "same file"),
        (&gguf, folder.path().to_owned(), "is a folder"),
        (&gguf, folder.path().join("nowhere/out.gguf"), "nowhere does not exist"),
        (&gguf, gguf.join("out.gguf"), "does not exist"),
    ];
    for (src, out, expected) in cases {
        let error = quantize(src, &out, &["--type", "f16"]).unwrap_err();
        assert!(matches!(error, Error::Usage(_)), "{}: {error}", out.display());
        assert!(error.to_string().contains(expected), "{}: {error}", out.display());
        assert_eq!(names(folder.path()), ["link.gguf", "model.gguf"], "{}", out.display());
        assert!(fs::read(&gguf).unwrap() == before, "{}", out.display());
    }
}

#[test]
fn a_checkpoint_is_not_written_over() {
    let checkpoint = CheckpointDir::golden("mha");
    for name in ["model.safetensors", "config.json"] {
        let before = fs::read(checkpoint.file(name)).unwrap();
        let error = quantize(checkpoint.path(), &checkpoint.file(name), &["--type", "f16"]).unwrap_err();
        assert!(matches!(error, Error::Usage(_)), "{name}: {error}");
        assert!(fs::read(checkpoint.file(name)).unwrap() == before, "{name}");
    }
    // Also where only the gate is taken from it.
    for name in ["model.safetensors", "config.json"] {
        let before = fs::read(checkpoint.file(name)).unwrap();
        let gate = ["--gate-from", text(checkpoint.path())];
        let error = quantize(&golden("mha/mha-f32.gguf"), &checkpoint.file(name), &gate).unwrap_err();
        assert!(matches!(error, Error::Usage(_)), "{name}: {error}");
        assert!(fs::read(checkpoint.file(name)).unwrap() == before, "{name}");
    }
    // A GGUF beside it is what many want, also the second time.
    for _ in 0..2 {
        quantize(checkpoint.path(), &checkpoint.file("model.gguf"), &["--type", "f16"]).unwrap();
    }
}

#[test]
fn an_output_is_replaced_only_by_a_whole_one() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.gguf");
    fs::write(&out, "precious").unwrap();
    let damaged = CheckpointDir::golden("mha");
    damaged.edit_tensors(|tensors| {
        // The last thing that is read.
        let head = &mut tensors.get_mut("lm_head.weight").unwrap().data;
        let end = head.len();
        head[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let error = quantize(damaged.path(), &out, &["--type", "q8_0"]).unwrap_err();
    assert!(error.to_string().contains("NaN"), "{error}");
    assert_eq!(fs::read(&out).unwrap(), b"precious");
    assert_eq!(names(folder.path()), ["out.gguf"]);

    quantize(&golden("mha"), &out, &["--type", "q8_0"]).unwrap();
    assert!(fs::read(&out).unwrap().starts_with(b"GGUF"));
    assert_eq!(names(folder.path()), ["out.gguf"]);
}

/// What `ouro run` would refuse is not written, and the error is the one it would give.
#[test]
fn a_file_that_does_not_run_gets_no_name() {
    let cases: [(&str, Value, &str); 2] =
        [("total_ut_steps", 300.into(), "num_loops"), ("early_exit_threshold", 1.5.into(), "threshold")];
    for (key, value, says) in cases {
        let checkpoint = CheckpointDir::golden("mha");
        checkpoint.edit_json("config.json", |config| config[key] = value);
        let folder = TempDir::new().unwrap();
        let out = folder.path().join("out.gguf");
        let error = quantize(checkpoint.path(), &out, &["--type", "q8_0"]).unwrap_err();
        assert!(matches!(error, Error::BadInput(_)), "{key}: {error}");
        assert!(error.to_string().contains(says), "{key}: {error}");
        assert!(names(folder.path()).is_empty(), "{key}");
    }
}

#[test]
fn the_file_is_readable_by_others() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let (out, plain) = (folder.path().join("out.gguf"), folder.path().join("plain"));
    quantize(&golden("mha"), &out, &["--type", "q8_0"]).unwrap();
    fs::write(&plain, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&out), mode(&plain));
}

#[test]
fn any_number_of_threads_writes_the_same_bytes() {
    let folder = TempDir::new().unwrap();
    for file_type in ["q4_k_m", "q4_0"] {
        let files = ["1", "2", "7"].map(|threads| {
            let out = folder.path().join(format!("{file_type}-{threads}.gguf"));
            let mut command = Command::new(OURO);
            command.arg("quantize").arg(golden("wide")).arg(&out).args(["--type", file_type]);
            let output = command.env("RAYON_NUM_THREADS", threads).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            fs::read(&out).unwrap()
        });
        assert!(files.iter().all(|file| *file == files[0]), "{file_type}");
    }
}

#[test]
fn the_command_line() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.gguf");
    let mha = golden("mha");

    let done = ouro(&[text(&mha), text(&out), "--type", "q4_k_m"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(done.stderr.is_empty(), "progress is for terminals: {done:?}");
    let table = String::from_utf8(done.stdout).unwrap();
    for line in ["36 tensors", "exit gate in metadata", "Q8_0", "block of 256"] {
        assert!(table.contains(line), "no {line:?} in:\n{table}");
    }

    let done = ouro(&[text(&mha), text(&out), "--type", "Q8_0", "--json"]);
    let json: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(json["bytes"], fs::metadata(&out).unwrap().len());
    assert_eq!(json["tensors"].as_array().unwrap().len(), 36);
    assert_eq!(json["tensors"][0]["to"], "Q8_0");

    let src = text(&mha);
    let no_type = ["--type", "q9_9"];
    for (words, code) in [
        (vec![src, text(&out)], 2),
        (vec![src], 2),
        (vec![src, text(&out), no_type[0], no_type[1]], 2),
        (vec![src, text(&out), "--type", "f16", "--tensor-type", "attn_q=q9_9"], 2),
        (vec![src, text(&out), "--type", "f16", "--tensor-type", "nothing=q8_0"], 2),
        (vec![src, src, "--type", "f16"], 2),
        (vec!["/nonexistent", text(&out), "--type", "f16"], 3),
    ] {
        let output = ouro(&words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
        assert!(!output.stderr.is_empty(), "{words:?}");
    }
}

/// A checkpoint whose embedding has `rows` rows of 64: large, but quick to make.
fn large_checkpoint(rows: usize) -> CheckpointDir {
    let checkpoint = CheckpointDir::golden("mha");
    checkpoint.edit_json("config.json", |config| config["vocab_size"] = rows.into());
    checkpoint.edit_tensors(|tensors| {
        for name in ["model.embed_tokens.weight", "lm_head.weight"] {
            let data = (0..rows * 64).flat_map(|i| (((i * 40503) % 16384) as u16).to_le_bytes()).collect();
            let tensor = RawTensor { dtype: Dtype::BF16, shape: vec![rows, 64], data };
            tensors.insert(name.to_owned(), tensor);
        }
    });
    checkpoint
}

/// The child's peak of resident memory so far, in bytes.
fn peak_memory(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_the_model() {
    // Two tensors of 64 MiB.
    let checkpoint = large_checkpoint(1 << 19);
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(OURO);
    command
        .arg("quantize")
        .arg(checkpoint.path())
        .arg(folder.path().join("out.gguf"))
        .args(["--type", "q4_0"]);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(peak_memory(&child).unwrap_or(0));
        sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    // Most of it is the vocabulary's names.
    assert!((1 << 20..160 << 20).contains(&peak), "peak {peak} bytes");
}

#[test]
#[cfg(unix)]
fn interrupted_it_leaves_nothing() {
    let checkpoint = large_checkpoint(1 << 19);
    for signal in ["-INT", "-TERM"] {
        let folder = TempDir::new().unwrap();
        let mut command = Command::new(OURO);
        command
            .arg("quantize")
            .arg(checkpoint.path())
            .arg(folder.path().join("out.gguf"))
            .args(["--type", "f32"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let started = Instant::now();
        while names(folder.path()).is_empty() {
            assert!(started.elapsed() < Duration::from_secs(30), "no temporary file");
            sleep(Duration::from_millis(1));
        }
        assert!(names(folder.path())[0].ends_with(".part"), "{:?}", names(folder.path()));
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{signal}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted"), "{output:?}");
        assert!(names(folder.path()).is_empty(), "{signal}: {:?}", names(folder.path()));
    }
}

#[test]
#[cfg(unix)]
fn a_full_disk_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.gguf");
    // A limit on the size of files does what a full disk does: writing fails on the way. 100 blocks
    // of 512 bytes, or of 1024 in some shells.
    let script = r#"trap "" XFSZ; ulimit -f 100; exec "$0" quantize "$1" "$2" --type f32"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, OURO]).arg(golden("wide")).arg(&out);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("out.gguf") && message.contains("free some space"), "{message}");
    assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));
}
