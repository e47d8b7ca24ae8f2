//! `autonomy exec-limited`: the trampoline that the health command and commands of `tool.shell` are started through. It is no
//! verb for people.
//!
//! What a process inherits must be set by its parent, and setting it between fork and exec is unsafe code; so this
//! program is started again, sets the limits on itself, and starts the command. It stays to see to the time, and as
//! the reaper of everything that the command leaves behind: a health command that forks away is ended with the rest.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use autonomy_runtime::tools::{NOT_STARTED, OVER, TIMED_OUT, TOO_MUCH};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getppid};

use crate::ui;

mod jail;

/// How often the command is looked at.
const POLL: Duration = Duration::from_millis(10);
/// So many looks lie between two at its memory.
const RESIDENT_LOOKS: u32 = 5;
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
    /// The folder of a command of `tool.shell`, which is shut into it.
    #[arg(long)]
    jail: Option<PathBuf>,
    /// Be that command: the trampoline starts itself with this.
    #[arg(long)]
    confine: Option<PathBuf>,
    /// The command.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> u8 {
    let Some((program, arguments)) = args.command.split_first() else { return NOT_STARTED };
    if let Some(folder) = &args.confine {
        let error = jail::become_command(folder, program, arguments);
        ui::err(&ui::printable(&format!("cannot start {}: {error}\n", program.display())));
        return NOT_STARTED;
    }
    // What is set for a command binds this process too, which must still be able to end it.
    if let Some(Err(error)) = args.jail.as_deref().map(jail::prepare) {
        ui::err(&format!("cannot shut the command in: {error}\n"));
        return NOT_STARTED;
    }
    let ended = Arc::new(AtomicBool::new(false));
    if let Err(error) = prepare(&ended, args.jail.is_some()) {
        ui::err(&format!("cannot set the limits of the command: {error}\n"));
        return NOT_STARTED;
    }
    // The bond holds from here on; who died before it was tied sends no signal any more.
    if getppid().as_raw() != args.parent {
        return NOT_STARTED;
    }
    let mut command = if let Some(folder) = &args.jail {
        jail::inner(folder, program, arguments)
    } else {
        let mut command = Command::new(program);
        command.args(arguments).process_group(0);
        command
    };
    let resident = args.jail.as_ref().map(|_| jail::MAX_RESIDENT_BYTES);
    let code = match command.spawn() {
        Ok(child) => watch(child, Duration::from_millis(args.timeout_ms), resident, &ended),
        Err(error) => {
            ui::err(&ui::printable(&format!("cannot start {}: {error}\n", program.display())));
            NOT_STARTED
        }
    };
    sweep();
    code
}

/// Limits, and the bond to the process that asked: when that dies, SIGTERM comes.
fn prepare(ended: &Arc<AtomicBool>, is_jail: bool) -> Result<(), Errno> {
    let failed = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(ended)).map_err(failed)?;
    }
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    prctl::set_child_subreaper(true)?;
    let (file_bytes, data_bytes) =
        if is_jail { (jail::MAX_FILE_BYTES, jail::MAX_DATA_BYTES) } else { (MAX_FILE_BYTES, MAX_DATA_BYTES) };
    for (resource, wanted) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_FSIZE, file_bytes),
        (Resource::RLIMIT_DATA, data_bytes),
        (Resource::RLIMIT_NOFILE, MAX_OPEN_FILES),
    ] {
        let (_, hard) = getrlimit(resource)?;
        let limit = wanted.min(hard);
        setrlimit(resource, limit, limit)?;
    }
    Ok(())
}

/// Waits within the limit.
fn watch(mut child: Child, limit: Duration, resident: Option<u64>, ended: &AtomicBool) -> u8 {
    let started = Instant::now();
    let mut looks = 0u32;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return code_of(status),
            Ok(None) => {}
            Err(error) => {
                ui::err(&format!("cannot wait for the command: {error}\n"));
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
        looks = looks.wrapping_add(1);
        // Every process has a limit of its own; together they are looked at now and then.
        if looks.is_multiple_of(RESIDENT_LOOKS) && resident.is_some_and(|most| resident_bytes() > most) {
            ui::err(OVER);
            return TOO_MUCH;
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
    ui::err("the command left processes behind that could not be ended\n");
}

/// Resident bytes of every process below this one.
fn resident_bytes() -> u64 {
    let of = |pid: Pid| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) << 10
    };
    descendants().into_iter().map(of).sum()
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
