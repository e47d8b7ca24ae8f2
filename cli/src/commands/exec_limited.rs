//! `autonomy exec-limited`: the trampoline that the health command is started through. It is no verb for people.
//!
//! What a process inherits must be set by its parent, and setting it between fork and exec is unsafe code; so this
//! program is started again, sets the limits on itself, and starts the command. It stays to see to the time, and as
//! the reaper of everything that the command leaves behind: a health command that forks away is ended with the rest.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getppid};

use crate::ui;

/// As timeout(1) says it.
const TIMED_OUT: u8 = 124;
/// As shells say that a command could not be started.
const NOT_STARTED: u8 = 127;
/// How often the command is looked at.
const POLL: Duration = Duration::from_millis(10);
/// How long ending what was left behind may take.
const SWEEP: Duration = Duration::from_secs(5);
/// A check writes no large files.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Memory of one process of the check.
const MAX_DATA_BYTES: u64 = 1 << 30;
/// Open files of one process of the check.
const MAX_OPEN_FILES: u64 = 1024;

/// Start a command within limits.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The process that asks; without it nobody would hear the answer.
    #[arg(long)]
    parent: i32,
    /// How long it may take.
    #[arg(long)]
    timeout_ms: u64,
    /// The command.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> u8 {
    let ended = Arc::new(AtomicBool::new(false));
    if let Err(error) = prepare(&ended) {
        ui::err(&format!("cannot set the limits of the health command: {error}\n"));
        return NOT_STARTED;
    }
    // The bond holds from here on; who died before it was tied sends no signal any more.
    if getppid().as_raw() != args.parent {
        return NOT_STARTED;
    }
    let Some((program, arguments)) = args.command.split_first() else { return NOT_STARTED };
    let code = match Command::new(program).args(arguments).process_group(0).spawn() {
        Ok(child) => watch(child, Duration::from_millis(args.timeout_ms), &ended),
        Err(error) => {
            ui::err(&ui::printable(&format!("cannot start {}: {error}\n", program.display())));
            NOT_STARTED
        }
    };
    sweep();
    code
}

/// Limits, and the bond to the process that asked: when that dies, SIGTERM comes.
fn prepare(ended: &Arc<AtomicBool>) -> Result<(), Errno> {
    let failed = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(ended)).map_err(failed)?;
    }
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    prctl::set_child_subreaper(true)?;
    for (resource, wanted) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_FSIZE, MAX_FILE_BYTES),
        (Resource::RLIMIT_DATA, MAX_DATA_BYTES),
        (Resource::RLIMIT_NOFILE, MAX_OPEN_FILES),
    ] {
        let (_, hard) = getrlimit(resource)?;
        let limit = wanted.min(hard);
        setrlimit(resource, limit, limit)?;
    }
    Ok(())
}

/// Waits within the limit.
fn watch(mut child: Child, limit: Duration, ended: &AtomicBool) -> u8 {
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return code_of(status),
            Ok(None) => {}
            Err(error) => {
                ui::err(&format!("cannot wait for the health command: {error}\n"));
                return NOT_STARTED;
            }
        }
        if started.elapsed() > limit {
            ui::err(&format!("it took longer than {} ms and was killed\n", limit.as_millis()));
            return TIMED_OUT;
        }
        if ended.load(Ordering::Relaxed) {
            return TIMED_OUT;
        }
        std::thread::sleep(POLL);
    }
}

fn code_of(status: ExitStatus) -> u8 {
    if let Some(signal) = status.signal() {
        ui::err(&format!("it was ended by signal {signal}\n"));
        return u8::try_from(128 + signal).unwrap_or(u8::MAX);
    }
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Kills and reaps everything that is still below this process, whatever group or session it went to.
fn sweep() {
    let started = Instant::now();
    while started.elapsed() < SWEEP {
        for pid in descendants() {
            kill(pid, Signal::SIGKILL).ok();
        }
        loop {
            match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Err(_no_more) => return,
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) => {}
            }
        }
        std::thread::sleep(POLL);
    }
    ui::err("the health command left processes behind that could not be ended\n");
}

/// Every process below this one, as `/proc` shows it now.
fn descendants() -> Vec<Pid> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name of the program stands in brackets and may hold blanks and brackets.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut todo = vec![i32::try_from(std::process::id()).unwrap_or(0)];
    while let Some(parent) = todo.pop() {
        for pid in children.remove(&parent).unwrap_or_default() {
            found.push(Pid::from_raw(pid));
            todo.push(pid);
        }
    }
    found
}
