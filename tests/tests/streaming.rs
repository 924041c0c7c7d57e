//! Models that are not in memory, as a user runs them.

use ouro::store::FileStore;
use ouro_runtime::store::{Span, Store, StoreError};
use ouro_tests::convert::{Written, quantize};
use ouro_tests::harness::{golden, load};
use ouro_tests::{Ran, run_command};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const OURO: &str = env!("CARGO_BIN_EXE_ouro-tested");

fn run(model: &Path, options: &[&str]) -> Ran {
    let common = ["run", "-m", model.to_str().unwrap(), "--tokens", "5,9,30", "--ignore-eos"];
    run_command(OURO, &[&common[..], options].concat(), b"")
}

/// `mha` with checksums.
fn summed() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.gguf");
    quantize(&golden("mha/mha-f32.gguf"), &path, &["--type", "q8_0"]).unwrap();
    (folder, path)
}

#[test]
fn tokens_do_not_depend_on_where_weights_are() {
    let (_folder, path) = summed();
    let common = ["--max-new", "8", "--json"];
    let expected = run(&path, &common).json();
    assert_eq!(expected["medium"], "memory");
    let cases: [&[&str]; 7] = [
        &["--store", "file"],
        &["--store", "file", "--block-buffer", "100K"],
        &["--store", "file", "--block-buffer", "2K", "--verify", "never"],
        &["--store", "file", "--verify", "always"],
        &["--store", "file", "--block-buffer", "100K", "--pin", "blk.0,output"],
        &["--ram", "40M"],
        &["--ram", "40M", "--pin", "none", "--block-buffer", "90K"],
    ];
    for options in cases {
        let found = run(&path, &[&common[..], options].concat()).json();
        assert_eq!(found["tokens"], expected["tokens"], "{options:?}");
        let counter = |name: &str| found["counters"][name].as_u64().unwrap();
        assert!(found["medium"].as_str().unwrap().starts_with("file"), "{options:?}");
        assert!(counter("requests") > 0 && counter("stalls") <= counter("tiles_fetched"), "{options:?}");
        let pins = options.contains(&"blk.0,output") || options == ["--ram", "40M"];
        assert_eq!((counter("pinned_bytes") > 0, counter("pinned_tiles") > 0), (pins, pins), "{options:?}");
    }
}

#[test]
fn what_does_not_fit_or_makes_no_sense_is_refused() {
    let (_folder, path) = summed();
    let cases: [(i32, &[&str], &[&str]); 7] = [
        (4, &["--ram", "3M"], &["--ram 3.00 MiB is too little", "at least", "--kv-type"]),
        (4, &["--ram", "20M", "--ctx", "60000"], &["is too little", "the session", "--ctx"]),
        (4, &["--store", "file", "--block-buffer", "2K"], &["enlarge", "--block-buffer"]),
        (2, &["--store", "file", "--pin", "blk.0-99"], &["blk.0-99", "blk.0 to blk."]),
        (2, &["--pin", "blk.0"], &["--pin needs --store file or --ram"]),
        (2, &["--store", "file", "--pin", "attn_q"], &["attn_q", "blk.0-5"]),
        (2, &["--ram", "x"], &["expected a number of bytes"]),
    ];
    for (code, options, words) in cases {
        run(&path, options).expect_error(code, words);
    }
    run_command(OURO, &["run", "--ram", "100M", "hello"], b"").expect_error(2, &["--ram need a file"]);
}

/// While a tile is in use the announced one is fetched: with a pause, next to none is waited for. A
/// wrong guess changes that for no later one.
#[test]
fn announced_tiles_are_there_when_they_are_wanted() {
    let (_folder, path) = summed();
    let tile = |number: u64| Span { offset: 4096 * number, len: 4096 };
    let mut store = FileStore::open(&path, 4096).unwrap();
    let rounds = 20;
    for guess in [None, Some(tile(60))] {
        store.load(tile(0), guess.or(Some(tile(1)))).unwrap();
        let before = store.counters().stalls;
        for number in 1..=rounds {
            std::thread::sleep(Duration::from_millis(20));
            store.load(tile(number), Some(tile(number + 1))).unwrap();
        }
        let stalls = store.counters().stalls - before;
        assert!(stalls < rounds / 2, "{stalls} of {rounds} tiles were waited for");
    }
}

/// Any byte of the weights that rots is noticed before a word is said.
#[test]
fn rotten_bytes_give_no_text() {
    let (folder, path) = summed();
    let good = fs::read(&path).unwrap();
    let written = Written::read(&path);
    let weights = good.len()
        - written.tensors().values().map(|(_, _, bytes)| bytes.len().next_multiple_of(4096)).sum::<usize>();
    for (name, at) in [("output.weight", good.len() - 5000), ("blk.0", weights + 60_000), ("", weights + 20)]
    {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, bad).unwrap();
        for store in ["memory", "file"] {
            let found = run(&path, &["--store", store, "--max-new", "3"]);
            // The embedding is read a row at a time: rows that are not needed may rot.
            if name.is_empty() && found.code == Some(0) {
                continue;
            }
            found.expect_error(3, &[name, "another checksum", &format!("offset {}", at / 4096 * 4096)]);
            let unchecked = run(&path, &["--store", store, "--max-new", "3", "--verify", "never"]);
            assert_eq!(unchecked.code, Some(0), "{}", unchecked.stderr);
        }
        let copy = folder.path().join("copy.gguf");
        let (from, to) = (path.to_str().unwrap(), copy.to_str().unwrap());
        let inspected = run_command(OURO, &["inspect", "--check", from], b"");
        assert_eq!(inspected.code, Some(3));
        assert!(inspected.stderr.contains(name) && inspected.stderr.contains("another checksum"));
        let copying: [&[&str]; 2] =
            [&["layout", from, to], &["quantize", from, to, "--type", "f32", "--allow-requantize"]];
        for args in copying {
            run_command(OURO, args, b"").expect_error(3, &[name, "another checksum"]);
            assert!(!copy.exists(), "a copy would have sums of what is rotten");
        }
    }
}

/// Any byte of the metadata, too; what is copied gets no sum of rotten bytes.
#[test]
fn rotten_metadata_gives_no_text() {
    let (folder, path) = summed();
    let expected = run(&path, &["--max-new", "3"]);
    let mut bytes = fs::read(&path).unwrap();
    // A change that nothing else notices: the lowest bit of a number, behind its key and its type.
    let key = b"ouro.attention.layer_norm_rms_epsilon";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let said = ["metadata", "another checksum", "ouro.checksum.metadata"];
    for store in ["memory", "file"] {
        run(&path, &["--store", store]).expect_error(3, &said);
        let unchecked = run(&path, &["--store", store, "--max-new", "3", "--verify", "never"]);
        assert_eq!((unchecked.code, unchecked.stdout), (Some(0), expected.stdout.clone()));
    }
    let copy = folder.path().join("copy.gguf");
    let (from, to) = (path.to_str().unwrap(), copy.to_str().unwrap());
    let commands: [&[&str]; 4] = [
        &["inspect", "--check", from],
        &["inspect", from],
        &["tokenize", "-m", from, "3"],
        &["layout", from, to],
    ];
    for args in commands {
        run_command(OURO, args, b"").expect_error(3, &said);
    }
    assert!(!copy.exists());
}

/// A partition is longer than the file that was written to it.
#[test]
fn what_lies_behind_the_weights_does_no_harm() {
    let (_folder, path) = summed();
    let expected = run(&path, &["--max-new", "3"]);
    assert_eq!(expected.code, Some(0), "{}", expected.stderr);
    let mut longer = fs::read(&path).unwrap();
    longer.resize(longer.len() + 10_000, 0xA5);
    fs::write(&path, longer).unwrap();
    for store in ["memory", "file"] {
        assert_eq!(run(&path, &["--store", store, "--max-new", "3"]).stdout, expected.stdout);
    }
}

/// A block device over a file.
struct Device(String);

impl Device {
    fn new(file: &Path) -> Result<Self, String> {
        let setup = Command::new("losetup").args(["--find", "--show", "--read-only"]).arg(file).output();
        let setup = setup.map_err(|error| format!("losetup: {error}"))?;
        let (out, error) = (String::from_utf8_lossy(&setup.stdout), String::from_utf8_lossy(&setup.stderr));
        if setup.status.success() { Ok(Self(out.trim().to_owned())) } else { Err(error.trim().to_owned()) }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

/// A model written to a disk or a partition, which is longer than it.
#[test]
fn a_block_device() {
    let (_folder, path) = summed();
    let expected = run(&path, &["--max-new", "3"]);
    let mut longer = fs::read(&path).unwrap();
    longer.resize(longer.len().next_multiple_of(4096) + 20 * 4096, 0xA5);
    fs::write(&path, longer).unwrap();
    let device = match Device::new(&path) {
        Ok(device) => device,
        Err(why) => {
            let _ = writeln!(io::stderr(), "skipped: no loop device: {why}; be root where they can be made");
            return;
        }
    };
    for options in [
        &["--store", "memory"][..],
        &["--store", "file", "--block-buffer", "150K"],
        &["--ram", "40M", "--pin", "none"],
    ] {
        let found = run(Path::new(&device.0), &[options, &["--max-new", "3"]].concat());
        assert_eq!((found.code, &found.stdout), (Some(0), &expected.stdout), "{}", found.stderr);
    }
    let store = FileStore::open(Path::new(&device.0), 4096).unwrap();
    assert!(store.is_direct() && store.len() == fs::metadata(&path).unwrap().len());
}

#[test]
fn past_the_page_cache_or_through_it() {
    let (_folder, path) = summed();
    let bytes = fs::read(&path).unwrap();
    let through = FileStore::new(fs::File::open(&path).unwrap(), 20_000).unwrap();
    assert!(!through.is_direct());
    for mut store in [FileStore::open(&path, 20_000).unwrap(), through] {
        let tiles = (0..bytes.len() - 20_000).step_by(7777);
        let mut spans = tiles.map(|offset| Span { offset: offset as u64, len: 20_000 });
        while let Some(tile) = spans.next() {
            store.load(tile, spans.clone()).unwrap();
            assert!(store.tile() == &bytes[tile.offset as usize..][..tile.len], "{tile:?}");
        }
    }
}

/// A tile that was on order and failed is ordered again once it is wanted.
#[test]
fn a_failed_read_ahead_is_repeated_and_counted() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("cut");
    fs::write(&path, vec![1; 300_000]).unwrap();
    let mut store = FileStore::open(&path, 80_000).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let [first, second] = [81_920, 163_840].map(|offset| Span { offset, len: 80_000 });
    let changed = |span| Err(StoreError::Changed { span });
    assert_eq!(store.load(first, [second]), changed(first));
    // One thread reads, so the other one has failed by the time that this one is there again.
    assert_eq!((store.load(first, None), store.counters().retries), (changed(first), 0));
    assert_eq!((store.load(second, None), store.counters().retries), (changed(second), 1));
}

/// A file in another order runs with more requests; `ouro layout` changes the order and nothing else.
#[test]
fn layout_puts_tensors_in_order() {
    let folder = TempDir::new().unwrap();
    let (from, to) = (golden("wide/wide-Q4_0.gguf"), folder.path().join("ordered.gguf"));
    let done =
        run_command(OURO, &["layout", from.to_str().unwrap(), to.to_str().unwrap(), "--json"], b"").json();
    let (before, after) = (Written::read(&from), Written::read(&to));
    assert_eq!(done["bytes"].as_u64(), Some(after.bytes.len() as u64));
    assert!(before.tensors() == after.tensors(), "not a byte of a tensor changes");
    let names = after.names();
    let place = |name: &str| names.iter().position(|other| other == name).unwrap();
    let order = ["token_embd", "blk.0.attn_norm", "blk.0.attn_q", "blk.0.ffn_down", "output_norm", "output"];
    let places = order.map(|name| place(&format!("{name}.weight")));
    assert!(places.is_sorted(), "{names:?}");
    let requests = [&from, &to].map(|path| load(path).model.stack_tiles(1 << 20).count());
    assert!(requests[0] > requests[1] && requests[1] == 1, "{requests:?}");
    let options = ["--store", "file", "--max-new", "4", "--json"];
    let [old, new] = [&from, &to].map(|path| run(path, &options).json());
    assert_eq!(old["tokens"], new["tokens"]);
    let inspected = run_command(OURO, &["inspect", "--check", to.to_str().unwrap()], b"");
    assert_eq!(inspected.code, Some(0), "{}", inspected.stderr);
    let same = to.to_str().unwrap();
    run_command(OURO, &["layout", same, same], b"").expect_error(2, &["same file"]);
    let checkpoint = golden("wide");
    run_command(OURO, &["layout", checkpoint.to_str().unwrap(), "never.gguf"], b"")
        .expect_error(3, &["is a folder, expected a GGUF", "ouro quantize"]);
}

/// A control group of our own for memory, the page cache included.
struct Group(PathBuf);

impl Group {
    fn new(limit: u64) -> Result<Self, String> {
        let name = format!("ouro-test-{}", std::process::id());
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (folder, file) = if v1.is_dir() {
            (v1.join(name), "memory.limit_in_bytes")
        } else {
            (Path::new("/sys/fs/cgroup").join(name), "memory.max")
        };
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let group = Self(folder);
        let write = fs::write(group.0.join(file), limit.to_string());
        write.map_err(|error| format!("{}: {error}", group.0.join(file).display()))?;
        Ok(group)
    }

    fn peak(&self) -> Option<u64> {
        let read = |file| fs::read_to_string(self.0.join(file)).ok()?.trim().parse().ok();
        read("memory.max_usage_in_bytes").or_else(|| read("memory.peak"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// A model larger than the memory that the system allows: the same tokens, within the limit.
#[test]
fn larger_than_memory() {
    const RAM: u64 = 40 << 20;
    let folder = TempDir::new().unwrap();
    let model = folder.path().join("random.gguf");
    let path = model.to_str().unwrap();
    let made = run_command(OURO, &["random", "--like", "smollm2-135m", "--type", "q4_0", path], b"");
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(fs::metadata(&model).unwrap().len() > 3 * RAM / 2);
    let group = match Group::new(RAM) {
        Ok(group) => group,
        Err(why) => {
            // On a build server too: no package could change it.
            let _ = writeln!(
                io::stderr(),
                "skipped: no control group for memory: {why}; be root where they can be made"
            );
            return;
        }
    };
    let options = ["--tokens", "5,9,30", "--ignore-eos", "--max-new", "4", "--loops", "2", "--json"];
    let expected = run_command(OURO, &[&["run", "-m", path], &options[..]].concat(), b"").json();
    let script = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
    let group_path = group.0.to_str().unwrap();
    let inside = ["-c", script, group_path, OURO, "run", "-m", path, "--ram", "40M"];
    let output = Command::new("sh").args(inside).args(options).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["tokens"], expected["tokens"]);
    assert!(found["counters"]["pinned_bytes"].as_u64().unwrap() > RAM / 3, "{found}");
    let peak = found["counters"]["peak_resident_bytes"].as_u64().unwrap();
    assert!(peak <= RAM, "{peak} of {RAM} bytes");
    if let Some(peak) = group.peak() {
        assert!(peak <= RAM, "{peak} of {RAM} bytes with the page cache");
    }
}
