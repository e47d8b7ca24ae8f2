//! INV-01: a state root lies on a local file system, belongs to the user that runs, and nobody else may write to it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use autonomy_schema::{Code, Reason, Reasons, RelPath};

use crate::at;
use crate::disk::{DiskError, FileKind, Query};
use crate::layout;
use crate::real::{RealDisk, fs_magic};

/// File systems on which another machine may hold the same state, or whose locks and renames are only asked for
/// across a network (`statfs(2)`, `linux/magic.h` and the sources of those outside the kernel). FUSE is among them
/// as `sshfs`, `GlusterFS` and virtiofs look like it.
pub const REFUSED_FILE_SYSTEMS: [(u64, &str); 22] = [
    (0x6969, "NFS"),
    (0xFF53_4D42, "CIFS"),
    (0x517B, "SMB"),
    (0xFE53_4D42, "SMB2"),
    (0x00C3_6400, "Ceph"),
    (0x0116_1970, "GFS2"),
    (0x7461_636F, "OCFS2"),
    (0x5346_414F, "AFS"),
    (0x6B41_4653, "kAFS"),
    (0x7375_7245, "Coda"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x0BD0_0BD0, "Lustre"),
    (0x1983_0326, "BeeGFS"),
    (0x4750_4653, "GPFS"),
    (0x2003_0528, "OrangeFS"),
    (0xAAD7_AAEA, "PanFS"),
    (0x6163_6673, "ACFS"),
    (0xBEEF_DEAD, "SNFS"),
    (0x564C, "NCP"),
    (0x786F_4256, "VirtualBox shared folders"),
    (0xBACB_ACBC, "VMware shared folders"),
];

/// Opens the folder at `path` and checks that it may hold a state root, whether or not it is one yet. `fs_magic`
/// stands in for what `statfs` says, for tests.
pub fn check(path: &Path, fs_magic: Option<u64>) -> Result<RealDisk, Reasons> {
    let disk = RealDisk::open(path).map_err(|error| not_opened(path, &error))?;
    let mut reasons = Vec::new();
    let shown = path.display();
    let mut unsafe_because = |why: String| reasons.push(Reason::new(Code::StateRootUnsafe, why));
    match file_system(disk.fd(), fs_magic) {
        Ok(None) => {}
        Ok(Some(name)) => unsafe_because(format!("`{shown}` is on {name}; a state root needs a local file system")),
        Err(error) => unsafe_because(format!("`{shown}` does not say what file system it is on: {error}")),
    }
    match at::owner(disk.fd()) {
        Ok((owner, mode)) => {
            let user = rustix::process::geteuid().as_raw();
            if owner != user {
                unsafe_because(format!("`{shown}` belongs to user {owner}, and this runs as user {user}"));
            }
            if mode & 0o022 != 0 {
                unsafe_because(format!("`{shown}` has mode {mode:04o}, so others may write to it"));
            }
        }
        Err(error) => unsafe_because(format!("`{shown}` does not say who owns it: {error}")),
    }
    reasons.extend(strange_folders(&disk).map_err(|error| Reasons::from(error.to_reason()))?);
    Reasons::check(reasons)?;
    Ok(disk)
}

/// The name of the file system when it is a refused one.
fn file_system(fd: BorrowedFd<'_>, injected: Option<u64>) -> io::Result<Option<&'static str>> {
    let magic = injected.map_or_else(|| fs_magic(fd), Ok)?;
    Ok(REFUSED_FILE_SYSTEMS.iter().find(|(refused, _)| *refused == magic).map(|(_, name)| *name))
}

/// Well-known folders that are links, files, or mounts: what is written there would land elsewhere.
fn strange_folders(disk: &RealDisk) -> Result<Vec<Reason>, DiskError> {
    let home = at::stat_fd(disk.fd().as_fd()).map_err(|source| DiskError::new("look at", ".", source))?.identity.dev;
    let mut reasons = Vec::new();
    for folder in layout::TOP_FOLDERS {
        let why = match disk.stat(&RelPath::fixed(folder)) {
            Ok(Some(stat)) if stat.kind != FileKind::Dir => "is not a folder, but a link or a file",
            Ok(Some(stat)) if stat.identity.dev != home => "is on another file system than the state root",
            Ok(None | Some(_)) => continue,
            // `trust/nodes` below a `trust` that is itself a link: told once, for `trust`.
            Err(error) if error.source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => continue,
            Err(error) if error.source.kind() == io::ErrorKind::NotADirectory => continue,
            Err(error) => return Err(error),
        };
        let remedy = "put the folder itself there; a state root is one tree on one file system";
        reasons.push(Reason::new(Code::StateRootUnsafe, format!("`{folder}` {why}")).with_remedy(remedy));
    }
    Ok(reasons)
}

fn not_opened(path: &Path, error: &DiskError) -> Reasons {
    let shown = path.display();
    if error.is_not_found() {
        return Reason::new(Code::NotInitialized, format!("`{shown}` does not exist")).into();
    }
    // Opening a link without following it says ENOTDIR, as a folder was asked for.
    let link = path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    if link {
        let reason = Reason::new(Code::StateRootUnsafe, format!("`{shown}` is a symbolic link"));
        let real = path.canonicalize().map_or_else(|_| "the folder".to_owned(), |real| format!("`{}`", real.display()));
        return reason.with_remedy(format!("name {real} itself")).into();
    }
    if error.source.kind() == io::ErrorKind::NotADirectory {
        return Reason::new(Code::StateRootUnsafe, format!("`{shown}` is not a folder")).into();
    }
    error.to_reason().into()
}
