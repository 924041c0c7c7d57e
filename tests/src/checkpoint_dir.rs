//! Checkpoint folders for tests: copies of the golden ones, changed as a test wants.

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A tensor as safetensors has it: rows first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct RawTensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

impl RawTensor {
    /// The same numbers, rounded to another float type.
    #[must_use]
    pub fn to(&self, dtype: Dtype) -> Self {
        let values = self.values();
        let data = match dtype {
            Dtype::F16 => values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect(),
            Dtype::BF16 => {
                values.iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect()
            }
            Dtype::F64 => values.iter().flat_map(|value| f64::from(*value).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        Self { dtype, shape: self.shape.clone(), data }
    }

    /// The numbers.
    #[must_use]
    pub fn values(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::F16 => {
                self.data.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()
            }
            Dtype::BF16 => {
                self.data.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()
            }
            _ => self.data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        }
    }
}

/// All tensors of a checkpoint by name.
pub type Tensors = BTreeMap<String, RawTensor>;

/// A checkpoint in a folder of its own, gone after the test.
#[derive(Debug)]
pub struct CheckpointDir {
    dir: TempDir,
}

impl CheckpointDir {
    /// A copy of a golden checkpoint: `mha`, `wide` or `lively`.
    #[must_use]
    pub fn golden(name: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let source = crate::harness::golden(name);
        for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
            fs::copy(source.join(file), dir.path().join(file)).unwrap();
        }
        let folder = Self { dir };
        // Else the model would be called after the temporary folder.
        folder.edit_json("config.json", |config| config["_name_or_path"] = name.into());
        folder
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A file in the folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Changes a JSON file.
    pub fn edit_json(&self, file: &str, edit: impl FnOnce(&mut Value)) {
        let path = self.file(file);
        let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut value);
        fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
    }

    /// The tensors of `model.safetensors`.
    #[must_use]
    pub fn tensors(&self) -> Tensors {
        let bytes = fs::read(self.file("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let raw = |view: TensorView<'_>| RawTensor {
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            data: view.data().to_vec(),
        };
        file.tensors().into_iter().map(|(name, view)| (name, raw(view))).collect()
    }

    /// Changes the tensors of `model.safetensors`.
    pub fn edit_tensors(&self, edit: impl FnOnce(&mut Tensors)) {
        let mut tensors = self.tensors();
        edit(&mut tensors);
        write_safetensors(&self.file("model.safetensors"), &tensors);
    }

    /// Rounds all tensors to another float type.
    pub fn convert_tensors(&self, dtype: Dtype) {
        self.edit_tensors(|tensors| tensors.values_mut().for_each(|tensor| *tensor = tensor.to(dtype)));
    }

    /// Deals the tensors out to `count` files with an index.
    pub fn shard(&self, count: usize) {
        let tensors = self.tensors();
        let mut shards = vec![Tensors::new(); count];
        let mut weight_map = serde_json::Map::new();
        for (i, (name, tensor)) in tensors.into_iter().enumerate() {
            let shard = i % count;
            weight_map.insert(name.clone(), shard_name(shard, count).into());
            shards[shard].insert(name, tensor);
        }
        for (i, shard) in shards.iter().enumerate() {
            write_safetensors(&self.file(&shard_name(i, count)), shard);
        }
        let index = json!({"metadata": {"total_size": 0}, "weight_map": weight_map});
        fs::write(self.file("model.safetensors.index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
        fs::remove_file(self.file("model.safetensors")).unwrap();
    }
}

/// `model-00001-of-00003.safetensors` for shard 0 of 3.
#[must_use]
pub fn shard_name(shard: usize, count: usize) -> String {
    format!("model-{:05}-of-{count:05}.safetensors", shard + 1)
}

/// Writes a safetensors file.
pub fn write_safetensors(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, tensor)| {
        (name, TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.data).unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}
