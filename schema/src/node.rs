//! Who the node is (`node.yaml`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::manifest::{destination, is_default};
use crate::path::Name;
use crate::reason::{Code, Reason};
use crate::version::{ApiVersion, Kind};

/// Longest value of a label in bytes.
pub const MAX_LABEL_BYTES: usize = 256;

/// `node.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// `autonomy/v1`.
    pub api_version: ApiVersion,
    /// `Node`.
    pub kind: Kind,
    /// Node id.
    pub node_id: Name,
    /// Fleet.
    pub fleet: Name,
    /// Hardware class (`uname -m`).
    pub hardware: Name,
    /// Labels.
    #[serde(default, skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// Folders of the operating system where reconstruction may write, beside those that are always allowed: absolute paths.
    #[serde(default, skip_serializing_if = "is_default")]
    pub destinations: Vec<String>,
}

impl Document for Node {
    const KIND: Kind = Kind::Node;

    fn validate(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        for folder in &self.destinations {
            if let Err(reason) = destination(folder.trim_end_matches('/')) {
                reasons.push(Reason {
                    message: format!("`destinations` names `{}`: {}", folder.escape_default(), reason.message),
                    ..reason
                });
            }
        }
        for (key, value) in &self.labels {
            if key.parse::<Name>().is_err() {
                reasons.push(Reason::new(
                    Code::BadName,
                    format!("`labels.{}`: the key is not a name", key.escape_default()),
                ));
            }
            if value.len() > MAX_LABEL_BYTES || value.chars().any(char::is_control) {
                reasons.push(Reason::new(
                    Code::BadValue,
                    format!("`labels.{}` is longer than 256 bytes or holds control characters", key.escape_default()),
                ));
            }
        }
        reasons
    }
}
