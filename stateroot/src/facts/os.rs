//! What the node runs on: the kernel by `uname`, the distribution by os-release(5). Empty where nothing says it.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::Path;

use autonomy_schema::Blake3;
use autonomy_schema::os::{OsFacts, boot_parameters};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::at;

/// How often a file is tried again that something in the way made fail.
const MAX_TRIES: u32 = 32;

/// Longest platform file that is read.
const MAX_BYTES: u64 = 64 << 10;

/// The facts under `os_root`; `/` is the running system, anything else a folder that looks like one.
pub fn os_facts(os_root: &Path) -> OsFacts {
    let read = |path: &str| read_below(os_root, path).unwrap_or_default();
    let release = [read("etc/os-release"), read("usr/lib/os-release")].into_iter().find(|text| !text.is_empty());
    let release = release.unwrap_or_default();
    let (kernel, machine) = if os_root == Path::new("/") {
        let uname = rustix::system::uname();
        (uname.release().to_string_lossy().into_owned(), uname.machine().to_string_lossy().into_owned())
    } else {
        let line = |path| read(path).trim().to_owned();
        (line("proc/sys/kernel/osrelease"), line("proc/sys/kernel/arch"))
    };
    let build = [field(&release, "BUILD_ID"), field(&release, "IMAGE_VERSION")].into_iter().find(|id| !id.is_empty());
    OsFacts {
        kernel,
        machine,
        id: field(&release, "ID"),
        version_id: field(&release, "VERSION_ID"),
        build_id: build.unwrap_or_default(),
        machine_id: machine_id(&read("etc/machine-id")),
        boot_parameters: boot_parameters(&read("proc/cmdline")),
    }
}

/// A digest of the machine's id. The id itself identifies the machine to others, so machine-id(5) asks to show none.
fn machine_id(text: &str) -> String {
    let id = text.trim();
    if id.is_empty() {
        return String::new();
    }
    let digest = blake3::derive_key("autonomy 2026-11 machine-id of an OS fingerprint", id.as_bytes());
    Blake3::from_bytes(digest).to_string()
}

/// Reads a file whose links are followed within `os_root`: `etc/os-release` is one.
fn read_below(os_root: &Path, path: &str) -> Option<String> {
    let root = at::open_root(os_root, true).ok()?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut opened = Err(Errno::AGAIN);
    for _ in 0..MAX_TRIES {
        opened = rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), ResolveFlags::IN_ROOT);
        // Something is mounted or renamed meanwhile, as it is at boot.
        if !matches!(opened, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    let mut bytes = Vec::new();
    File::from(opened.ok()?).take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A field of os-release; the shell quotes that it may carry are taken off.
fn field(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let value = line.unwrap_or_default().trim();
    let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    quoted.unwrap_or(value).replace('\\', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_fields_lose_their_quotes() {
        let text = "NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\nID_LIKE='x'\n";
        assert_eq!(field(text, "ID"), "debian");
        assert_eq!(field(text, "VERSION_ID"), "12");
        assert_eq!(field(text, "ID_LIKE"), "x");
        assert_eq!(field(text, "BUILD_ID"), "");
    }
}
