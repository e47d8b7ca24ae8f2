//! The machine below: the root file system of the operating system, and the few programs that reconstruction asks.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use autonomy_schema::path::UnitName;
use autonomy_schema::{Reason, RelPath};
use autonomy_stateroot::{RealDisk, StateDisk};

use crate::exec::{self, CommandError};

/// How long a check or systemd may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What reconstruction works on: a machine, or a simulated disk in crash tests.
pub trait Platform {
    /// The root file system of the operating system.
    fn os(&self) -> &dyn StateDisk;
    /// Runs a check, which must exit 0. A relative program is taken from the artifacts of the active generation.
    fn check(&self, command: &[String]) -> Result<(), String>;
    /// Lets systemd judge a unit file; `Ok` where systemd is not there to be asked.
    fn verify_unit(&self, path: &RelPath) -> Result<(), String>;
    /// Lets a running systemd see these units, and starts those among them that are enabled.
    fn take_up(&self, changed: &[Installed]) -> Result<(), String>;
    /// Stops units whose files are gone, and lets a running systemd forget them.
    fn let_go(&self, units: &[UnitName]) -> Result<(), String>;
}

/// A unit that was put in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Its name.
    pub unit: UnitName,
    /// Whether it is enabled.
    pub is_enabled: bool,
}

/// The machine that this runs on, or an image of one that is mounted somewhere.
#[derive(Debug)]
pub struct SystemPlatform {
    os: RealDisk,
    os_root: PathBuf,
    artifacts: PathBuf,
}

impl SystemPlatform {
    /// The operating system whose root is `os_root` (`/` on a running node), with the artifacts of this state root.
    pub fn open(os_root: &Path, state_root: &Path) -> Result<Self, Reason> {
        let os = RealDisk::open(os_root).map_err(|error| error.to_reason())?;
        Ok(Self { os, os_root: os_root.to_owned(), artifacts: state_root.join("current").join("artifacts") })
    }

    fn is_running(&self) -> bool {
        self.os_root == Path::new("/")
    }

    /// Whether it runs under systemd: `sd_booted(3)`.
    fn has_systemd(&self) -> bool {
        self.is_running() && Path::new("/run/systemd/system").is_dir()
    }
}

/// Runs a program of systemd; `Ok` where it is not installed.
fn ask(program: &str, arguments: &[&OsStr]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments);
    match exec::run(command, program, TIMEOUT) {
        Ok(_) => Ok(()),
        Err(CommandError::Start { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

impl Platform for SystemPlatform {
    fn os(&self) -> &dyn StateDisk {
        &self.os
    }

    fn check(&self, command: &[String]) -> Result<(), String> {
        let Some((program, arguments)) = command.split_first() else { return Ok(()) };
        let mut command = if !program.starts_with('/') {
            let mut command = Command::new(self.artifacts.join(program));
            command.current_dir(&self.artifacts);
            command
        } else if self.is_running() {
            Command::new(program)
        } else {
            // The program is the image's, and so are its libraries and what it reads.
            let mut command = Command::new("chroot");
            command.arg(&self.os_root).arg(program);
            command
        };
        command.args(arguments);
        exec::run(command, program, TIMEOUT).map(drop).map_err(|error| error.to_string())
    }

    fn verify_unit(&self, path: &RelPath) -> Result<(), String> {
        let file = Path::new("/").join(path.as_str());
        let root = format!("--root={}", self.os_root.display());
        let mut arguments = vec![OsStr::new("verify"), OsStr::new("--man=no")];
        if !self.is_running() {
            arguments.push(OsStr::new(&root));
        }
        arguments.push(file.as_os_str());
        // Since systemd 250: what is wrong with this very unit is an error, and with others it is not.
        let strict: Vec<&OsStr> = arguments.iter().copied().chain([OsStr::new("--recursive-errors=no")]).collect();
        match ask("systemd-analyze", &strict) {
            Err(why) if why.contains("unrecognized option") => ask("systemd-analyze", &arguments),
            other => other,
        }
    }

    fn let_go(&self, units: &[UnitName]) -> Result<(), String> {
        if units.is_empty() || !self.has_systemd() {
            return Ok(());
        }
        let mut arguments = vec![OsStr::new("--no-ask-password"), OsStr::new("--no-block"), OsStr::new("stop")];
        arguments.extend(units.iter().map(|unit| OsStr::new(unit.as_str())));
        let stopped = ask("systemctl", &arguments);
        ask("systemctl", &[OsStr::new("daemon-reload")]).and(stopped)
    }

    fn take_up(&self, changed: &[Installed]) -> Result<(), String> {
        if changed.is_empty() || !self.has_systemd() {
            return Ok(());
        }
        ask("systemctl", &[OsStr::new("daemon-reload")])?;
        let enabled = changed.iter().filter(|it| it.is_enabled).map(|it| OsStr::new(it.unit.as_str()));
        // Without waiting: this may itself be what those units wait for.
        let mut arguments = vec![OsStr::new("--no-ask-password"), OsStr::new("--no-block"), OsStr::new("start")];
        arguments.extend(enabled);
        if arguments.len() == 3 { Ok(()) } else { ask("systemctl", &arguments) }
    }
}
