//! One precheck: everything is looked at, and where the operating system is another one, what lies outside the state root is
//! rebuilt and the next boot epoch begins.

use std::path::Path;

use autonomy_schema::document::MAX_DERIVED_BYTES;
use autonomy_schema::finding::Severity;
use autonomy_schema::manifest::{Durability, Precheck};
use autonomy_schema::node::Node;
use autonomy_schema::os::OsFacts;
use autonomy_schema::plan_doc::PlanDoc;
use autonomy_schema::{Blake3, Code, Name, Reason, Reasons, RelPath, StateManifest, Time, document};
use autonomy_stateroot::{ActivationLock, LockError, StateRoot, layout, read_capped};
use autonomy_trust::Verified;

use crate::checks::{self, Assurance, assurance, certificates};
use crate::epoch::{self, Cause, Sight, Verdict};
use crate::evidence;
use crate::platform::Platform;
use crate::reconstruct::{Rebuild, Reconstruction};
use crate::record::Records;
use crate::report::{Area, Fingerprint, Report};
use crate::trusted;

/// What a precheck is asked to look at.
pub struct Ask<'a> {
    /// What the node runs on now.
    pub os: OsFacts,
    /// The machine.
    pub platform: &'a dyn Platform,
    /// Where the cgroup file system is mounted.
    pub cgroup_root: &'a Path,
    /// The clock.
    pub clock: Time,
    /// Write nothing.
    pub dry_run: bool,
    /// For the records: who asks, such as `uid:0`.
    pub actor: &'a str,
    /// Told of each reconstruction step before it begins.
    pub each_step: &'a dyn Fn(&str),
}

/// What the node runs.
struct Active {
    generation: Name,
    manifest: Verified<StateManifest>,
}

/// Looks at an opened state root.
pub fn precheck(root: &StateRoot, ask: &Ask<'_>) -> Report {
    let mut report = Report { dry_run: ask.dry_run, ..Report::default() };
    let held = if ask.dry_run {
        None
    } else {
        match lock(root) {
            Ok(held) => Some(held),
            Err(error) => {
                report.add(Area::StateRoot, Severity::Error, error.to_reason());
                return report;
            }
        }
    };
    let node = match root.node() {
        Ok(node) => node,
        Err(reasons) => {
            report.refuse(Area::Config, &reasons);
            return report;
        }
    };
    let active = match active(root) {
        Ok(active) => active,
        Err(reasons) => {
            report.refuse(Area::StateRoot, &reasons);
            None
        }
    };
    look(root, &node, active.as_ref(), ask, &mut report);
    match epoch::look(root, ask.os.clone()) {
        Ok(sight) => {
            clock(root, Some(&sight), ask, &mut report);
            os(root, held.as_ref(), active.as_ref(), &sight, ask, &mut report);
        }
        Err(reasons) => {
            clock(root, None, ask, &mut report);
            report.refuse(Area::StateRoot, &reasons);
        }
    }
    report
}

/// At boot another unit may hold it for a moment: it is waited for.
fn lock(root: &StateRoot) -> Result<ActivationLock, LockError> {
    const TRIES: u32 = 10;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(300);
    for _ in 1..TRIES {
        match root.lock("edged precheck") {
            Err(LockError::Held(_)) => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
    root.lock("edged precheck")
}

/// What the active manifest demands of the platform; the defaults where none is active or it does not verify.
pub fn demands(root: &StateRoot) -> Precheck {
    let active = active(root).ok().flatten();
    active.map_or_else(Precheck::default, |active| active.manifest.document().spec.precheck.clone())
}

fn active(root: &StateRoot) -> Result<Option<Active>, Reasons> {
    let Some(generation) = root.current()? else { return Ok(None) };
    let manifest = trusted::admitted(root, &generation)?;
    Ok(Some(Active { generation, manifest }))
}

/// Everything but clock and operating system.
fn look(root: &StateRoot, node: &Node, active: Option<&Active>, ask: &Ask<'_>, report: &mut Report) {
    let document = active.map(|active| active.manifest.document());
    for reason in checks::config(root, active.map(|active| (&active.generation, active.manifest.document()))) {
        report.add(Area::Config, Severity::Error, reason);
    }
    match checks::place(root) {
        Ok(None) => {}
        Ok(Some(reason)) => report.add(Area::StateRoot, Severity::Error, reason),
        Err(error) => report.add(Area::StateRoot, Severity::Error, error.to_reason()),
    }
    for reason in checks::keys(root) {
        report.add(Area::Certificates, Severity::Error, reason);
    }
    let demands = document.map_or_else(Precheck::default, |manifest| manifest.spec.precheck.clone());
    let is_needed = checks::takes_part(root, document);
    for (severity, reason) in certificates(root, node, ask.clock, demands.cert_expiry_window, is_needed).findings {
        report.add(Area::Certificates, severity, reason);
    }
    if let Assurance::Reduced(why) = assurance(ask.cgroup_root) {
        let is_demanded = demands.durability == Durability::High;
        let severity = if is_demanded { Severity::Error } else { Severity::Warning };
        let effect = if is_demanded { "high durability is refused" } else { "high durability cannot be had here" };
        report.add(Area::Config, severity, Reason::new(Code::AssuranceReduced, format!("{effect}: {why}")));
    }
    if let Some(manifest) = document {
        match checks::space(root, manifest) {
            Ok((errors, warnings)) => {
                for (severity, found) in [(Severity::Error, errors), (Severity::Warning, warnings)] {
                    for reason in found {
                        report.add(Area::Config, severity, reason);
                    }
                }
            }
            Err(reasons) => report.refuse(Area::StateRoot, &reasons),
        }
    }
}

fn clock(root: &StateRoot, sight: Option<&Sight>, ask: &Ask<'_>, report: &mut Report) {
    for (severity, reason) in checks::clock(root, sight, ask.clock) {
        report.add(Area::Config, severity, reason);
    }
}

/// The operating system: recorded, known, or replaced.
fn os(
    root: &StateRoot,
    held: Option<&ActivationLock>,
    active: Option<&Active>,
    sight: &Sight,
    ask: &Ask<'_>,
    report: &mut Report,
) {
    let components = sight.now.components().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let changed = match &sight.verdict {
        Verdict::Replaced { changed, .. } => changed.clone(),
        Verdict::First { .. } | Verdict::Same { .. } => Vec::new(),
    };
    report.fingerprint =
        Some(Fingerprint { composite: sight.composite, components: components.collect(), changed: changed.clone() });
    report.boot_epoch = sight.epoch();
    let is_replaced = matches!(sight.verdict, Verdict::Replaced { .. });
    if is_replaced {
        report.add(Area::Reconstruction, Severity::Info, epoch::replaced(&changed));
    }
    // What the node runs cannot be told, so nothing can be rebuilt: that is told already.
    let unknown = active.is_none() && !matches!(root.current(), Ok(None));
    let Some(held) = held else {
        if is_replaced && !unknown {
            foresee(root, active, ask, report);
        }
        return;
    };
    if is_replaced && unknown {
        return;
    }
    match carry_out(root, held, active, sight, ask, report) {
        Ok(()) => {}
        Err((area, reasons)) => report.refuse(area, &reasons),
    }
}

type Failed = (Area, Reasons);

fn carry_out(
    root: &StateRoot,
    held: &ActivationLock,
    active: Option<&Active>,
    sight: &Sight,
    ask: &Ask<'_>,
    report: &mut Report,
) -> Result<(), Failed> {
    let of_root = |reasons| (Area::StateRoot, reasons);
    root.finish_certificates(held).map_err(|error| (Area::StateRoot, error.to_reason().into()))?;
    let mut records = {
        let about = active.map(|active| active.manifest.fingerprint());
        Records::open(root, ask.clock, ask.actor, about).map_err(of_root)?
    };
    if let Some(finding) = report.findings.iter().find(|finding| finding.code == Code::AssuranceReduced) {
        records.reduced(&finding.message).map_err(of_root)?;
    }
    if !matches!(sight.verdict, Verdict::Replaced { .. }) {
        if let Verdict::First { epoch: 2.. } = sight.verdict {
            // The record was lost: whether the system was replaced since cannot be told, and doing it again does no harm.
            let done = rebuild(root, active, ask).map_err(|reasons| (Area::Reconstruction, reasons))?;
            report.reconstructed = done.changed;
        }
        let is_new = epoch::record(root, held, sight, ask.clock).map_err(of_root)?;
        if let (true, Verdict::First { epoch } | Verdict::Same { epoch }) = (is_new, &sight.verdict) {
            records.recorded(*epoch, sight.composite).map_err(of_root)?;
        }
        if let Verdict::First { epoch } = sight.verdict {
            report.boot_epoch = Some(epoch);
        }
        return records.close().map_err(of_root);
    }
    root.settle_evidence(held).map_err(of_root)?;
    records.begin(report.fingerprint.as_ref()).map_err(of_root)?;
    let rebuilt = evidence::can_sign(root).and_then(|()| rebuild(root, active, ask));
    match rebuilt {
        Ok(done) => {
            let cause = Cause {
                manifest: active.map(|active| active.manifest.fingerprint()),
                plan_id: active.and_then(|active| plan_id(root, &active.generation)),
                files: done.files,
            };
            let epoch = match epoch::advance(root, held, sight, cause, ask.clock) {
                Ok(epoch) => epoch,
                Err(reasons) => {
                    let unrecorded = records.failed(&reasons).err();
                    return Err((Area::StateRoot, joined(reasons, unrecorded)));
                }
            };
            report.boot_epoch = Some(epoch);
            report.mended(Code::OsChanged, "nothing: what lies outside the state root is rebuilt");
            report.reconstructed = done.changed;
            records.done(epoch, &report.reconstructed).map_err(of_root)
        }
        Err(reasons) => {
            let unrecorded = records.failed(&reasons).err();
            Err((Area::Reconstruction, joined(reasons, unrecorded)))
        }
    }
}

/// Why it failed, and why that could not be recorded.
fn joined(reasons: Reasons, more: Option<Reasons>) -> Reasons {
    let Some(more) = more else { return reasons };
    let all = reasons.as_slice().iter().chain(more.as_slice()).cloned().collect();
    Reasons::new(all).unwrap_or(reasons)
}

fn rebuild(root: &StateRoot, active: Option<&Active>, ask: &Ask<'_>) -> Result<Rebuild, Reasons> {
    let Some(active) = active else { return Ok(Rebuild::default()) };
    let work = Reconstruction::new(root, &active.manifest, &active.generation, ask.platform)?;
    work.run(&mut |label| (ask.each_step)(label))
}

/// What would be done.
fn foresee(root: &StateRoot, active: Option<&Active>, ask: &Ask<'_>, report: &mut Report) {
    let Some(active) = active else { return };
    match Reconstruction::new(root, &active.manifest, &active.generation, ask.platform) {
        Ok(work) => {
            for reason in work.refusals() {
                report.add(Area::Reconstruction, Severity::Error, reason);
            }
            report.reconstructed = work.differences();
        }
        Err(reasons) => report.refuse(Area::Config, &reasons),
    }
}

/// The plan that made a generation active; `None` where none is kept, or it cannot be read.
fn plan_id(root: &StateRoot, generation: &Name) -> Option<Blake3> {
    let path = layout::in_generation(generation, &RelPath::fixed("plan.json"));
    let bytes = read_capped(root.disk(), &path, MAX_DERIVED_BYTES as u64).ok()??;
    document::parse::<PlanDoc>(&bytes).ok().map(|plan| plan.plan_id)
}
