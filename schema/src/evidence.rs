//! `kind: Evidence`: what a node did when it found another operating system below itself, signed by its attest key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::canonical::MAX_INTEGER;
use crate::digest::Blake3;
use crate::document::Document;
use crate::manifest::is_default;
use crate::os::Changed;
use crate::path::Name;
use crate::reason::{Code, Reason};
use crate::time::Time;
use crate::version::{ApiVersion, Kind};

/// Largest evidence in bytes: a thousand files with paths of a kilobyte.
pub const MAX_EVIDENCE_BYTES: usize = 2 << 20;

/// A file that was put in its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rebuilt {
    /// Where, as an absolute path below the root of the operating system.
    pub path: String,
    /// BLAKE3 of its content, as it was read back.
    pub blake3: Blake3,
}

/// `epoch/current/evidence.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// `autonomy/v1`.
    pub api_version: ApiVersion,
    /// `Evidence`.
    pub kind: Kind,
    /// The node.
    pub node_id: Name,
    /// The epoch that began.
    pub boot_epoch: u64,
    /// Composite of the operating system before.
    pub previous_fingerprint: Blake3,
    /// Composite of the one that was found.
    pub new_fingerprint: Blake3,
    /// What differs between them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub changed: Vec<Changed>,
    /// The manifest whose steps were carried out; absent when none was active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Blake3>,
    /// The plan by which that manifest became active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<Blake3>,
    /// The files that were put in their places, sorted by path.
    #[serde(default, skip_serializing_if = "is_default")]
    pub files: Vec<Rebuilt>,
    /// BLAKE3 of the evidence before this one; absent on the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_evidence: Option<Blake3>,
    /// When, by the node's clock, which may be wrong.
    pub time: Time,
}

impl Document for Evidence {
    const KIND: Kind = Kind::Evidence;
    const MAX_BYTES: usize = MAX_EVIDENCE_BYTES;

    fn validate(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let mut bad = |message: &str| reasons.push(Reason::new(Code::BadValue, message));
        if !(2..=MAX_INTEGER).contains(&self.boot_epoch) {
            bad("`bootEpoch` is not between 2 and 2^53-1: no evidence comes of a node's first epoch");
        }
        if self.previous_fingerprint == self.new_fingerprint {
            bad("`newFingerprint` is `previousFingerprint`");
        }
        reasons
    }
}
