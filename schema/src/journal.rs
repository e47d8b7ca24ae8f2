//! The journal of the apply in progress (`journal/apply.json`). It arbitrates between `current` and `lkg`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Blake3;
use crate::document::Document;
use crate::manifest::{Service, is_default};
use crate::path::Name;
use crate::reason::{Code, Reason};
use crate::version::{ApiVersion, Kind};

/// How far the apply came. Before `switched` the old generation is the truth, from then on the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Decided; nothing of it is on disk yet.
    Intent,
    /// The generation is whole and durable.
    Staged,
    /// Platform and policy said yes; floors are raised.
    Prechecked,
    /// `current` points to the new generation.
    Switched,
    /// Done; the generation is the last known good.
    Confirmed,
    /// Given up; the generation before it is active.
    RolledBack,
}

impl Phase {
    /// Whether nothing is left to do.
    pub fn is_final(self) -> bool {
        matches!(self, Phase::Confirmed | Phase::RolledBack)
    }
}

/// `journal/apply.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Journal {
    /// `autonomy/v1`.
    pub api_version: ApiVersion,
    /// `Journal`.
    pub kind: Kind,
    /// How far it came.
    pub phase: Phase,
    /// The plan that is carried out.
    pub plan_id: Blake3,
    /// The manifest that is activated.
    pub manifest: Blake3,
    /// Its stream.
    pub stream: Name,
    /// Its serial.
    pub serial: u64,
    /// Folder of the new generation below `generations/`.
    pub generation: Name,
    /// Folder of the generation that was active; absent on a first activation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Name>,
    /// Services to run after the switch, in order.
    #[serde(default, skip_serializing_if = "is_default")]
    pub services: Vec<Service>,
    /// How many of them are done; each runs at least once, and again if power was lost before this was written.
    #[serde(default, skip_serializing_if = "is_default")]
    pub services_done: u64,
    /// Whether the manifest goes on to peers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub relay: bool,
    /// Why it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Reason>,
}

impl Document for Journal {
    const KIND: Kind = Kind::Journal;

    fn validate(&self) -> Vec<Reason> {
        if self.services_done <= self.services.len() as u64 {
            return Vec::new();
        }
        vec![Reason::new(
            Code::BadValue,
            format!("`servicesDone` is {} of {}", self.services_done, self.services.len()),
        )]
    }
}
