//! The trust root: which keys may sign what, and how many of them it takes.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{Blake3, Sha256};
use crate::document::Document;
use crate::manifest::is_default;
use crate::reason::{Code, Reason};
use crate::time::{Duration, Time};
use crate::version::{ApiVersion, Kind};

/// Most keys in a trust root.
pub const MAX_KEYS: usize = 256;
/// Longest public key in PEM, in bytes; P-256 and Ed25519 need under 200.
pub const MAX_KEY_PEM: usize = 1024;
/// The serial step of a root that does not say one.
pub const DEFAULT_SERIAL_STEP: u64 = 1000;
/// The time step of a root that does not say one: a year.
pub const DEFAULT_TIME_STEP: Duration = Duration::from_millis(365 * 86_400_000);

/// A newer trust root than the pinned one, to which that leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Its version.
    pub version: u64,
    /// BLAKE3 of its bytes.
    pub root: Blake3,
}

/// What a key may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Trust roots.
    Root,
    /// State manifests.
    Manifest,
    /// Policy bundles loaded by themselves.
    Policy,
    /// Locks.
    Artifact,
    /// State manifests made in the field.
    Offline,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 5] = [Role::Root, Role::Manifest, Role::Policy, Role::Artifact, Role::Offline];

    /// The text in documents and flags.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Root => "root",
            Role::Manifest => "manifest",
            Role::Policy => "policy",
            Role::Artifact => "artifact",
            Role::Offline => "offline",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Keys per role, signed by role `root`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustRoot {
    /// `autonomy/v1`.
    pub api_version: ApiVersion,
    /// `TrustRoot`.
    pub kind: Kind,
    /// From 1, one step at a time.
    pub version: u64,
    /// After this it verifies no more changes; newer roots can still be imported.
    pub expires_at: Time,
    /// Key id (SHA-256 of the `SubjectPublicKeyInfo` DER) to public key (PEM).
    pub keys: BTreeMap<Sha256, String>,
    /// Who may sign what. A role that is absent can sign nothing.
    pub roles: BTreeMap<Role, RoleKeys>,
    /// How far a serial may be ahead of the highest one seen.
    #[serde(default = "default_serial_step")]
    pub max_serial_step: u64,
    /// How far `issuedAt` may be ahead of clock, time mark and build time.
    #[serde(default = "default_time_step")]
    pub max_time_step: Duration,
    /// Resets a poisoned time mark to this, once, when the root is imported.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reset_time_mark: Option<Time>,
}

/// The keys of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleKeys {
    /// Key ids.
    pub keys: BTreeSet<Sha256>,
    /// How many distinct keys must sign.
    pub threshold: u64,
}

fn default_serial_step() -> u64 {
    DEFAULT_SERIAL_STEP
}

fn default_time_step() -> Duration {
    DEFAULT_TIME_STEP
}

impl Document for TrustRoot {
    const KIND: Kind = Kind::TrustRoot;

    fn validate(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let mut bad = |message: String| reasons.push(Reason::new(Code::BadValue, message));
        if self.version == 0 {
            bad("`version` is 0; trust roots start at 1".to_owned());
        }
        if self.keys.len() > MAX_KEYS {
            bad(format!("`keys` has {} entries; at most {MAX_KEYS}", self.keys.len()));
        }
        for (id, pem) in &self.keys {
            if pem.len() > MAX_KEY_PEM {
                bad(format!("key {id} has {} bytes; at most {MAX_KEY_PEM}", pem.len()));
            }
        }
        if !self.roles.contains_key(&Role::Root) {
            bad("`roles.root` is absent; nobody could ever sign a newer trust root".to_owned());
        }
        for (role, keys) in &self.roles {
            if keys.threshold == 0 || keys.threshold > keys.keys.len() as u64 {
                bad(format!(
                    "`roles.{role}.threshold` is {} of {} keys; expected 1 to {}",
                    keys.threshold,
                    keys.keys.len(),
                    keys.keys.len()
                ));
            }
            for id in keys.keys.iter().filter(|id| !self.keys.contains_key(id)) {
                bad(format!("`roles.{role}.keys` names {id}, which `keys` does not hold"));
            }
        }
        reasons
    }
}
