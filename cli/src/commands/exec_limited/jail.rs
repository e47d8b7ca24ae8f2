//! What a command of `tool.shell` is shut into, beside the limits of every command: another user where root asks, namespaces
//! and Landlock where the kernel has them, a session of its own, an empty environment.
//!
//! The trampoline sets what its child inherits; then this program is started once more, as the child, shuts itself in and
//! becomes the command: the trampoline itself must still see `/proc` and end what is left.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _,
};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, getegid, geteuid, setgid, setgroups, setsid, setuid};

/// Processes and threads of a command.
const MAX_TASKS: u64 = 32;
/// Memory of one process.
pub(super) const MAX_DATA_BYTES: u64 = 256 << 20;
/// Resident memory of all of its processes.
pub(super) const MAX_RESIDENT_BYTES: u64 = 512 << 20;
/// A command writes files for an agent, not disks full.
pub(super) const MAX_FILE_BYTES: u64 = 16 << 20;
/// Time on the processor of one process; the wall clock ends all of them sooner.
const MAX_CPU_SECONDS: u64 = 10;
/// Where commands are looked for.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// What a command may read and run, besides its own folder.
const READABLE: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt"];
/// Devices that it may use.
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"];
/// The newest Landlock that is asked for; an older kernel enforces what it knows.
const LANDLOCK: ABI = ABI::V5;

/// In the trampoline: becomes the owner of the folder, and makes the namespaces that the command will live in.
pub(super) fn prepare(folder: &Path) -> io::Result<()> {
    // Before the user changes, who may not get there by its path.
    std::env::set_current_dir(folder)?;
    let metadata = fs::metadata(".")?;
    if geteuid().is_root() {
        if metadata.uid() == 0 {
            return Err(io::Error::other("the folder belongs to root, and commands never run as root"));
        }
        setgroups(&[])?;
        setgid(Gid::from_raw(metadata.gid()))?;
        setuid(Uid::from_raw(metadata.uid()))?;
        // Else the maps below would still belong to root.
        prctl::set_dumpable(true)?;
    }
    prctl::set_no_new_privs()?;
    let (uid, gid) = (geteuid(), getegid());
    let apart =
        CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC;
    let used = match unshare(apart) {
        Ok(()) => {
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
            fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
            // A namespace counts anew.
            0
        }
        // Where the system forbids them, the limits are what remains.
        Err(_forbidden) => tasks_of(uid),
    };
    setrlimit(Resource::RLIMIT_NPROC, used + MAX_TASKS, used + MAX_TASKS)?;
    setrlimit(Resource::RLIMIT_CPU, MAX_CPU_SECONDS, MAX_CPU_SECONDS)?;
    Ok(())
}

/// Tasks that a user has now: its limit counts them all.
fn tasks_of(uid: Uid) -> u64 {
    let mut tasks = 0;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let is_own = entry.metadata().is_ok_and(|metadata| metadata.uid() == uid.as_raw());
        if is_own && entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()) {
            tasks += fs::read_dir(entry.path().join("task")).map_or(0, |tasks| tasks.count() as u64);
        }
    }
    tasks
}

/// In the trampoline: this program once more, to become the command.
pub(super) fn inner(folder: &Path, program: &std::ffi::OsStr, arguments: &[std::ffi::OsString]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["exec-limited", "--parent", "0", "--timeout-ms", "0", "--confine"])
        .arg(folder)
        .arg("--")
        .arg(program);
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// In the child: shuts itself in and becomes the command. It comes back only with why that failed.
pub(super) fn become_command(folder: &Path, program: &std::ffi::OsStr, arguments: &[std::ffi::OsString]) -> io::Error {
    let confined = setsid().map_err(io::Error::from).and_then(|_session| confine());
    if let Err(error) = confined {
        return error;
    }
    Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .env("HOME", folder)
        .exec()
}

/// Landlock: the folder that the trampoline went to is the command's, programs and libraries may be read and run, nothing else is there.
fn confine() -> io::Result<()> {
    let all = AccessFs::from_all(LANDLOCK);
    let read = AccessFs::from_read(LANDLOCK);
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(all);
    let mut ruleset = ruleset.and_then(Ruleset::create).map_err(io::Error::other)?;
    let devices = DEVICES.into_iter().map(|path| (path, (AccessFs::ReadFile | AccessFs::WriteFile) & all));
    let rules = READABLE.into_iter().map(|path| (path, read)).chain(devices);
    for (path, access) in rules {
        // A system has some of them.
        if let Ok(opened) = PathFd::new(path) {
            ruleset = ruleset.add_rule(PathBeneath::new(opened, access)).map_err(io::Error::other)?;
        }
    }
    let own = PathFd::new(".").map_err(io::Error::other)?;
    let ruleset = ruleset.add_rule(PathBeneath::new(own, all)).map_err(io::Error::other)?;
    ruleset.restrict_self().map(drop).map_err(io::Error::other)
}
