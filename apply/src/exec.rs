//! Services, the health command and systemd's answers: the only file of this crate that starts processes, by `precheck::exec`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use autonomy_precheck::exec::{LAST_WORDS, run};
use autonomy_precheck::{Platform, SystemPlatform};
use autonomy_schema::Reason;
use autonomy_schema::facts::DriftKind;
use autonomy_schema::journal::Moment;
use autonomy_schema::manifest::{Health, Service, ServiceAction};
use autonomy_schema::path::UnitName;
use nix::time::{ClockId, clock_gettime};

use crate::services::ServiceRunner;

/// How long a service may take to restart; systemd's own default for a start is 90 s.
pub const SERVICE_TIMEOUT: Duration = Duration::from_secs(120);
/// How the health command is started: by this very program, which sets limits, sees to its time and ends what it leaves
/// behind. What is set between fork and exec would be unsafe code.
const TRAMPOLINE: [&str; 2] = ["/proc/self/exe", "exec-limited"];
/// How much longer than the command the trampoline may take: its own start, and ending what the command left behind.
const TRAMPOLINE_GRACE: Duration = Duration::from_secs(15);

/// Runs services on this machine.
#[derive(Debug, Clone)]
pub struct SystemRunner {
    state_root: PathBuf,
    artifacts: PathBuf,
    os_root: PathBuf,
    timeout: Duration,
}

impl SystemRunner {
    /// Commands with a relative program are taken from the active generation of this state root.
    /// What lies outside the state root is rebuilt under `os_root`.
    pub fn new(state_root: &Path, os_root: &Path, timeout: Duration) -> Self {
        let artifacts = state_root.join("current").join("artifacts");
        Self { state_root: state_root.to_owned(), artifacts, os_root: os_root.to_owned(), timeout }
    }

    fn command(&self, service: &Service) -> Option<Command> {
        if let Some(unit) = &service.unit {
            let verb = match service.action? {
                ServiceAction::Restart => "restart",
                ServiceAction::Reload => "reload",
                ServiceAction::None => return None,
            };
            let mut command = Command::new("systemctl");
            command.args(["--no-ask-password", verb, unit.as_str()]);
            return Some(command);
        }
        let (program, arguments) = service.command.split_first()?;
        let mut command = Command::new(self.artifacts.join(program));
        command.args(arguments).current_dir(&self.artifacts);
        Some(command)
    }
}

impl ServiceRunner for SystemRunner {
    fn run(&self, service: &Service) -> Result<(), String> {
        let Some(command) = self.command(service) else { return Ok(()) };
        run(command, service.label(), self.timeout).map(drop).map_err(|error| error.to_string())
    }

    fn check(&self, health: &Health) -> Result<(), String> {
        let Some((program, arguments)) = health.command.split_first() else { return Ok(()) };
        let limit = Duration::from_millis(health.timeout.millis());
        let mut command = Command::new(TRAMPOLINE[0]);
        command
            .arg(TRAMPOLINE[1])
            .arg("--parent")
            .arg(std::process::id().to_string())
            .arg("--timeout-ms")
            .arg(limit.as_millis().to_string())
            .arg("--");
        command.arg(self.artifacts.join(program)).args(arguments).current_dir(&self.artifacts);
        let result = run(command, program, limit.saturating_add(TRAMPOLINE_GRACE));
        result.map(drop).map_err(|error| error.to_string())
    }

    fn moment(&self) -> Moment {
        moment()
    }

    fn platform(&self) -> Result<Box<dyn Platform + '_>, Reason> {
        Ok(Box::new(SystemPlatform::open(&self.os_root, &self.state_root)?))
    }
}

/// Which boot this is, and how long it lasts, sleep included. Nobody can set that clock.
fn moment() -> Moment {
    let elapsed = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
    Moment {
        boot_id: autonomy_stateroot::lock::boot_id(),
        // The kernel has had this clock since 2.6.39; without it every look would be the beginning of the boot.
        elapsed_ms: elapsed.map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// How long systemd may take to say how a unit is.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// How a unit differs from running, as systemd sees it, for the facts of a node. `None` when it runs, when systemd is
/// not the init of this system (`sd_booted(3)`), or when it does not answer: an unknown state is no difference.
pub fn unit_state(unit: &UnitName) -> Option<(DriftKind, String)> {
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    let mut command = Command::new("systemctl");
    command.args(["show", "--property=LoadState,ActiveState,Type", "--", unit.as_str()]);
    let said = run(command, "systemctl show", ASK_TIMEOUT).ok()??;
    state_of(&said.recv_timeout(LAST_WORDS).ok()?)
}

/// Reads `systemctl show`. A `oneshot` that is done is inactive, and that is as it should be.
fn state_of(properties: &str) -> Option<(DriftKind, String)> {
    let value = |name: &str| properties.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    match (value("LoadState")?, value("ActiveState")?, value("Type")) {
        ("not-found", ..) => Some((DriftKind::Missing, "no such unit".to_owned())),
        (_, "failed", _) => Some((DriftKind::Failed, "failed".to_owned())),
        (_, "inactive", kind) if kind != Some("oneshot") => Some((DriftKind::Stopped, "inactive".to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(command: &[&str]) -> Service {
        Service { unit: None, action: None, command: command.iter().map(|&word| word.to_owned()).collect() }
    }

    #[test]
    fn a_unit_that_does_not_run_is_a_difference_and_an_unknown_state_is_none() {
        let state = |load: &str, active: &str, kind: &str| {
            state_of(&format!("Type={kind}\nLoadState={load}\nActiveState={active}\n")).map(|(kind, _)| kind)
        };
        assert_eq!(state("loaded", "active", "simple"), None);
        assert_eq!(state("loaded", "activating", "notify"), None);
        assert_eq!(state("loaded", "inactive", "simple"), Some(DriftKind::Stopped));
        assert_eq!(state("loaded", "inactive", "oneshot"), None);
        assert_eq!(state("loaded", "failed", "oneshot"), Some(DriftKind::Failed));
        assert_eq!(state("not-found", "inactive", ""), Some(DriftKind::Missing));
        assert_eq!(state_of("Failed to connect to bus"), None);
    }

    #[test]
    fn a_command_runs_fails_with_its_output_or_is_killed_with_its_children() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::create_dir_all(folder.path().join("current/artifacts")).expect("artifacts");
        let runner = SystemRunner::new(folder.path(), Path::new("/"), Duration::from_millis(300));
        assert_eq!(runner.run(&service(&["/bin/sh", "-c", "test -z \"$HOME\""])), Ok(()));
        let failed = runner.run(&service(&["/bin/sh", "-c", "echo no disk >&2; exit 3"])).expect_err("fails");
        assert!(failed.contains("no disk") && failed.contains("exit status: 3"), "{failed}");
        let killed = runner.run(&service(&["/bin/sh", "-c", "sleep 60"])).expect_err("too slow");
        assert!(killed.contains("was killed"), "{killed}");
        let absent = runner.run(&service(&["bin/absent"])).expect_err("absent");
        assert!(absent.contains("cannot start"), "{absent}");
    }
}
