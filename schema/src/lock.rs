//! The lock (`autonomy.lock.json`): what an agent release is made of, bound into one fingerprint.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::canonical::{self, CanonicalError};
use crate::digest::{Blake3, Sha256};
use crate::document::Document;
use crate::manifest::semver_text::Version;
use crate::reason::{Code, Reason};
use crate::version::{ApiVersion, Kind};

/// The lock. Field names follow the ADK's format, hence snake case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lock {
    /// `autonomy/v1`.
    #[serde(rename = "apiVersion")]
    pub api_version: ApiVersion,
    /// `Lock`.
    pub kind: Kind,
    /// The artifact named `agent`.
    pub agent_artifact: LockedArtifact,
    /// The policy bundle.
    pub policy_bundle: LockedPolicy,
    /// What else shapes the agent's behaviour.
    pub inputs: LockedInputs,
    /// BLAKE3 over the canonical JSON of the lock without this field.
    pub behavioral_fingerprint: Blake3,
}

/// The locked agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LockedArtifact {
    /// SHA-256 of the file.
    pub digest: Sha256,
}

/// The locked policy bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LockedPolicy {
    /// SHA-256 of `policy.tar.gz`.
    pub digest: Sha256,
    /// The bundle's `policy_bundle_version`.
    pub semver: Version,
}

/// The locked inputs; the SHA-256 of no bytes stands for an absent one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LockedInputs {
    /// SHA-256 of the prompt.
    pub prompt_hash: Sha256,
    /// SHA-256 of the tool inputs.
    pub tool_inputs_hash: Sha256,
}

impl Lock {
    /// Builds a lock and its fingerprint.
    pub fn new(agent: Sha256, policy: LockedPolicy, inputs: LockedInputs) -> Result<Self, CanonicalError> {
        let mut lock = Self {
            api_version: ApiVersion::default(),
            kind: Kind::Lock,
            agent_artifact: LockedArtifact { digest: agent },
            policy_bundle: policy,
            inputs,
            behavioral_fingerprint: Blake3::from_bytes([0; 32]),
        };
        lock.behavioral_fingerprint = lock.computed_fingerprint()?;
        Ok(lock)
    }

    /// The fingerprint that the other fields give.
    pub fn computed_fingerprint(&self) -> Result<Blake3, CanonicalError> {
        let mut value = serde_json::to_value(self).unwrap_or(Value::Null);
        if let Value::Object(fields) = &mut value {
            fields.remove("behavioral_fingerprint");
        }
        canonical::fingerprint(&value)
    }
}

impl Document for Lock {
    const KIND: Kind = Kind::Lock;

    fn validate(&self) -> Vec<Reason> {
        match self.computed_fingerprint() {
            Ok(computed) if computed == self.behavioral_fingerprint => Vec::new(),
            Ok(computed) => vec![Reason::new(
                Code::DigestMismatch,
                format!(
                    "the lock's `behavioral_fingerprint` is {}; its fields give {computed}",
                    self.behavioral_fingerprint
                ),
            )],
            Err(error) => vec![Reason::new(Code::BadValue, error.to_string())],
        }
    }
}
