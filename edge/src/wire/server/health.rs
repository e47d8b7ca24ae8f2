//! `GET /v1/health`: who this is, and what the asking peer may send.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::answer::{Answer, json};
use super::connection::Visit;
use autonomy_schema::Name;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// The node's id.
    pub node: Name,
    /// Its fleet.
    pub fleet: Name,
    /// What the asking peer may send.
    pub quota: Quota,
    /// It takes no new work.
    pub draining: bool,
}

/// A quota, and what it has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// 0 is unlimited.
    pub bytes_per_second: u64,
    /// At once.
    pub burst_bytes: u64,
    /// Now.
    pub available_bytes: u64,
}

pub(super) fn answer(shared: &Shared, visit: &Visit) -> Answer {
    let (bytes_per_second, burst_bytes, available_bytes) = visit.guest.quota();
    let credentials = shared.tls.current();
    let health = Health {
        node: credentials.node().node_id.clone(),
        fleet: credentials.node().fleet.clone(),
        quota: Quota { bytes_per_second, burst_bytes, available_bytes },
        draining: shared.is_draining(),
    };
    json(StatusCode::OK, &health)
}
