//! `kind: PolicyOverride`: one manifest may pass although the node's policy denies it. The way out of a policy that
//! denies every update, and so its own successor.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Blake3;
use crate::document::Document;
use crate::reason::{Code, Reason};
use crate::revocation::text_problem;
use crate::time::Time;
use crate::version::{ApiVersion, Kind};

/// Signed by a threshold of the root keys; for one manifest, for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyOverride {
    /// `autonomy/v1`.
    pub api_version: ApiVersion,
    /// `PolicyOverride`.
    pub kind: Kind,
    /// Fingerprint of the manifest that may pass.
    pub manifest: Blake3,
    /// Why, for the records of every node that uses it.
    pub reason: String,
    /// When it was made.
    pub issued_at: Time,
    /// After this it counts no more.
    pub expires_at: Time,
}

impl Document for PolicyOverride {
    const KIND: Kind = Kind::PolicyOverride;

    fn validate(&self) -> Vec<Reason> {
        let mut reasons: Vec<Reason> = text_problem("reason", &self.reason).into_iter().collect();
        let mut bad = |message: &str| reasons.push(Reason::new(Code::BadValue, message));
        if self.reason.trim().is_empty() {
            bad("`reason` is empty; say why the policy is overridden, as the records keep it");
        }
        if self.expires_at <= self.issued_at {
            bad("`expiresAt` is not later than `issuedAt`");
        }
        reasons
    }
}
