//! What must hold of any file in a checkpoint folder. The fuzz target has this file too, so it uses
//! nothing but `ouro`.

use ouro::checkpoint::Checkpoint;
use std::fs;
use std::path::{Path, PathBuf};

/// Letter, file and good contents, a letter and the bytes themselves.
const FILES: [(u8, &str, &[u8]); 5] = [
    (b'w', "model.safetensors", include_bytes!("../fuzz/corpus/checkpoint/weights")),
    (b'c', "config.json", include_bytes!("../fuzz/corpus/checkpoint/config")),
    (b't', "tokenizer.json", include_bytes!("../fuzz/corpus/checkpoint/tokenizer")),
    (b's', "tokenizer_config.json", include_bytes!("../fuzz/corpus/checkpoint/special")),
    (b'i', "model.safetensors.index.json", include_bytes!("../fuzz/corpus/checkpoint/index")),
];

/// A good checkpoint of one file, and one of a shard with an index.
#[derive(Debug)]
pub struct Checkpoints {
    whole: PathBuf,
    sharded: PathBuf,
}

impl Checkpoints {
    /// Writes both into `parent`.
    ///
    /// # Panics
    /// If that fails, or they can't be opened.
    #[must_use]
    pub fn new(parent: &Path) -> Self {
        let [whole, sharded] = ["whole", "sharded"].map(|kind| parent.join(kind));
        for folder in [&whole, &sharded] {
            fs::create_dir_all(folder).unwrap();
            for (letter, name, seed) in FILES {
                match (*folder == whole, letter) {
                    (true, b'i') => continue,
                    (false, b'w') => fs::write(folder.join("a.safetensors"), &seed[1..]).unwrap(),
                    _ => fs::write(folder.join(name), &seed[1..]).unwrap(),
                }
            }
            Checkpoint::open(folder).unwrap();
        }
        Self { whole, sharded }
    }

    /// Opens a checkpoint with one file replaced: the first byte of `input` says which, the others are
    /// its bytes. Gives whether that could be opened.
    ///
    /// # Panics
    /// If an error does not say what was expected.
    pub fn check(&self, input: &[u8]) -> bool {
        let Some((first, bytes)) = input.split_first() else { return false };
        let Some((letter, name, good)) = FILES.iter().find(|(letter, ..)| letter == first) else {
            return false;
        };
        let folder = if *letter == b'i' { &self.sharded } else { &self.whole };
        replace(&folder.join(name), bytes);
        let result = Checkpoint::open(folder);
        replace(&folder.join(name), &good[1..]);
        result.inspect_err(|error| assert!(error.to_string().contains("expected"), "{error}")).is_ok()
    }
}

/// Writes a file anew: some file systems wait for the disk when a file is cut and written again.
fn replace(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}
