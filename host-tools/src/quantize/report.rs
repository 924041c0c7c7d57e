//! What a conversion tells the user: progress on the way, a table at the end.

use super::{
    recipe::{Choice, layer_of},
    source::Source,
};
use crate::gguf_writer::TensorInfo;
use crate::report::counted;
use serde_json::{Value, json};
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// What was written.
#[derive(Debug)]
pub(crate) struct Report {
    out: PathBuf,
    source: Source,
    choices: Vec<Choice>,
    infos: Vec<TensorInfo>,
    /// Length of the file.
    bytes: u64,
}

impl Report {
    pub(crate) fn new(
        out: &Path,
        source: Source,
        choices: Vec<Choice>,
        infos: Vec<TensorInfo>,
        bytes: u64,
    ) -> Self {
        Self { out: out.to_owned(), source, choices, infos, bytes }
    }

    pub(crate) fn to_json(&self) -> Value {
        let tensors = self.source.tensors.iter().zip(&self.infos).zip(&self.choices);
        let tensors: Vec<Value> = tensors
            .map(|((from, to), choice)| {
                json!({
                    "name": to.name,
                    "shape": to.dims,
                    "from": from.format.name(),
                    "to": to.format.name(),
                    "instead_of": choice.instead_of.map(ouro_quant::Format::name),
                    "bytes": to.len,
                })
            })
            .collect();
        json!({
            "out": self.out.display().to_string(),
            "bytes": self.bytes,
            "architecture": self.source.architecture.name(),
            "exit_gate": self.has_gate(),
            "tensors": tensors,
        })
    }

    fn has_gate(&self) -> bool {
        self.source.metadata.get("ouro.exit_gate.weight").is_some()
    }

    /// Tensors of the same role and fate, together.
    fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for ((from, to), choice) in self.source.tensors.iter().zip(&self.infos).zip(&self.choices) {
            let role = role(&to.name);
            let fate = (from.format, to.format, choice.instead_of);
            match lines.iter_mut().find(|line| line.role == role && line.fate == fate) {
                Some(line) => {
                    line.count += 1;
                    line.bytes += to.len;
                }
                None => lines.push(Line { role: role.to_owned(), fate, count: 1, bytes: to.len }),
            }
        }
        lines
    }
}

struct Line {
    role: String,
    fate: (ouro_quant::Format, ouro_quant::Format, Option<ouro_quant::Format>),
    count: u32,
    bytes: u64,
}

/// What a tensor is: `attn_q` of `blk.3.attn_q.weight`.
pub(crate) fn role(name: &str) -> &str {
    let name = if layer_of(name).is_some() { name.splitn(3, '.').nth(2).unwrap_or(name) } else { name };
    name.strip_suffix(".weight").unwrap_or(name)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} from {}", self.out.display(), self.source.architecture, self.source.about)?;
        writeln!(f, "{:>5}  {:<20} {:<5}    {:<5} {:>14}", "count", "tensor", "from", "to", "bytes")?;
        for Line { role, fate: (from, to, instead_of), count, bytes } in self.lines() {
            let (from, to) = (from.name(), to.name());
            write!(f, "{count:>5}  {role:<20} {from:<5} -> {to:<5} {bytes:>14}")?;
            match instead_of {
                Some(wish) => {
                    writeln!(f, "  (rows are no multiple of {wish}'s block of {})", wish.block_len())?;
                }
                None => writeln!(f)?,
            }
        }
        let gate = match self.has_gate() {
            true => ", exit gate in metadata",
            false if self.source.architecture == crate::checkpoint::Architecture::Ouro => ", no exit gate",
            false => "",
        };
        writeln!(f, "{}, {} bytes{gate}", counted(self.infos.len(), "tensor"), self.bytes)
    }
}
