//! What a session is made with.

use super::SessionError;
use crate::kv::{KvSettings, KvSharing, KvType};
use crate::model::Model;

/// The largest D: depths are kept in a byte each.
pub const MAX_LOOPS: usize = 255;

/// Everything that decides a session's memory and depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Settings {
    /// Positions in all, prompts and answers together.
    pub context: usize,
    /// Positions in flight at most: the longest prompt.
    pub rows: usize,
    /// D, the largest depth; may exceed the trained T.
    pub max_loops: usize,
    /// No policy is asked before this depth.
    pub min_loops: usize,
    /// The KV cache.
    pub kv: KvSettings,
}

impl Settings {
    /// Depth and KV cache as most users want them: D = T; K/V shared as the file asks, else the last
    /// loop's, within [its window](crate::model::Config::kv_window).
    #[must_use]
    pub fn new(model: &Model<'_>, context: usize, rows: usize) -> Self {
        let max_loops = model.config().loops;
        let window = model.config().kv_window(max_loops);
        let sharing = model.kv_sharing_default().unwrap_or(KvSharing::Last);
        let kv = KvSettings { sharing, element: KvType::F16, window };
        Self { context, rows, max_loops, min_loops: 1, kv }
    }

    pub(super) fn check(&self) -> Result<(), SessionError> {
        let bad = |setting, expected| Err(SessionError::Setting { setting, expected });
        if !(1..=MAX_LOOPS).contains(&self.max_loops) {
            return bad("loops", "1 to 255");
        }
        if !(1..=self.max_loops).contains(&self.min_loops) {
            return bad("minimum loops", "1 up to the largest number of loops");
        }
        if self.context == 0 || self.rows == 0 || self.rows > self.context {
            return bad("context", "at least 1 position, and as many as the longest prompt");
        }
        if !self.kv.element.is_built() {
            return bad(
                "K/V element type",
                "one of this build: f16, and the features kv-f32, kv-int8, kv-int4",
            );
        }
        Ok(())
    }
}
