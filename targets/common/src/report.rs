//! What a run says of itself: a line `name: value` for each fact.

use crate::STACK_BYTES;
use crate::answer::{Finished, Work};
use core::fmt;

/// The report of a run.
pub(crate) struct Report {
    pub(crate) board: &'static str,
    pub(crate) finished: Finished,
    /// Bytes of the block buffer.
    pub(crate) block_buffer: usize,
    /// The most bytes of stack in use.
    pub(crate) stack: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { board, finished, block_buffer, stack } = self;
        let answer = &finished.answer;
        writeln!(f, "board: {board}")?;
        writeln!(f, "backend: {}", finished.backend)?;
        match finished.refused {
            Some(mismatch) => writeln!(f, "refused: {mismatch}")?,
            None => writeln!(f, "refused: nothing")?,
        }
        writeln!(f, "prompt ids: {}", List(finished.prompt.iter()))?;
        write!(f, "answer: ")?;
        for character in answer.text.chars() {
            match character {
                '\n' => f.write_str("\\n")?,
                '\\' => f.write_str("\\\\")?,
                _ => write!(f, "{character}")?,
            }
        }
        writeln!(f)?;
        let tokens = answer.tokens.iter();
        writeln!(f, "ids: {}", List(tokens.clone().map(|(id, _)| id)))?;
        writeln!(f, "depths: {}", List(tokens.clone().map(|(_, depth)| depth.loops)))?;
        writeln!(f, "reasons: {}", List(tokens.map(|(_, depth)| depth.reason)))?;
        write!(f, "hash: ")?;
        for byte in finished.sha256 {
            write!(f, "{byte:02x}")?;
        }
        writeln!(f)?;
        let Work { instructions, products } = answer.prefill;
        writeln!(f, "prefill instructions: {instructions}")?;
        writeln!(f, "prefill products: {products}")?;
        let Work { instructions, products } = answer.decode;
        writeln!(f, "decode instructions: {instructions}")?;
        writeln!(f, "decode products: {products}")?;
        writeln!(f, "worst token instructions: {}", answer.worst_token)?;
        writeln!(f, "tiles fetched: {}", answer.fetched.tiles)?;
        writeln!(f, "bytes fetched: {}", answer.fetched.bytes)?;
        let ram = finished.ram;
        writeln!(f, "model arena bytes: {}", ram.model)?;
        writeln!(f, "session arena bytes: {}", ram.session)?;
        writeln!(f, "of it kv bytes: {}", ram.kv)?;
        writeln!(f, "block buffer bytes: {block_buffer}")?;
        writeln!(f, "stack bytes: {stack}")?;
        write!(f, "stack size: {STACK_BYTES}")
    }
}

/// Values separated by commas.
struct List<I>(I);

impl<I: Iterator<Item: fmt::Display> + Clone> fmt::Display for List<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, item) in self.0.clone().enumerate() {
            if number > 0 {
                f.write_str(",")?;
            }
            item.fmt(f)?;
        }
        Ok(())
    }
}
