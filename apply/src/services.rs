//! Services and the health command after the switch: journaled one by one, each at least once.

use autonomy_precheck::Platform;
use autonomy_schema::journal::{Journal, Moment};
use autonomy_schema::manifest::{Health, Service, StateManifest};
use autonomy_schema::{Code, Name, Reason, Reasons, RelPath, document, set};
use autonomy_stateroot::{StateRoot, layout, read_capped};

use crate::observe::{Event, Observer};

/// The machine below: systemd, child processes and the kernel's clock on a node, a recorder in crash tests.
pub trait ServiceRunner {
    /// Runs one service of the generation that `current` points to; the error says what went wrong.
    fn run(&self, service: &Service) -> Result<(), String>;
    /// Runs the health command of the generation that `current` points to, within its limits.
    fn check(&self, health: &Health) -> Result<(), String>;
    /// Which boot this is, and how long it lasts already.
    fn moment(&self) -> Moment;
    /// The operating system, whose root file system reconstruction writes to.
    fn platform(&self) -> Result<Box<dyn Platform + '_>, Reason>;
}

/// Runs the health command; gives the reason when the release is not well.
pub(crate) fn check(health: &Health, runner: &dyn ServiceRunner, observer: &mut dyn Observer) -> Option<Reason> {
    let label = health.command.first().map_or("", String::as_str);
    observer.event(&Event::HealthStarted(label));
    match runner.check(health) {
        Ok(()) => {
            observer.event(&Event::HealthDone(label));
            None
        }
        Err(cause) => {
            let reason = Reason::new(Code::HealthFailed, format!("health command `{label}`: {cause}"));
            observer.event(&Event::HealthFailed(label, &reason));
            Some(reason)
        }
    }
}

/// Runs what the journal still lists, and writes it down after each. Gives the reason of the first failure.
pub(crate) fn run_listed(
    root: &StateRoot,
    journal: &mut Journal,
    runner: &dyn ServiceRunner,
    observer: &mut dyn Observer,
) -> Result<Option<Reason>, autonomy_stateroot::DiskError> {
    let services = journal.services.clone();
    let done = usize::try_from(journal.services_done).unwrap_or(usize::MAX);
    for service in services.iter().skip(done) {
        observer.event(&Event::ServiceStarted(service.label()));
        if let Err(cause) = runner.run(service) {
            let reason = Reason::new(Code::ServiceFailed, format!("`{}` failed: {cause}", service.label()));
            observer.event(&Event::ServiceFailed(service.label(), &reason));
            return Ok(Some(reason));
        }
        observer.event(&Event::ServiceDone(service.label()));
        journal.services_done += 1;
        root.write_journal(journal)?;
    }
    Ok(None)
}

/// After a return: the services of the generation that is active again, all of them, whatever each says. They ran
/// before, and there is nothing further back to return to.
pub(crate) fn rerun(root: &StateRoot, generation: &Name, runner: &dyn ServiceRunner, observer: &mut dyn Observer) {
    let Ok(manifest) = manifest_of(root, generation) else { return };
    for service in &manifest.spec.services {
        observer.event(&Event::ServiceStarted(service.label()));
        match runner.run(service) {
            Ok(()) => observer.event(&Event::ServiceDone(service.label())),
            Err(cause) => {
                let reason = Reason::new(Code::ServiceFailed, format!("`{}` failed: {cause}", service.label()));
                observer.event(&Event::ServiceFailed(service.label(), &reason));
            }
        }
    }
}

/// The manifest of a generation, as local state: it was verified before it came there.
fn manifest_of(root: &StateRoot, generation: &Name) -> Result<StateManifest, Reasons> {
    let path = layout::generation(generation).join(&RelPath::fixed(set::MANIFEST));
    let bytes =
        read_capped(root.disk(), &path, document::MAX_DOCUMENT_BYTES as u64).map_err(|error| error.to_reason())?;
    let bytes = bytes.ok_or_else(|| Reason::new(Code::CorruptState, format!("`{path}` is missing")))?;
    document::parse(&bytes)
}
