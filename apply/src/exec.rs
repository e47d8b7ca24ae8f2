//! Starting processes: the only file of this crate that does. Argument vectors, no shell, a bare environment, a time
//! limit and a cap on what is kept of the output.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use autonomy_schema::facts::DriftKind;
use autonomy_schema::journal::Moment;
use autonomy_schema::manifest::{Health, Service, ServiceAction};
use autonomy_schema::path::UnitName;
use nix::sys::signal::{Signal, killpg};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::services::ServiceRunner;

/// How long a service may take to restart; systemd's own default for a start is 90 s.
pub const SERVICE_TIMEOUT: Duration = Duration::from_secs(120);
/// How much of the output is kept for the reason.
const OUTPUT_CAP: u64 = 4096;
/// How often a child is asked whether it is done.
const POLL: Duration = Duration::from_millis(10);
/// How long a failed command's pipe may stay open: a child of its own may hold it for ever.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How the health command is started: by this very program, which sets limits, sees to its time and ends what it leaves
/// behind. What is set between fork and exec would be unsafe code.
const TRAMPOLINE: [&str; 2] = ["/proc/self/exe", "exec-limited"];
/// How much longer than the command the trampoline may take: its own start, and ending what the command left behind.
const TRAMPOLINE_GRACE: Duration = Duration::from_secs(15);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("cannot start `{program}`: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It took too long and was killed.
    #[error("`{program}` took longer than {seconds} s and was killed")]
    Timeout {
        /// The program.
        program: String,
        /// The limit.
        seconds: u64,
    },
    /// It said no.
    #[error("`{program}` ended with {status}{output}")]
    Failed {
        /// The program.
        program: String,
        /// Exit code or signal.
        status: ExitStatus,
        /// The end of its output, on a line of its own.
        output: String,
    },
}

/// Runs services on this machine.
#[derive(Debug, Clone)]
pub struct SystemRunner {
    artifacts: PathBuf,
    timeout: Duration,
}

impl SystemRunner {
    /// Commands with a relative program are taken from the active generation of this state root.
    pub fn new(state_root: &Path, timeout: Duration) -> Self {
        Self { artifacts: state_root.join("current").join("artifacts"), timeout }
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

/// Runs to the end, within the limit; gives the end of what it wrote to stdout.
fn run(mut command: Command, program: &str, timeout: Duration) -> Result<Option<Receiver<String>>, CommandError> {
    command.env_clear().env("PATH", PATH).env("LANG", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that a time-out ends its children too.
    command.process_group(0);
    let start = |source| CommandError::Start { program: program.to_owned(), source };
    let mut child = command.spawn().map_err(start)?;
    let [out, err] = [child.stdout.take().map(keep_end), child.stderr.take().map(keep_end)];
    let status = wait(&mut child, timeout).map_err(start)?;
    let Some(status) = status else {
        return Err(CommandError::Timeout { program: program.to_owned(), seconds: timeout.as_secs() });
    };
    if status.success() {
        return Ok(out);
    }
    let mut output = String::new();
    for text in [out, err].into_iter().flatten().filter_map(|reader| reader.recv_timeout(LAST_WORDS).ok()) {
        // What steers a terminal is no reason, and would be escaped at six times its length.
        let text: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
        if !text.trim().is_empty() {
            output.push_str("; it said: ");
            output.push_str(text.trim());
        }
    }
    Err(CommandError::Failed { program: program.to_owned(), status, output })
}

/// Reads a pipe to its end so that the child never blocks, and keeps the last bytes.
fn keep_end(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let cap = usize::try_from(OUTPUT_CAP).unwrap_or(usize::MAX);
        let mut kept = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count) = pipe.read(&mut buffer) {
            if count == 0 {
                break;
            }
            kept.extend_from_slice(&buffer[..count]);
            let excess = kept.len().saturating_sub(cap);
            kept.drain(..excess);
        }
        // Nobody listens after a success.
        sender.send(String::from_utf8_lossy(&kept).into_owned()).ok();
    });
    receiver
}

/// Waits within the limit; `None` after it, with the whole group killed.
fn wait(child: &mut Child, timeout: Duration) -> std::io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() > timeout {
            if let Ok(pid) = i32::try_from(child.id()) {
                // The group may be gone already; the wait below tells.
                killpg(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
            child.kill().ok();
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(POLL);
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
        let runner = SystemRunner::new(folder.path(), Duration::from_millis(300));
        assert_eq!(runner.run(&service(&["/bin/sh", "-c", "test -z \"$HOME\""])), Ok(()));
        let failed = runner.run(&service(&["/bin/sh", "-c", "echo no disk >&2; exit 3"])).expect_err("fails");
        assert!(failed.contains("no disk") && failed.contains("exit status: 3"), "{failed}");
        let killed = runner.run(&service(&["/bin/sh", "-c", "sleep 60"])).expect_err("too slow");
        assert!(killed.contains("was killed"), "{killed}");
        let absent = runner.run(&service(&["bin/absent"])).expect_err("absent");
        assert!(absent.contains("cannot start"), "{absent}");
    }
}
