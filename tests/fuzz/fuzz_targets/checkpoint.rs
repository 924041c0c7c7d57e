//! A checkpoint folder with one file replaced by any bytes: the first byte says which file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ouro::checkpoint::Checkpoint;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Letter, file and good contents, a letter and the bytes themselves.
const FILES: [(u8, &str, &[u8]); 5] = [
    (b'w', "model.safetensors", include_bytes!("../corpus/checkpoint/weights")),
    (b'c', "config.json", include_bytes!("../corpus/checkpoint/config")),
    (b't', "tokenizer.json", include_bytes!("../corpus/checkpoint/tokenizer")),
    (b's', "tokenizer_config.json", include_bytes!("../corpus/checkpoint/special")),
    (b'i', "model.safetensors.index.json", include_bytes!("../corpus/checkpoint/index")),
];

/// A good checkpoint of one file, and one of a shard with an index.
fn folders() -> &'static [PathBuf; 2] {
    static FOLDERS: OnceLock<[PathBuf; 2]> = OnceLock::new();
    FOLDERS.get_or_init(|| {
        ["whole", "sharded"].map(|kind| {
            let folder = std::env::temp_dir().join(format!("ouro-fuzz-{}-{kind}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            for (letter, name, seed) in FILES {
                match (kind, letter) {
                    ("whole", b'i') => continue,
                    ("sharded", b'w') => fs::write(folder.join("a.safetensors"), &seed[1..]).unwrap(),
                    _ => fs::write(folder.join(name), &seed[1..]).unwrap(),
                }
            }
            Checkpoint::open(&folder).unwrap();
            folder
        })
    })
}

/// Writes a file anew: some file systems wait for the disk when a file is cut and written again.
fn replace(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let Some((letter, name, good)) = FILES.iter().find(|(letter, ..)| letter == first) else { return };
    let folder = &folders()[usize::from(*letter == b'i')];
    replace(&folder.join(name), bytes);
    if let Err(error) = Checkpoint::open(folder) {
        assert!(!error.to_string().is_empty());
    }
    replace(&folder.join(name), &good[1..]);
});
