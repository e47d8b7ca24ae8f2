//! What a plan will cost. Never less than the truth: a drifted file counts as new although its object may be whole.

use std::collections::BTreeSet;

use autonomy_schema::digest::Blake3;
use autonomy_schema::document::Document as _;
use autonomy_schema::facts::BoundFacts;
use autonomy_schema::path::Mode;
use autonomy_schema::plan_doc::Forecast;

use crate::planner::{Change, Desired, PlanError};
use crate::steps;

pub(crate) fn of(desired: &Desired<'_>, bound: &BoundFacts, change: Change<'_>) -> Result<Forecast, PlanError> {
    let manifest = desired.manifest;
    let spec = &manifest.spec;
    let policy = match (&bound.current, change) {
        (None, _) => "new",
        (Some(current), _) if current.policy == spec.policy.digest => "unchanged",
        (Some(_), _) => "changed",
    };
    let mut forecast = Forecast { policy: policy.to_owned(), ..Forecast::default() };
    if matches!(change, Change::Same) {
        return Ok(forecast);
    }
    // An object is kept once per content and mode.
    let drifted = steps::drifted_artifacts(&bound.drift);
    let mut objects: BTreeSet<(Blake3, Mode)> = change
        .current()
        .into_iter()
        .flat_map(|current| &current.artifacts)
        .filter(|fact| !drifted.contains_key(fact.path.as_str()))
        .map(|fact| (fact.blake3, fact.mode))
        .collect();
    let mut new_bytes = manifest.to_canonical()?.len() as u64;
    new_bytes = [spec.lock.size, spec.policy.size, spec.relay.edge_toml().len() as u64]
        .into_iter()
        .fold(new_bytes, u64::saturating_add);
    for artifact in &spec.artifacts {
        let Some(pins) = artifact.file() else { continue };
        new_bytes = new_bytes.saturating_add(pins.segments.size);
        if objects.insert((pins.blake3, pins.mode)) {
            new_bytes = new_bytes.saturating_add(pins.size);
        } else {
            forecast.disk_reused_bytes = forecast.disk_reused_bytes.saturating_add(pins.size);
        }
    }
    forecast.disk_new_bytes = new_bytes;
    forecast.restarts = steps::running(manifest).count() as u64;
    Ok(forecast)
}
