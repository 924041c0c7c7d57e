//! What a file asks for, as `ouro calibrate` writes it: the exit policy in
//! `ouro.exit.{policy, threshold}`, and in `ouro.kv.sharing` how K and V are shared. Beside them it
//! writes, for people and for `ouro plan`, what it held the policy to and what came of it:
//! `ouro.exit.target` (a string such as `depth=2.5`), `ouro.exit.agreement` (f32, the share of tokens
//! that are those of the full depth) and `ouro.exit.mean_depth` (f32, loops of a generated token).

use super::ModelError;
use crate::depth::{
    ExitPolicy, FixedDepth, LoopState, Margin, Needs, QExit, Reason, StepDifference, TopProbability,
};
use crate::gguf::{Gguf, Name};
use crate::kv::KvSharing;
use crate::store::{Span, Store};

const POLICY: &str = "ouro.exit.policy";
const THRESHOLD: &str = "ouro.exit.threshold";
const KV_SHARING: &str = "ouro.kv.sharing";

/// The policies that a file can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ExitKind {
    /// See [`FixedDepth`].
    Fixed,
    /// See [`QExit`].
    Q,
    /// See [`TopProbability`].
    Confidence,
    /// See [`Margin`].
    Margin,
    /// See [`StepDifference`].
    Step,
}

impl ExitKind {
    /// Every kind, in the order in which errors list them.
    pub const ALL: [ExitKind; 5] = [Self::Fixed, Self::Q, Self::Confidence, Self::Margin, Self::Step];

    /// The name in files and on command lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Q => "q",
            Self::Confidence => "confidence",
            Self::Margin => "margin",
            Self::Step => "step",
        }
    }
}

/// The policy that a file asks for; it is one itself.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ExitDefault {
    /// Which policy.
    pub kind: ExitKind,
    /// Its threshold, 0..=1; without a meaning for [`ExitKind::Fixed`].
    pub threshold: f32,
}

impl ExitDefault {
    /// Reads the two keys; `None` if the file names no policy.
    pub(super) fn read<S: Store>(
        store: &mut S,
        gguf: &Gguf<'_>,
        has_gate: bool,
    ) -> Result<Option<Self>, ModelError> {
        let Some(name) = gguf.string(store, POLICY)? else { return Ok(None) };
        let found = load_name(store, name)?;
        let kind = ExitKind::ALL.into_iter().find(|kind| kind.name().as_bytes() == found);
        let kind = kind.ok_or(ModelError::UnknownExitPolicy { found: Name::new(found) })?;
        if kind == ExitKind::Fixed {
            return Ok(Some(Self { kind, threshold: 1.0 }));
        }
        if kind == ExitKind::Q && !has_gate {
            return Err(ModelError::ExitNeedsGate);
        }
        let threshold = gguf.f32(store, THRESHOLD)?.ok_or_else(|| ModelError::missing(THRESHOLD))?;
        if !(0.0..=1.0).contains(&threshold) {
            return Err(ModelError::Threshold { key: THRESHOLD, found: threshold });
        }
        Ok(Some(Self { kind, threshold }))
    }
}

/// How the file asks K and V to be shared; `None` if it does not.
pub(super) fn kv_sharing<S: Store>(store: &mut S, gguf: &Gguf<'_>) -> Result<Option<KvSharing>, ModelError> {
    let Some(name) = gguf.string(store, KV_SHARING)? else { return Ok(None) };
    let found = load_name(store, name)?;
    let sharing = KvSharing::ALL.into_iter().find(|sharing| sharing.name().as_bytes() == found);
    Ok(Some(sharing.ok_or(ModelError::UnknownKvSharing { found: Name::new(found) })?))
}

fn load_name<S: Store>(store: &mut S, name: Span) -> Result<&[u8], ModelError> {
    // One byte more than the longest name has.
    store.load(Span { len: name.len.min(11), ..name }, None)?;
    Ok(store.tile())
}

impl ExitPolicy for ExitDefault {
    fn needs(&self) -> Needs {
        match self.kind {
            ExitKind::Fixed => FixedDepth.needs(),
            ExitKind::Q => QExit(self.threshold).needs(),
            ExitKind::Confidence => TopProbability(self.threshold).needs(),
            ExitKind::Margin => Margin(self.threshold).needs(),
            ExitKind::Step => StepDifference(self.threshold).needs(),
        }
    }

    fn exit(&self, state: &LoopState<'_>) -> Option<Reason> {
        match self.kind {
            ExitKind::Fixed => FixedDepth.exit(state),
            ExitKind::Q => QExit(self.threshold).exit(state),
            ExitKind::Confidence => TopProbability(self.threshold).exit(state),
            ExitKind::Margin => Margin(self.threshold).exit(state),
            ExitKind::Step => StepDifference(self.threshold).exit(state),
        }
    }
}
