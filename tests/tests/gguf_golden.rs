//! Every golden GGUF file, read by our reader and by `gguf-rs-lib`: the same keys, values,
//! tensors and places.

use gguf_rs_lib::format::MetadataValue;
use gguf_rs_lib::reader::open_gguf_file;
use ouro_runtime::store::{MIN_TILE, SliceStore, Store};
use ouro_tests::{Content, Contents, PagedStore, read_contents};
use std::fs;
use std::path::{Path, PathBuf};

fn golden_files() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let folders = ["lively", "mha", "wide"].map(|folder| fs::read_dir(golden.join(folder)).unwrap());
    let files = folders.into_iter().flatten().map(|file| file.unwrap().path());
    let files: Vec<_> = files.filter(|file| file.extension().is_some_and(|end| end == "gguf")).collect();
    assert!(files.len() >= 9, "{files:?}");
    files
}

fn content(value: &MetadataValue) -> Content {
    match value {
        MetadataValue::U8(value) => Content::Number("u8", (*value).into()),
        MetadataValue::I8(value) => Content::Number("i8", *value as u64),
        MetadataValue::U16(value) => Content::Number("u16", (*value).into()),
        MetadataValue::I16(value) => Content::Number("i16", *value as u64),
        MetadataValue::U32(value) => Content::Number("u32", (*value).into()),
        MetadataValue::I32(value) => Content::Number("i32", *value as u64),
        MetadataValue::F32(value) => Content::Number("f32", value.to_bits().into()),
        MetadataValue::Bool(value) => Content::Number("bool", (*value).into()),
        MetadataValue::U64(value) => Content::Number("u64", *value),
        MetadataValue::I64(value) => Content::Number("i64", *value as u64),
        MetadataValue::F64(value) => Content::Number("f64", value.to_bits()),
        MetadataValue::String(value) => Content::String(value.clone().into_bytes()),
        MetadataValue::Array(array) => {
            let element = format!("{:?}", array.element_type).to_lowercase();
            Content::Array(leak(element), array.values.iter().map(content).collect())
        }
    }
}

fn leak(name: String) -> &'static str {
    Box::leak(name.into_boxed_str())
}

fn same_as_other_reader(path: &Path, ours: &Contents) {
    let theirs = open_gguf_file(path).unwrap();
    assert_eq!(ours.version, theirs.header().version, "{path:?}");
    assert_eq!(ours.entries.len(), theirs.metadata().len(), "{path:?}");
    for (key, value) in &ours.entries {
        let key = str::from_utf8(key).unwrap();
        let other = theirs.metadata().get(key).unwrap_or_else(|| panic!("{path:?}: {key}"));
        assert_eq!(*value, content(other), "{path:?}: {key}");
    }
    assert_eq!(ours.data_offset, theirs.tensor_data_offset(), "{path:?}");
    assert_eq!(ours.alignment, theirs.tensor_alignment() as u64, "{path:?}");
    assert_eq!(ours.tensors.len(), theirs.tensor_infos().len(), "{path:?}");
    for ((name, tensor), other) in ours.tensors.iter().zip(theirs.tensor_infos()) {
        let name = str::from_utf8(name).unwrap();
        assert_eq!(name, other.name(), "{path:?}");
        assert_eq!(tensor.dims[..tensor.n_dims as usize], other.shape().dimensions, "{path:?}: {name}");
        assert_eq!(tensor.type_id, other.tensor_type() as u32, "{path:?}: {name}");
        assert_eq!(tensor.offset, theirs.tensor_data_offset() + other.data_offset(), "{path:?}: {name}");
        assert_eq!(tensor.len, other.expected_data_size(), "{path:?}: {name}");
    }
}

#[test]
fn golden_files_read_as_another_reader_reads_them() {
    for path in golden_files() {
        let file = fs::read(&path).unwrap();
        let mut slice = SliceStore::new(&file[..]);
        let ours = read_contents(&mut slice).unwrap();
        same_as_other_reader(&path, &ours);
        for page in [MIN_TILE, 1000, 65_536] {
            let mut store = PagedStore::new(&file, page);
            assert_eq!(read_contents(&mut store).unwrap(), ours, "{path:?} by pages of {page}");
            println!("{path:?} by pages of {page}: {:?}", store.counters());
        }
    }
}

#[test]
fn smollm2_reads_as_another_reader_reads_it() {
    let Some(path) = ouro_tests::smollm2() else { return };
    let file = fs::read(&path).unwrap();
    let ours = read_contents(&mut SliceStore::new(&file[..])).unwrap();
    same_as_other_reader(&path, &ours);
    assert_eq!(read_contents(&mut PagedStore::new(&file, MIN_TILE)).unwrap(), ours);
}
