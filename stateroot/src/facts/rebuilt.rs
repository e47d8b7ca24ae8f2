//! What differs outside the state root, where the reconstruction steps of the active manifest wrote.

use std::path::Path;

use autonomy_schema::facts::{Drift, DriftKind};
use autonomy_schema::manifest::{Effect, MAX_UNIT_BYTES, ReconstructionStep, unit_links};
use autonomy_schema::{RelPath, StateManifest};

use crate::disk::{DiskError, FileKind, Query, read_capped};
use crate::hash::Hashes;
use crate::real::RealDisk;

/// Compares what lies under the root of the operating system with what the steps bring about. A root that cannot be opened
/// says nothing.
pub(super) fn find(os_root: &Path, active: &StateManifest) -> Vec<Drift> {
    let steps = &active.spec.reconstruction.steps;
    if steps.is_empty() {
        return Vec::new();
    }
    let Ok(os) = RealDisk::open(os_root) else { return Vec::new() };
    steps.iter().flat_map(|step| of_step(&os, step, active)).collect()
}

fn of_step(os: &RealDisk, step: &ReconstructionStep, active: &StateManifest) -> Vec<Drift> {
    let (Some(Ok(path)), Some(effect)) = (step.place(), step.effect(&active.spec.artifacts)) else { return Vec::new() };
    if let Some(drift) = against(os, &path, &effect) {
        return vec![drift];
    }
    let Some(unit) = step.systemd_unit.as_ref().filter(|unit| unit.enable) else { return Vec::new() };
    let text = read_capped(os, &path, MAX_UNIT_BYTES).ok().flatten().and_then(|bytes| String::from_utf8(bytes).ok());
    let links = text.and_then(|text| unit_links(&unit.name, &text).ok()).unwrap_or_default();
    links.iter().filter_map(|(at, target)| against(os, at, &Effect::Link { target })).collect()
}

/// How what lies at `path` differs from what a step leaves there; `None` when it is the same. What cannot be looked at, such
/// as a place behind a symbolic link, is of another kind.
pub fn against(os: &(impl Query + ?Sized), path: &RelPath, effect: &Effect<'_>) -> Option<Drift> {
    let differs = |kind, actual: String| Some(Drift::os(path.clone(), kind, effect.to_string(), actual));
    let stat = match os.stat(path) {
        Ok(Some(stat)) => stat,
        Ok(None) => return differs(DriftKind::Missing, String::new()),
        Err(error) if error.is_not_found() => return differs(DriftKind::Missing, String::new()),
        Err(error) => return differs(DriftKind::Type, error.source.to_string()),
    };
    // A link belongs to nobody who could change it.
    if !(stat.is_own && stat.is_own_group) && stat.kind != FileKind::Symlink {
        let whose = if stat.is_own { "group" } else { "user" };
        return differs(DriftKind::Mode, format!("it belongs to another {whose}"));
    }
    let failed = |error: DiskError| differs(DriftKind::Content, error.source.to_string());
    match (effect, stat.kind) {
        (Effect::File { size, blake3, mode }, FileKind::File) => {
            if stat.size != *size {
                return differs(DriftKind::Content, format!("{} bytes", stat.size));
            }
            match Hashes::new(true, false).of_file(os, path, stat.size) {
                Ok((Some(found), _)) if found == *blake3 => {}
                Ok((found, _)) => {
                    return differs(DriftKind::Content, found.map(|found| found.to_string()).unwrap_or_default());
                }
                Err(error) => return failed(error),
            }
            if stat.mode == *mode { None } else { differs(DriftKind::Mode, stat.mode.to_string()) }
        }
        (Effect::Dir { mode }, FileKind::Dir) => {
            if stat.mode == *mode {
                None
            } else {
                differs(DriftKind::Mode, format!("directory {}", stat.mode))
            }
        }
        (Effect::Link { target }, FileKind::Symlink) => match os.read_link(path) {
            Ok(Some(text)) if text == *target => None,
            Ok(text) => differs(DriftKind::Content, format!("-> {}", text.unwrap_or_default())),
            Err(error) => failed(error),
        },
        (_, FileKind::File) => differs(DriftKind::Type, "a file".to_owned()),
        (_, FileKind::Dir) => differs(DriftKind::Type, "a directory".to_owned()),
        (_, FileKind::Symlink) => differs(DriftKind::Type, "a symbolic link".to_owned()),
        (_, FileKind::Other) => differs(DriftKind::Type, "a special file".to_owned()),
    }
}
