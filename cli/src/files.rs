//! Files that the operator names: read with a cap, written whole or not at all.
//!
//! Deliberately absent: the state root (crate `stateroot`) and syncing; what is written here can be made again.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use autonomy_schema::{Code, Mode};

use crate::failure::Failure;

/// Opens a regular file for reading. A pipe or device is an error and is never waited for.
pub(crate) fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok((file, metadata.len()))
}

/// Reads a regular file of at most `cap` bytes; nothing beyond the cap is read.
pub(crate) fn read(path: &Path, cap: u64) -> Result<Vec<u8>, Failure> {
    let (file, _size) = open_regular(path).map_err(|error| Failure::io("read", path, &error))?;
    read_open(file, path, cap)
}

fn read_open(file: File, path: &Path, cap: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = file.take(cap.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| Failure::io("read", path, &error))?;
    if bytes.len() as u64 > cap {
        let message = format!("{} has more than {cap} bytes, the most that is read of it", path.display());
        return Err(Failure::because(Code::DocumentTooLarge, message));
    }
    Ok(bytes)
}

/// Reads a file that only its owner may read, such as a private key; `exposed` is the code when others may too.
pub(crate) fn read_private(path: &Path, cap: u64, exposed: Code) -> Result<Vec<u8>, Failure> {
    let (file, _size) = open_regular(path).map_err(|error| Failure::io("read", path, &error))?;
    let mode = file.metadata().map_err(|error| Failure::io("read", path, &error))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        let message = format!("{} has mode {mode:04o}: others may read or write it; run chmod 0600", path.display());
        return Err(Failure::because(exposed, message));
    }
    read_open(file, path, cap)
}

/// As [`read`], but a file that does not exist is `None`.
pub(crate) fn read_if_there(path: &Path, cap: u64) -> Result<Option<Vec<u8>>, Failure> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        _ => read(path, cap).map(Some),
    }
}

/// Creates a file that must not exist; one that cannot be written whole is removed again.
pub(crate) fn create_new(path: &Path, bytes: &[u8], mode: Mode) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode.bits()).open(path);
    let mut file = opened.map_err(|error| Failure::io("create", path, &error))?;
    let written = file.write_all(bytes).and_then(|()| file.set_permissions(Permissions::from_mode(mode.bits())));
    written.map_err(|error| {
        std::fs::remove_file(path).ok();
        Failure::io("write", path, &error)
    })
}

/// Replaces a file, or makes it: readers see the old bytes or the new ones.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let Some(name) = path.file_name() else {
        return Err(Failure::Usage(format!("{} is not the name of a file", path.display())));
    };
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside: PathBuf = path.with_file_name(beside);
    std::fs::remove_file(&beside).ok();
    create_new(&beside, bytes, Mode::FILE)?;
    std::fs::rename(&beside, path).map_err(|error| {
        std::fs::remove_file(&beside).ok();
        Failure::io("write", path, &error)
    })
}

/// Refuses a path that is taken.
pub(crate) fn must_not_exist(path: &Path, why: &str) -> Result<(), Failure> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::io("look at", path, &error)),
        Ok(_) => Err(Failure::Usage(format!("{} exists; {why}", path.display()))),
    }
}
