//! A board's run as a row of the table in README.md.

use crate::boards::Board;
use crate::build::Sizes;
use crate::report::Report;
use anyhow::{Context, Result};

/// What the columns are: sizes in KiB, instructions in millions.
pub const HEADER: &str = "\
| board | arenas, KiB | of it K, V | block buffer | stack | RAM in all | code, KiB | model, KiB \
| prompt token, M instr. | token, M | all loops, M | clock of | token, time | all loops, time |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|--:|--:|";

/// A board's row, of a run with exits and one with all loops.
///
/// # Errors
/// If a report lacks something, or the board has no clock.
pub fn row(board: &Board, exits: &Report<'_>, all_loops: &Report<'_>, sizes: Sizes) -> Result<String> {
    let n = |name| exits.number(name);
    let arenas = n("model arena bytes")? + n("session arena bytes")?;
    let (buffer, stack) = (n("block buffer bytes")?, n("stack bytes")?);
    let clock = board.clock.with_context(|| format!("{} has no clock", board.name))?;
    let (token, deep_token) = (exits.decode_per_token()?, all_loops.decode_per_token()?);
    // One instruction per cycle: 1000 times so many MHz per millisecond.
    let time = |instructions: f64| format!("{:.1} ms", instructions / (1e3 * f64::from(clock.mhz)));
    let cells = [
        format!("`{}`, {}", board.name, board.about),
        kib(arenas),
        kib(n("of it kv bytes")?),
        kib(buffer),
        kib(stack),
        kib(arenas + buffer + stack + sizes.data + sizes.bss),
        kib(sizes.code + sizes.data),
        kib(sizes.model),
        millions(exits.prefill_per_token()?),
        millions(token),
        millions(deep_token),
        clock.to_string(),
        time(token),
        time(deep_token),
    ];
    Ok(format!("| {} |", cells.join(" | ")))
}

fn kib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1024.0)
}

fn millions(instructions: f64) -> String {
    format!("{:.2}", instructions / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards::find;

    #[test]
    fn a_row_by_hand() {
        let report = |instructions: u64| {
            format!(
                "prompt ids: 1,2,3,4\nids: 5,6,7\nprefill instructions: 8000000\n\
                 decode instructions: {instructions}\nmodel arena bytes: 1024\nsession arena bytes: 3072\n\
                 of it kv bytes: 512\nblock buffer bytes: 256\nstack bytes: 2048"
            )
        };
        let sizes = Sizes { code: 10_240, model: 20_480, data: 0, bss: 256 };
        let board = find("mps2-an386").unwrap();
        let row = row(board, &Report(&report(3_600_000)), &Report(&report(7_200_000)), sizes).unwrap();
        // Two tokens after the first; 180 instructions are a microsecond.
        let expected = "| `mps2-an386`, Cortex-M4F | 4.0 | 0.5 | 0.2 | 2.0 | 6.5 | 10.0 | 20.0 \
                        | 2.00 | 1.80 | 3.60 | STM32F469, 180 MHz | 10.0 ms | 20.0 ms |";
        assert_eq!(row, expected);
        let columns = |line: &str| line.matches('|').count();
        assert!(HEADER.lines().all(|line| columns(line) == columns(&row)));
    }
}
