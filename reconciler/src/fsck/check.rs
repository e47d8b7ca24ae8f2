//! What must be, and what is.

use std::collections::BTreeSet;

use autonomy_schema::document::{self, MAX_DOCUMENT_BYTES};
use autonomy_schema::floors::Floors;
use autonomy_schema::journal::{Journal, Phase};
use autonomy_schema::os::OsFacts;
use autonomy_schema::plan_doc::PlanDoc;
use autonomy_schema::{Code, Document as _, Mode, Name, Reason, Reasons, RelPath, StateManifest};
use autonomy_stateroot::disk::FileKind;
use autonomy_stateroot::{DiskError, StatCache, StateRoot, digests, layout, read_capped};
use autonomy_trust::{PinnedRoot, Purpose, Verified};

use super::{Finding, Mend, Report};
use crate::generation::{differs, examine};
use crate::judge::Options;
use autonomy_sets::Loaded;
use autonomy_sets::manifest_of;
use autonomy_sets::roots::{earliest_reset, lost_pin, pinned_root};

const RESTORE: &str = "restore it from a backup with `autonomy restore`";
const GC: &str = "nothing: `autonomy gc` removes it";
/// Most differences of one generation that are told.
const MAX_TOLD: usize = 20;

fn told(reasons: &Reasons) -> String {
    reasons.as_slice().iter().map(|reason| reason.message.clone()).collect::<Vec<_>>().join("; ")
}

/// Everything that is one file: who the node is, whom it trusts, what it has seen, what it was doing; and the modes.
pub(super) fn documents(root: &StateRoot, report: &mut Report) -> Result<(), DiskError> {
    let mut damage = |path: RelPath, reasons: &Reasons, remedy: &str, mend: Mend| {
        report.findings.push(Finding::damage(path, told(reasons), remedy, mend));
    };
    if let Err(reasons) = root.node() {
        damage(layout::node_yaml(), &reasons, RESTORE, Mend::Nothing);
    }
    match pinned_root(root) {
        Ok(pinned) => {
            let (version, seen) = (pinned.document().version, root.floors().ok().flatten());
            let seen = seen.map_or(0, |floors| floors.root_version);
            if version < seen {
                let message = format!("version {version} is pinned, and this node has seen version {seen}");
                let older = Reasons::from(Reason::new(Code::RootGap, message));
                let mend = if lost_pin(root).is_some() { Mend::TrustRoot } else { Mend::Nothing };
                damage(layout::trust_root(), &older, RESTORE, mend);
            }
        }
        Err(reasons) if lost_pin(root).is_some() => {
            damage(layout::trust_root(), &reasons, super::REPAIR, Mend::TrustRoot);
        }
        Err(reasons) => damage(layout::trust_root(), &reasons, RESTORE, Mend::Nothing),
    }
    match root.floors() {
        Ok(Some(_)) => {}
        Ok(None) => report.findings.push(Finding::damage(layout::floors(), "it is missing", RESTORE, Mend::Nothing)),
        Err(reasons) => damage(layout::floors(), &reasons, RESTORE, Mend::Nothing),
    }
    if let Err(reasons) = root.journal() {
        // A newer tool wrote it, and may be in the middle of something.
        let bytes = read_capped(root.disk(), &layout::journal(), MAX_DOCUMENT_BYTES as u64).ok().flatten();
        let parsed = document::parse::<Journal>(&bytes.unwrap_or_default());
        report.findings.push(if parsed.is_err_and(|reasons| reasons.has(Code::UnknownVersion)) {
            let remedy = "use the version of autonomy that wrote it";
            Finding::damage(layout::journal(), told(&reasons), remedy, Mend::Nothing)
        } else {
            Finding::repairable(layout::journal(), told(&reasons), Mend::Journal)
        });
    }
    if let Err(reasons) = root.pinned() {
        let remedy = "restore it from a backup; without it, releases that failed here are tried again";
        report.findings.push(Finding::damage(layout::pins(), told(&reasons), remedy, Mend::Nothing));
    }
    kept_roots(root, report);
    operating_system(root, report);
    names_and_modes(root, report)
}

/// The record of the operating system and the evidence of those that were replaced. What cannot be believed is set aside; the
/// boot epoch goes on from what the rest proves.
fn operating_system(root: &StateRoot, report: &mut Report) {
    // Without the node's name, its key and its floors nobody can tell; that these are lost is told by itself.
    let can_tell = root.node().is_ok()
        && root.floors().is_ok()
        && matches!(crate::backup::identity(root), Ok(crate::backup::Identity::Whole));
    let mut damage = |path: RelPath, reasons: &Reasons| {
        let is_its_own =
            reasons.as_slice().iter().all(|it| matches!(it.code, Code::CorruptState | Code::EvidenceForged));
        report.findings.push(if can_tell && is_its_own {
            Finding::repairable(&path, told(reasons), Mend::Aside(path.clone()))
        } else {
            Finding::damage(path, told(reasons), RESTORE, Mend::Nothing)
        });
    };
    if let Err(reasons) = autonomy_precheck::evidence::verify(root) {
        damage(layout::epoch(), &reasons);
    } else if let Err(reasons) = autonomy_precheck::epoch::look(root, OsFacts::default())
        && can_tell
    {
        damage(layout::os_fingerprint(), &reasons);
    }
}

/// Names at the top that nothing of ours has, and permission bits that let others in.
fn names_and_modes(root: &StateRoot, report: &mut Report) -> Result<(), DiskError> {
    let disk = root.disk();
    for (name, stat) in disk.list_stat(None)? {
        if !layout::TOP_NAMES.contains(&name.as_str()) && !name.starts_with('.') && name != "lost+found" {
            let remedy = "move it away, if it is not yours";
            report.findings.push(Finding::notice(&name, "it is no part of a state root", remedy, Mend::Nothing));
            continue;
        }
        let Ok(path) = name.parse::<RelPath>() else { continue };
        if name.starts_with('.') && name.strip_suffix(".tmp").is_some() {
            let message = "a replacement that was cut off";
            report.findings.push(Finding::notice(&path, message, super::REPAIR, Mend::Remove(path.clone())));
        }
        if stat.kind == FileKind::Dir {
            folder_mode(report, &path, stat.mode);
        }
    }
    for folder in layout::folders() {
        match disk.stat(&folder)? {
            None => {
                let mend = Mend::Folder(folder.clone());
                report.findings.push(Finding::repairable(folder, "the folder is missing", mend));
            }
            Some(stat) if stat.kind != FileKind::Dir => {
                report.findings.push(Finding::damage(&folder, "it is no folder", "move it away", Mend::Nothing));
            }
            Some(_) => {}
        }
    }
    for lock in [layout::lock_file(), layout::store_lock()] {
        if disk.stat(&lock)?.is_some_and(|stat| stat.kind != FileKind::File) {
            let remedy = "remove it: it holds nothing";
            report.findings.push(Finding::damage(&lock, "it is no regular file", remedy, Mend::Nothing));
        }
    }
    for (folder, private) in [(layout::identity(), true), (layout::trust(), false), (layout::journal_dir(), false)] {
        if disk.stat(&folder)?.is_none_or(|stat| stat.kind != FileKind::Dir) {
            continue;
        }
        for (name, stat) in disk.list_stat(Some(&folder))? {
            let Ok(name) = name.parse::<RelPath>() else { continue };
            let path = folder.join(&name);
            match stat.kind {
                FileKind::Dir => folder_mode(report, &path, stat.mode),
                FileKind::File if private && name.as_str().strip_suffix(".pub").is_none() => {
                    file_mode(report, &path, stat.mode);
                }
                FileKind::File | FileKind::Symlink | FileKind::Other => {}
            }
        }
    }
    let wrong = match crate::backup::identity(root) {
        Ok(crate::backup::Identity::Whole) => return Ok(()),
        Ok(crate::backup::Identity::PublicLost(_)) => {
            (layout::attest_pub(), "it is not the public half of the attest key".to_owned())
        }
        Ok(crate::backup::Identity::Lost) => (layout::attest_key(), "it is missing, or no attest key".to_owned()),
        Err(error) => (layout::identity(), error.to_reason().message),
    };
    report.findings.push(Finding::damage(wrong.0, wrong.1, RESTORE, Mend::Nothing));
    Ok(())
}

/// The entries of a folder; none when it is missing, which is told once, by itself.
pub(super) fn listed(root: &StateRoot, folder: &RelPath) -> Result<Vec<autonomy_stateroot::Entry>, DiskError> {
    match root.disk().list(Some(folder)) {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        entries => entries,
    }
}

/// A folder below the root, which lets nobody else in: only one that others may write to is damage.
fn folder_mode(report: &mut Report, path: &RelPath, found: Mode) {
    if found == Mode::FOLDER {
        return;
    }
    let mend = Mend::Mode(path.clone(), Mode::FOLDER);
    let message = format!("its mode is {found}; `init` makes it {}", Mode::FOLDER);
    let is_open = found.bits() & 0o022 != 0 || found.bits() & 0o700 != 0o700;
    report.findings.push(if is_open {
        Finding::repairable(path, message, mend)
    } else {
        Finding::notice(path, message, super::REPAIR, mend)
    });
}

/// A private file.
pub(super) fn file_mode(report: &mut Report, path: &RelPath, found: Mode) {
    if found != Mode::PRIVATE {
        let message = format!("its mode is {found}; it must be {}", Mode::PRIVATE);
        report.findings.push(Finding::repairable(path, message, Mend::Mode(path.clone(), Mode::PRIVATE)));
    }
}

/// Every object: its name, its mode, every byte.
pub(super) fn objects(
    root: &StateRoot,
    options: &Options<'_>,
    report: &mut Report,
    cache: &mut StatCache,
) -> Result<(), DiskError> {
    let folder = layout::objects();
    let entries = match root.disk().list_stat(Some(&folder)) {
        Err(error) if error.is_not_found() => Vec::new(),
        entries => entries?,
    };
    let total = entries.iter().map(|(_, stat)| stat.size).sum();
    for (name, stat) in entries {
        let path = format!("{folder}/{name}");
        let (Some(digest), Ok(at)) = (layout::object_digest(&name), name.parse::<RelPath>()) else {
            let mend = name.parse::<RelPath>().ok().filter(|_| name.starts_with(".tmp-"));
            let mend = mend.map_or(Mend::Nothing, |name| Mend::Remove(folder.join(&name)));
            let message = "it is no object, and nothing refers to it";
            report.findings.push(Finding::notice(path, message, super::REPAIR, mend));
            continue;
        };
        if stat.kind != FileKind::File {
            let mend = Mend::Object(name);
            report.findings.push(Finding::repairable(path, "it is no regular file", mend));
            continue;
        }
        report.objects += 1;
        report.bytes += stat.size;
        let found = digests(root.disk(), &folder.join(&at), stat.size)?;
        (options.progress)(report.bytes, total);
        match found {
            (blake3, sha256) if blake3 == digest && layout::object(digest, stat.mode).file_name() == name => {
                cache.put(stat.identity, stat.size, blake3, sha256);
            }
            (blake3, _) if blake3 == digest => {
                let message = format!("its mode is {}, which is not what its name says", stat.mode);
                report.findings.push(Finding::repairable(path, message, Mend::Object(name)));
            }
            _ => {
                let message = "its bytes do not hash to its name";
                report.findings.push(Finding::repairable(path, message, Mend::Object(name)));
            }
        }
    }
    Ok(())
}

/// What recovery binds: signatures, not floors, so that damaged floors do not hide the rest.
pub(super) fn loaded(root: &StateRoot) -> Option<Loaded> {
    let floors = root.floors().ok().flatten().unwrap_or_default();
    Some(Loaded { node: Some(root.node().ok()?), root: pinned_root(root).ok()?, floors, rotates: None })
}

/// Every generation: signatures, the closed list of its files, every byte; and what it proves about the floors.
pub(super) fn generations(
    root: &StateRoot,
    options: &Options<'_>,
    cache: &StatCache,
    report: &mut Report,
) -> Result<(), Reasons> {
    let failed = |error: DiskError| Reasons::from(error.to_reason());
    let folder = layout::generations();
    for entry in listed(root, &folder).map_err(failed)? {
        let is_named = entry.name.parse::<Name>().is_ok();
        if is_named && entry.kind == FileKind::Dir {
            continue;
        }
        let path = format!("{folder}/{}", entry.name);
        let leftover = layout::is_leftover(&entry.name) && entry.kind == FileKind::Dir;
        let mend = entry.name.parse::<RelPath>().ok().filter(|_| leftover);
        report.findings.push(match mend {
            Some(name) => {
                let message = "a removal or a restore that was cut off";
                Finding::notice(path, message, super::REPAIR, Mend::Remove(folder.join(&name)))
            }
            None => Finding::notice(path, "it is no generation", "move it away", Mend::Nothing),
        });
    }
    let Some(loaded) = loaded(root) else {
        let message = "no generation was looked at, as it is unknown whom this node trusts";
        report.findings.push(Finding::damage(folder, message, RESTORE, Mend::Nothing));
        return Ok(());
    };
    let (current, lkg) = (root.current().ok().flatten(), root.lkg().ok().flatten());
    // What is being staged is whole only when the journal says so.
    let before_switch = root.journal().ok().flatten().filter(|journal| journal.phase.is_before_switch());
    let (staging, staged) = match before_switch {
        Some(journal) if journal.phase == Phase::Intent => (Some(journal.generation), None),
        Some(journal) => (None, Some(journal.generation)),
        None => (None, None),
    };
    for name in root.generations().map_err(failed)?.into_iter().filter(|name| Some(name) != staging.as_ref()) {
        report.generations += 1;
        let path = layout::generation(&name);
        let how = (options, cache);
        match examine(root, &loaded, &name, Purpose::Recover, how) {
            // Its signers may be those of a root that its set brings, which is pinned with the switch alone.
            Err(reasons) if staged.as_ref() == Some(&name) && awaits_root(&reasons) => {
                let message = "it is staged, and is verified again when its set is applied";
                report.findings.push(Finding::notice(path, message, "apply its set", Mend::Nothing));
            }
            Err(reasons) => {
                report.findings.push(Finding::repairable(path, told(&reasons), Mend::Generation(name)));
            }
            Ok(examined) => {
                for drift in examined.drift.iter().take(MAX_TOLD) {
                    report.findings.push(Finding::repairable(&path, differs(drift), Mend::Generation(name.clone())));
                }
                if examined.drift.len() > MAX_TOLD {
                    let message = format!("{} more differences", examined.drift.len() - MAX_TOLD);
                    report.findings.push(Finding::repairable(&path, message, Mend::Generation(name.clone())));
                }
                report.findings.extend(plan(root, &name));
                let active = [current.as_ref(), lkg.as_ref()].contains(&Some(&name));
                let floors = root.floors().ok().flatten().filter(|_| active);
                let manifest = &examined.manifest;
                if let Some(floors) = floors.filter(|floors| witnessed(floors, manifest, &loaded.root) != *floors) {
                    let message = format!(
                        "it lies below what {name} proves: serial {}",
                        floors.streams.get(&manifest.document().metadata.name).map_or(0, |floor| floor.serial)
                    );
                    report.findings.push(Finding::repairable(layout::floors(), message, Mend::Floors(name.clone())));
                }
            }
        }
    }
    unreferenced(root, report)
}

/// The plan that made a generation: history, which nothing is decided by; but an edited one is not told as if it were.
fn plan(root: &StateRoot, generation: &Name) -> Option<Finding> {
    let path = layout::in_generation(generation, &RelPath::fixed("plan.json"));
    let bytes = match read_capped(root.disk(), &path, PlanDoc::MAX_BYTES as u64) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Some(Finding::notice(path, "the plan that made it is missing", "nothing", Mend::Nothing)),
        Err(error) => return Some(Finding::repairable(path, error.to_string(), Mend::Generation(generation.clone()))),
    };
    let sound = document::parse::<PlanDoc>(&bytes).is_ok_and(|plan| autonomy_plan::is_its_own(&plan));
    (!sound).then(|| {
        let message = "the plan that made it was edited or damaged";
        Finding::repairable(path, message, Mend::Generation(generation.clone()))
    })
}

/// These floors and what a manifest proves that was admitted here.
pub(super) fn witnessed(floors: &Floors, manifest: &Verified<StateManifest>, root: &PinnedRoot) -> Floors {
    floors.witnessed_by(manifest.document(), manifest.fingerprint(), earliest_reset(root))
}

/// Objects that no generation is made of.
fn unreferenced(root: &StateRoot, report: &mut Report) -> Result<(), Reasons> {
    let failed = |error: DiskError| Reasons::from(error.to_reason());
    let mut needed = std::collections::BTreeSet::new();
    for name in root.generations().map_err(failed)? {
        // One that cannot be read may need any of them.
        let Some((manifest, _)) = manifest_of(root, &name) else { return Ok(()) };
        let Ok(objects) = autonomy_stateroot::gc::objects_of(root, &name, &manifest) else { return Ok(()) };
        needed.extend(objects);
    }
    let entries = listed(root, &layout::objects()).map_err(failed)?;
    let there: std::collections::BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    for name in needed.iter().filter(|name| !there.contains(name.as_str())) {
        let message = "the object is missing; a generation has its bytes in a file of its own";
        let path = format!("{}/{name}", layout::objects());
        report.findings.push(Finding::notice(path, message, super::REPAIR, Mend::Object(name.clone())));
    }
    let orphans =
        entries.iter().filter(|entry| layout::object_digest(&entry.name).is_some() && !needed.contains(&entry.name));
    let count = orphans.count();
    if count > 0 {
        let message = format!("{count} of them are part of no generation");
        report.findings.push(Finding::notice(layout::objects(), message, GC, Mend::Nothing));
    }
    Ok(())
}

/// `current`, `lkg`, the outbox.
pub(super) fn links(root: &StateRoot, report: &mut Report) -> Result<(), Reasons> {
    let failed = |error: DiskError| Reasons::from(error.to_reason());
    let names = root.generations().map_err(failed)?;
    let promoted = root.floors().ok().flatten().is_some_and(|floors| floors.promoted);
    for (path, link, mend) in
        [(layout::current(), root.current(), Mend::Current), (layout::lkg(), root.lkg(), Mend::Lkg)]
    {
        let wrong = match link {
            Err(reasons) => Some(told(&reasons)),
            Ok(Some(name)) if !names.contains(&name) => Some(format!("it points to {name}, which is not there")),
            Ok(None) if promoted => Some("it is missing, although a generation was known good here".to_owned()),
            Ok(_) => None,
        };
        report.findings.extend(wrong.map(|message| Finding::repairable(path, message, mend)));
    }
    if let (Ok(Some(current)), Ok(Some(lkg)), Ok(journal)) = (root.current(), root.lkg(), root.journal())
        && current != lkg
        && names.contains(&current)
        && journal.as_ref().is_none_or(|journal| journal.phase.is_final())
    {
        let message = format!("{current} is active, {lkg} is known good, and no journal says why");
        report.findings.push(Finding::repairable(layout::journal(), message, Mend::Journal));
    }
    if let (Ok(Some(current)), Ok(Some(journal))) = (root.current(), root.journal())
        && current != journal.generation
        && names.contains(&current)
        && matches!(journal.phase, Phase::Switched | Phase::Waiting)
        && journal.failure.is_none()
    {
        let message = format!("it says that {} is active; `current` points to {current}", journal.generation);
        report.findings.push(Finding::repairable(layout::journal(), message, Mend::Journal));
    }
    for entry in listed(root, &layout::outbox()).map_err(failed)? {
        let path = format!("{}/{}", layout::outbox(), entry.name);
        let Ok(name) = entry.name.parse::<RelPath>() else { continue };
        let at = layout::outbox().join(&name);
        let target = root.disk().read_link(&at).ok().flatten();
        let target = target.and_then(|text| layout::outbox_target(&text));
        if target.is_none_or(|target| !names.contains(&target)) {
            let message = "it points to no generation, so nobody could relay it";
            report.findings.push(Finding::repairable(path, message, Mend::Remove(at)));
        }
    }
    Ok(())
}

/// Whether nothing is wrong but that the pinned root does not know the signers.
fn awaits_root(reasons: &Reasons) -> bool {
    reasons.as_slice().iter().all(|reason| matches!(reason.code, Code::BelowThreshold | Code::RootGap))
}

/// Kept roots that do not lead to the pinned one: what was admitted under them is below its threshold now.
fn kept_roots(root: &StateRoot, report: &mut Report) {
    let (Ok(pinned), Ok(entries)) = (pinned_root(root), root.disk().list(Some(&layout::trust_roots()))) else { return };
    let versions: BTreeSet<u64> =
        entries.iter().filter_map(|entry| autonomy_schema::set::root_version(&entry.name)).collect();
    let lost = versions.into_iter().filter(|version| pinned.of_version(*version).is_none());
    for version in lost.filter(|version| *version < pinned.document().version) {
        let message =
            "it is damaged, or one between it and the pinned root is: what was admitted under it cannot be judged";
        let remedy = "bring it again: `autonomy trust import` of a medium with every root, or `autonomy restore`";
        report.findings.push(Finding::damage(layout::kept_root(version), message, remedy, Mend::Nothing));
    }
}
