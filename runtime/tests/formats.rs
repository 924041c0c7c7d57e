//! Weights in a format, and K and V in a type, that the build leaves out. With all features there is none, so `.ci/run`
//! runs this once more with `--no-default-features --features q8_0`, and with
//! `OURO_BACKEND=avx2`: for one back end.

use ouro_quant::Format;
use ouro_runtime::arena::Arena;
use ouro_runtime::gguf::Gguf;
use ouro_runtime::kernels::Backend;
use ouro_runtime::kv::KvType;
use ouro_runtime::model::{Model, ModelError};
use ouro_runtime::session::{Session, SessionError, Settings};
use ouro_runtime::store::SliceStore;

#[test]
fn a_format_that_is_not_built_is_an_error_that_names_the_feature() {
    for (name, format, feature) in [
        ("ouro-pico-Q4_0.gguf", Format::Q4_0, "feature = \"q4_0\""),
        ("ouro-pico-Q8_0.gguf", Format::Q8_0, "feature = \"q8_0\""),
    ] {
        let file = std::fs::read(format!("../models/ouro-pico/{name}")).unwrap();
        let mut memory = vec![0; 200_000];
        let (mut store, mut arena) = (SliceStore::new(&file), Arena::new(&mut memory));
        let gguf = Gguf::open(&mut store, &mut arena).unwrap();
        let model = Model::open(&mut store, &gguf, &mut arena);
        if format.is_built() {
            model.unwrap();
            continue;
        }
        let error = model.unwrap_err();
        assert!(matches!(error, ModelError::NotBuilt { format: found, .. } if found == format), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(format.name()) && text.contains(feature), "{text}");
    }
}

#[test]
fn a_build_for_one_back_end_has_no_other() {
    let Some(only) = option_env!("OURO_BACKEND") else { return };
    let names: Vec<&str> = Backend::available().map(Backend::name).collect();
    assert!(names.starts_with(&["reference", "scalar"]), "{names:?}");
    assert!(names.iter().skip(2).all(|name| *name == only), "{names:?}");
    #[cfg(target_arch = "x86_64")]
    if only == "avx2" && std::arch::is_x86_feature_detected!("avx2") {
        assert_eq!(names.len(), 3);
    }
}

#[test]
fn all_formats_are_built_by_default() {
    let missing = Format::ALL.iter().find(|format| !format.is_built());
    assert_eq!(missing, if cfg!(feature = "k") { None } else { Some(&Format::Q4_0) });
}

#[test]
fn a_kv_type_that_is_not_built_is_an_error_that_names_the_features() {
    let file = std::fs::read("../models/ouro-pico/ouro-pico-Q8_0.gguf").unwrap();
    let mut memory = vec![0; 200_000];
    let (mut store, mut arena) = (SliceStore::new(&file), Arena::new(&mut memory));
    let gguf = Gguf::open(&mut store, &mut arena).unwrap();
    let model = Model::open(&mut store, &gguf, &mut arena).unwrap();
    for element in [KvType::F32, KvType::F16, KvType::Int8, KvType::Int4] {
        let mut settings = Settings::new(&model, 8, 4);
        settings.kv.element = element;
        let bytes = Session::arena_bytes(&model, &settings);
        assert_eq!(bytes.is_ok(), element.is_built(), "{element:?}");
        if let Err(error) = bytes {
            assert!(matches!(error, SessionError::Setting { .. }), "{error:?}");
            assert!(error.to_string().contains("kv-int8"), "{error}");
        }
    }
}
