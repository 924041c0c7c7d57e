//! What would help most: single changes, each planned anew.

use super::{Ask, Machine, Outline, Plan, with_context};
use crate::error::Error;
use crate::open::{Memories, Opened};
use crate::quantize::FileType;
use crate::ram::{Demand, PinChoice, Place};
use crate::report::human_bytes;
use ouro_runtime::kv::{KvSettings, KvSharing, KvType};
use ouro_runtime::session::Settings;
use std::path::Path;

/// A change and what it does.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// As an option, or in words.
    pub(super) what: String,
    /// What it costs besides.
    pub(super) but: &'static str,
    /// Tokens per second with it, if speed is known and it fits.
    pub(super) speed: Option<f64>,
    /// Bytes fetched per token with it, if it fits.
    pub(super) bytes: Option<u64>,
    /// The least memory that it needs.
    pub(super) least: usize,
}

/// Types by size; the next smaller one of a model's is tried.
const TYPES: [(&str, FileType); 5] = [
    ("q8_0", FileType::Q8_0),
    ("q6_k", FileType::Q6K),
    ("q5_k_m", FileType::Q5KM),
    ("q4_k_m", FileType::Q4KM),
    ("q4_0", FileType::Q4_0),
];

/// Plans the same with single changes. `outline` gives the model in another type.
pub(super) fn changes(
    demand: &Demand<'_>,
    ask: &Ask,
    outline: &dyn Fn(FileType) -> Result<Outline, Error>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut add = |what: String, but, demand: Demand<'_>, ask: Ask| {
        changes.extend(planned(what, but, demand, ask));
    };
    let settings = demand.settings;
    let with = |settings: Settings| Demand { settings, ..*demand };
    let kv = |kv: KvSettings| with(Settings { kv, ..settings });
    let smaller = match settings.kv.element {
        KvType::F32 => Some((KvType::F16, "f16")),
        KvType::F16 => Some((KvType::Int8, "int8")),
        KvType::Int8 => Some((KvType::Int4, "int4")),
        KvType::Int4 => None,
    };
    if let Some((element, name)) = smaller {
        let but = "a little less exact";
        add(format!("--kv-type {name}"), but, kv(KvSettings { element, ..settings.kv }), ask.clone());
    }
    if settings.kv.sharing == KvSharing::PerLoop && settings.max_loops > 1 {
        let last = KvSettings { sharing: KvSharing::Last, ..settings.kv };
        add("--kv last".to_owned(), "less exact beyond the window", kv(last), ask.clone());
    }
    if settings.context / 2 >= ask.prompt.max(16) {
        let context = settings.context / 2;
        let what = format!("--ctx {context}");
        add(what, "forgets or ends earlier", with_context(demand, context), ask.clone());
    }
    if settings.rows >= 32 {
        let rows = settings.rows / 2;
        let shares = settings.kv.sharing != KvSharing::PerLoop && settings.max_loops > 1;
        let but = if shares {
            "longer prompts take longer, and are read less exactly"
        } else {
            "longer prompts take longer"
        };
        add(format!("--prompt-part {rows}"), but, with(Settings { rows, ..settings }), ask.clone());
    }
    if settings.max_loops > 1 && ask.mean_depth.is_none() {
        let max_loops = settings.max_loops - 1;
        let window = settings.kv.window.min(demand.model.config().kv_window(max_loops));
        let fewer = Settings {
            max_loops,
            min_loops: settings.min_loops.min(max_loops),
            kv: KvSettings { window, ..settings.kv },
            ..settings
        };
        add(format!("--loops {max_loops}"), "answers get worse", with(fewer), ask.clone());
    }
    if let (Place::File, Some(ram), None) = (ask.place, ask.ram, demand.board) {
        let more = enough_for_all(demand, ask).unwrap_or(usize::MAX).min(2 * ram);
        if more > ram {
            let what = format!("--ram {}M", more.div_ceil(1 << 20));
            add(what, "", *demand, Ask { ram: Some(more), ..ask.clone() });
        }
    }
    if let Some(machine) = ask.machine {
        let flash = machine.flash.map(|flash| 2.0 * flash);
        let twice = |machine: Machine| Ask { machine: Some(machine), ..ask.clone() };
        if ask.place != Place::Memory {
            add("flash or disk twice as fast".to_owned(), "", *demand, twice(Machine { flash, ..machine }));
        }
        let macs = 2.0 * machine.macs;
        add("twice the products per second".to_owned(), "", *demand, twice(Machine { macs, ..machine }));
    }
    changes.extend(smaller_type(demand, ask, outline));
    changes
}

fn planned(what: String, but: &'static str, demand: Demand<'_>, ask: Ask) -> Option<Change> {
    let least = demand.least(ask.place, ask.buffer, &PinChoice::Auto).ok()?;
    let plan = Plan::new(demand, Ask { pin: PinChoice::Auto, ..ask }).ok();
    let depth = demand.settings.max_loops;
    Some(Change {
        what,
        but,
        speed: plan.as_ref().and_then(|plan| Some(plan.speed(plan.ask.machine.as_ref()?))),
        bytes: plan.as_ref().map(|plan| plan.token_bytes(depth)),
        least,
    })
}

/// Memory with which nothing is fetched any more.
fn enough_for_all(demand: &Demand<'_>, ask: &Ask) -> Option<usize> {
    let all = |ram: usize| {
        let ask = Ask { ram: Some(ram), pin: PinChoice::Auto, ..ask.clone() };
        Plan::new(*demand, ask).is_ok_and(|plan| plan.fetches.pass + plan.fetches.head == 0)
    };
    let least = demand.least(ask.place, ask.buffer, &PinChoice::Auto).ok()?;
    let (mut few, mut enough) =
        (least, least.checked_add(usize::try_from(demand.file).ok()?)?.checked_mul(2)?);
    while enough - few > 1 << 20 {
        let middle = few + (enough - few) / 2;
        if all(middle) { enough = middle } else { few = middle }
    }
    Some(enough)
}

/// The same model in the next smaller type.
fn smaller_type(
    demand: &Demand<'_>,
    ask: &Ask,
    outline: &dyn Fn(FileType) -> Result<Outline, Error>,
) -> Option<Change> {
    TYPES.iter().find_map(|&(name, file_type)| {
        let mut store = outline(file_type).ok()?.store().ok()?;
        let mut memories = Memories::default();
        let opened = Opened::open(Path::new(name), &mut store, &mut memories).ok()?;
        let other = Demand {
            has_sums: demand.has_sums,
            program: demand.program,
            ..Demand::of(&store, &opened, &demand.settings)
        };
        let is_smaller = other.file < demand.file - demand.file / 20;
        let what = format!("--type {name} ({})", human_bytes(other.file));
        is_smaller.then(|| planned(what, "answers may get worse", other, ask.clone()))?
    })
}
