//! What differs beside the generations: the operator's own settings, floors that somebody lowered, services that do not
//! run.

use autonomy_schema::facts::{Drift, DriftKind};
use autonomy_schema::floors::Floors;
use autonomy_schema::manifest::ServiceAction;
use autonomy_schema::{Blake3, Reason, RelPath, StateManifest, Time, relay};

use super::UnitProbe;
use crate::disk::{FileKind, Query, read_capped};
use crate::layout;

/// Largest `edge/local.toml` in bytes; it has three tables.
const MAX_LOCAL_BYTES: u64 = 64 << 10;

/// `edge/local.toml`, when it is there. Its keys are told and its digest is bound; its values stay where they are.
pub(super) fn local_settings(disk: &(impl Query + ?Sized)) -> Result<Option<Drift>, Reason> {
    let path = layout::edge_local();
    let Some(stat) = disk.stat(&path).map_err(|error| error.to_reason())? else { return Ok(None) };
    let invalid = |why: String| Ok(Some(Drift::node(path.clone(), DriftKind::Invalid, "", why)));
    if stat.kind != FileKind::File {
        return invalid("it is no regular file".to_owned());
    }
    if stat.size > MAX_LOCAL_BYTES {
        return invalid(format!("it has {} bytes; at most {MAX_LOCAL_BYTES}", stat.size));
    }
    let bytes = read_capped(disk, &path, MAX_LOCAL_BYTES).map_err(|error| error.to_reason())?;
    let Some(bytes) = bytes else { return Ok(None) };
    let digest = Blake3::of(&bytes);
    let keys = match String::from_utf8(bytes) {
        Ok(text) => relay::local_keys(&text),
        Err(_not_utf8) => Err("it is not UTF-8".to_owned()),
    };
    match keys {
        Ok(keys) if keys.is_empty() => Ok(None),
        Ok(keys) => {
            let actual = format!("sets {} ({})", keys.join(", "), digest.short());
            Ok(Some(Drift::node(path, DriftKind::Override, "", actual)))
        }
        Err(why) => invalid(format!("{why} ({})", digest.short())),
    }
}

/// Floors below what the active generation proves. Apply raises them before it switches, so nothing honest lowers them.
/// `reset` as in [`Floors::witnessed_by`].
pub(super) fn floors(
    floors: &Floors,
    (active, fingerprint): (&StateManifest, Blake3),
    reset: Option<Time>,
    has_lkg: bool,
) -> Option<Drift> {
    let metadata = &active.metadata;
    let mut differences = Vec::new();
    let mut check = |held: bool, expected: String, actual: String| {
        if !held {
            differences.push((expected, actual));
        }
    };
    let floor = floors.streams.get(&metadata.name);
    let serial = floor.map_or(0, |floor| floor.serial);
    check(serial >= metadata.serial, format!("serial {}", metadata.serial), format!("serial {serial}"));
    if let Some(floor) = floor.filter(|floor| floor.serial == metadata.serial) {
        let (expected, actual) = (fingerprint.short(), floor.manifest.short());
        check(floor.manifest == fingerprint, format!("manifest {expected}"), format!("manifest {actual}"));
    }
    let (expected, actual) = (active.spec.revoked.number, floors.revoked.number);
    check(actual >= expected, format!("revocation list {expected}"), format!("revocation list {actual}"));
    let mark = floors.time_mark.map_or_else(|| "no time mark".to_owned(), |mark| format!("time mark {mark}"));
    let proven = reset.map_or(metadata.issued_at, |reset| metadata.issued_at.min(reset));
    check(floors.time_mark >= Some(proven), format!("time mark {proven}"), mark);
    check(floors.promoted || !has_lkg, "promoted".to_owned(), "not promoted".to_owned());
    let (expected, actual): (Vec<String>, Vec<String>) = differences.into_iter().unzip();
    (!expected.is_empty())
        .then(|| Drift::node(layout::floors(), DriftKind::Lowered, expected.join(", "), actual.join(", ")))
}

/// Units that the manifest starts and that do not run.
pub(super) fn services(active: &StateManifest, units: UnitProbe<'_>) -> Vec<Drift> {
    let started = active.spec.services.iter().filter(|service| service.action != Some(ServiceAction::None));
    started
        .filter_map(|service| {
            let unit = service.unit.as_ref()?;
            let (kind, actual) = units(unit)?;
            let path = unit.as_str().parse::<RelPath>().ok()?;
            Some(Drift::node(RelPath::fixed("services").join(&path), kind, "running", actual))
        })
        .collect()
}
