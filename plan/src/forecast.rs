//! What a plan will cost. Never less than the truth: a drifted file counts as new although its object may be whole.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use autonomy_schema::digest::Blake3;
use autonomy_schema::facts::Facts;
use autonomy_schema::manifest::{Artifact, StateManifest};
use autonomy_schema::path::{Mode, RelPath};
use autonomy_schema::plan_doc::{Due, Forecast};
use autonomy_schema::time::Time;

use crate::planner::{Change, Desired};
use crate::{rebuild, steps};

pub(crate) fn of(desired: &Desired<'_>, facts: &Facts, change: Change<'_>) -> Forecast {
    let (bound, observed) = (&facts.bound, &facts.observed);
    let manifest = desired.manifest;
    let spec = &manifest.spec;
    let policy = match (&bound.current, change) {
        (None, _) => "new",
        (Some(current), _) if current.policy == spec.policy.digest => "unchanged",
        (Some(_), _) => "changed",
    };
    let window = i64::try_from(spec.precheck.cert_expiry_window.millis() / 1000).unwrap_or(i64::MAX);
    let mut forecast = Forecast {
        policy: policy.to_owned(),
        certificate: observed.certificate_expires.map(|at| due(at, observed.clock, Some(window))),
        crl: observed.crl_due.map(|at| due(at, observed.clock, None)),
        durability: observed.durability,
        ..Forecast::default()
    };
    if matches!(change, Change::Same) {
        return forecast;
    }
    forecast.reconstruction = rebuild::forecast(spec, change);
    forecast.restarts = steps::running(manifest).count() as u64;
    if let Change::Rollback(_) = change {
        // Everything is there already.
        forecast.disk_reused_bytes = spec.artifacts.iter().filter_map(Artifact::payload).map(|pins| pins.size).sum();
        return forecast;
    }
    // An object is kept once per content and mode.
    let drifted = steps::drifted_artifacts(&bound.drift);
    let mut objects: BTreeSet<(Blake3, Option<Mode>)> = change
        .current()
        .into_iter()
        .flat_map(|current| &current.artifacts)
        .filter(|fact| !drifted.contains_key(fact.path.as_str()))
        .map(|fact| (fact.blake3, fact.mode))
        .collect();
    let there = change.current().into_iter().flat_map(|current| &current.artifacts);
    let trees: BTreeMap<&RelPath, u64> =
        there.filter(|fact| fact.index.is_some()).map(|fact| (&fact.path, fact.size)).collect();
    let mut new_bytes = document_bytes(manifest);
    new_bytes = [spec.lock.size, spec.policy.size, spec.relay.edge_toml().len() as u64]
        .into_iter()
        .fold(new_bytes, u64::saturating_add);
    for artifact in &spec.artifacts {
        let Some(pins) = artifact.payload() else { continue };
        let index = artifact.index.map_or(0, |index| index.size);
        new_bytes = new_bytes.saturating_add(pins.segments.size).saturating_add(index);
        if objects.insert((pins.blake3, artifact.file().map(|file| file.mode))) {
            // How much of a tree changed is not known here. What it grows by is the least that it takes; to demand room for
            // all of it would refuse a node for ever that has most of it.
            let before = trees.get(&artifact.path).copied().filter(|_| artifact.tree().is_some()).unwrap_or(0);
            new_bytes = new_bytes.saturating_add(pins.size.saturating_sub(before));
        } else {
            forecast.disk_reused_bytes = forecast.disk_reused_bytes.saturating_add(pins.size);
        }
    }
    forecast.disk_new_bytes = new_bytes;
    forecast
}

/// A time, seen from `clock`; `window` in seconds.
fn due(at: Time, clock: Time, window: Option<i64>) -> Due {
    const DAY: i64 = 86_400;
    let left = at.unix().saturating_sub(clock.unix());
    Due { at, days: left.div_euclid(DAY), soon: window.is_some_and(|window| left <= window) }
}

/// The size of the manifest's bytes. Only the order of keys tells canonical JSON from plain, so they need not be sorted.
fn document_bytes(manifest: &StateManifest) -> u64 {
    struct Count(u64);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, manifest) {
        Ok(()) => count.0,
        // Cannot happen to a parsed manifest; the cap is the honest upper bound.
        Err(_unwritable) => autonomy_schema::document::MAX_DOCUMENT_BYTES as u64,
    }
}
