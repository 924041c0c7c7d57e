//! The report for people.

use super::metadata::TokenizerInfo;
use super::summary::{Group, Reads, Shape, Summary};
use crate::commands::pieces::{quoted, quoted_short};
use crate::report::counted;
use indicatif::{HumanBytes, HumanCount};
use serde_json::Value as Json;
use std::fmt::{self, Display, Formatter, Write as _};

/// Columns of a terminal that a line of metadata may take.
const WIDTH: usize = 100;
/// What the lines of the report begin with.
const LABEL: usize = 16;

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { file, bytes, gguf_version, .. } = self;
        write!(f, "{file}: GGUF version {gguf_version}, {}", HumanBytes(*bytes))?;
        match &self.name {
            Some(name) => writeln!(f, ", {}", quoted_short(name.as_bytes(), 60))?,
            None => writeln!(f)?,
        }
        self.model(f)?;
        self.streaming(f)?;
        self.text(f)?;
        groups(f, "role", &self.by_role)?;
        groups(f, "type", &self.by_type)?;
        self.metadata(f)?;
        self.tensors(f)?;
        self.check(f)
    }
}

impl Summary {
    fn model(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let architecture = self.architecture.as_deref().map_or("not named".to_owned(), printable);
        match &self.why_not {
            None => line(f, "architecture", format_args!("{architecture}, runs here"))?,
            Some(why) => {
                line(f, "architecture", &architecture)?;
                line(f, "", format_args!("does not run here: {why}"))?;
            }
        }
        if let Some(loops) = self.loops {
            line(f, "loops", format_args!("T = {loops}"))?;
        }
        match &self.gate {
            Some(gate) => {
                let number = |value: &Option<Json>| value.as_ref().map_or("missing".into(), Json::to_string);
                let (bias, threshold) = (number(&gate.bias), number(&gate.threshold));
                let weights = counted(gate.weights, "weight");
                line(f, "exit gate", format_args!("{weights}, bias {bias}, threshold {threshold}"))?;
            }
            None if self.loops.is_some_and(|loops| loops > 1) => {
                line(f, "exit gate", "none; `ouro quantize --gate-from` adds one")?;
            }
            None => line(f, "exit gate", "none")?,
        }
        self.defaults(f)?;
        if let Some(shape) = &self.shape {
            line(f, "shape", shape)?;
        }
        let tensors: usize = self.by_type.iter().map(|group| group.tensors).sum();
        let (parameters, bytes) = (HumanCount(self.parameters), HumanBytes(self.tensor_bytes));
        line(f, "parameters", format_args!("{parameters} in {}, {bytes}", counted(tensors, "tensor")))
    }

    /// What a run does unless told otherwise.
    fn defaults(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let value = |key: &str| {
            let (_, value) = self.metadata.iter().find(|(known, _)| known == key)?;
            Some(value.as_str().map_or_else(|| value.to_string(), printable))
        };
        let exit = |key: &str| value(&format!("ouro.exit.{key}")).unwrap_or_else(|| "missing".to_owned());
        match value("ouro.exit.policy").as_deref() {
            None => {}
            Some("fixed") => line(f, "exit policy", "fixed")?,
            Some(policy) => {
                let (threshold, target, agreement) = (exit("threshold"), exit("target"), exit("agreement"));
                let calibrated = format_args!("calibrated for {target}, agreement {agreement}");
                line(f, "exit policy", format_args!("{policy}={threshold}, {calibrated}"))?;
            }
        }
        match value("ouro.kv.sharing") {
            Some(sharing) => line(f, "KV cache", sharing),
            None => Ok(()),
        }
    }

    fn streaming(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(Reads { per_loop, per_token, .. }) = self.reads {
            let (per_loop, per_token) = (HumanBytes(per_loop), HumanBytes(per_token));
            let loops = self.loops.unwrap_or(1);
            line(f, "reads", format_args!("{per_loop} per loop, {per_token} per token at T = {loops}"))?;
        }
        let alignment = self.alignment;
        if self.stream_ready {
            return line(
                f,
                "streaming",
                format_args!("ready: in order of execution, contiguous, alignment {alignment}"),
            );
        }
        line(f, "streaming", "works, with more reads; `ouro quantize` writes files that are ready:")?;
        self.stream_problems.iter().try_for_each(|problem| line(f, "", printable(problem)))
    }

    fn text(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.tokenizer {
            Some(tokenizer) => tokenizer_lines(f, tokenizer)?,
            None => line(f, "tokenizer", "none")?,
        }
        match &self.chat_template {
            Some(template) => {
                let first = template.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
                line(f, "chat template", format_args!("{} bytes, begins", template.len()))?;
                line(f, "", quoted_short(first.as_bytes(), WIDTH - LABEL - 2))
            }
            None => line(f, "chat template", "none"),
        }
    }

    fn metadata(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let keys = || self.metadata.iter().map(|(key, _)| printable(key));
        let width = keys().map(|key| key.chars().count()).max().unwrap_or(0).min(WIDTH / 2);
        writeln!(f, "\nmetadata ({})", self.metadata.len())?;
        for (key, (_, value)) in keys().zip(&self.metadata) {
            writeln!(f, "  {key:width$}  {}", value_text(value, WIDTH - width - 4))?;
        }
        Ok(())
    }

    fn tensors(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.tensors.is_empty() {
            return Ok(());
        }
        let width = self.tensors.iter().map(|tensor| printable(&tensor.name).chars().count()).max();
        let width = width.unwrap_or(0).max("tensor".len());
        writeln!(
            f,
            "\n{:width$}  {:<7}  {:>17}  {:>14}  {:>14}",
            "tensor", "type", "shape", "offset", "bytes"
        )?;
        for tensor in &self.tensors {
            let shape: Vec<String> = tensor.shape.iter().map(u64::to_string).collect();
            let (name, shape) = (printable(&tensor.name), shape.join(" x "));
            let (kind, offset, bytes) = (tensor.type_name, tensor.offset, tensor.bytes);
            writeln!(f, "{name:width$}  {kind:<7}  {shape:>17}  {offset:>14}  {bytes:>14}")?;
        }
        Ok(())
    }

    fn check(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(check) = &self.check else { return Ok(()) };
        writeln!(f)?;
        if !check.not_decoded.is_empty() {
            let names = check.not_decoded.join(", ");
            line(f, "not decoded", format_args!("{}: types that are only read here", printable(&names)))?;
        }
        match &check.error {
            None => {
                line(f, "check", format_args!("passed: {} read, all values finite", HumanBytes(check.bytes)))
            }
            Some(_) => line(f, "check", "failed"),
        }
    }
}

impl Display for Shape {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { layers, hidden, ffn, heads, kv_heads, head_dim, vocabulary, context, .. } = self;
        let (layers, heads) = (counted(layers, "layer"), counted(heads, "head"));
        write!(f, "{layers}, hidden {hidden}, {heads} of {head_dim} ({kv_heads} for K/V), ")?;
        write!(f, "FFN {ffn}, vocabulary {vocabulary}, context {context}")
    }
}

fn tokenizer_lines(f: &mut Formatter<'_>, tokenizer: &TokenizerInfo) -> fmt::Result {
    let word = |text: &Option<String>| text.as_deref().map_or("not named".to_owned(), printable);
    let count = |count: Option<u64>| count.map_or("no".into(), |count| HumanCount(count).to_string());
    let (model, pre) = (word(&tokenizer.model), word(&tokenizer.pre));
    let tokens = counted(count(tokenizer.vocabulary), "token");
    let merges = counted(count(tokenizer.merges), "merge");
    line(f, "tokenizer", format_args!("{model}, pre {pre}, {tokens}, {merges}"))?;
    let mut ids = String::new();
    for special in &tokenizer.special {
        let comma = if ids.is_empty() { "" } else { ", " };
        write!(ids, "{comma}{} {}", printable(&special.name), special.id)?;
        if let Some(text) = &special.text {
            write!(ids, " {}", quoted_short(text.as_bytes(), 24))?;
        }
    }
    if !ids.is_empty() {
        line(f, "", ids)?;
    }
    match &tokenizer.why_not {
        Some(why) => line(f, "", format_args!("can't be used here: {why}")),
        None => Ok(()),
    }
}

fn line(f: &mut Formatter<'_>, label: &str, text: impl Display) -> fmt::Result {
    writeln!(f, "  {label:<LABEL$}{text}")
}

fn groups(f: &mut Formatter<'_>, title: &str, groups: &[Group]) -> fmt::Result {
    if groups.is_empty() {
        return Ok(());
    }
    let total: u64 = groups.iter().map(|group| group.bytes).sum();
    writeln!(
        f,
        "\n  {title:<LABEL$}{:>7}  {:>16}  {:>16}  {:>6}",
        "tensors", "parameters", "bytes", "share"
    )?;
    for Group { name, tensors, parameters, bytes, integer_kernels } in groups {
        let (parameters, count) = (HumanCount(*parameters).to_string(), HumanCount(*bytes).to_string());
        let kernels = match integer_kernels {
            Some(true) => "  integer kernels",
            Some(false) => "  f32",
            None => "",
        };
        let share = 100.0 * *bytes as f64 / total.max(1) as f64;
        writeln!(f, "  {name:<LABEL$}{tensors:>7}  {parameters:>16}  {count:>16}  {share:>5.1}%{kernels}")?;
    }
    Ok(())
}

/// A value on one line.
fn value_text(value: &Json, width: usize) -> String {
    let text = match value {
        Json::String(text) => return quoted_short(text.as_bytes(), width),
        Json::Object(array) => {
            let elements = array.get("elements").and_then(Json::as_str).unwrap_or_default();
            let count = array.get("count").and_then(Json::as_u64).unwrap_or_default();
            let first = array.get("first").and_then(Json::as_array).cloned().unwrap_or_default();
            let first: Vec<String> = first.iter().map(|value| value_text(value, width)).collect();
            format!("{} of {elements}: {}, …", HumanCount(count), first.join(", "))
        }
        Json::Array(values) => {
            let values: Vec<String> = values.iter().map(|value| value_text(value, width)).collect();
            values.join(", ")
        }
        other => other.to_string(),
    };
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Text of the file without quotes, but with nothing in it that could move a terminal's cursor.
fn printable(text: impl AsRef<str>) -> String {
    let quoted = quoted(text.as_ref().as_bytes());
    quoted[1..quoted.len() - 1].to_owned()
}
