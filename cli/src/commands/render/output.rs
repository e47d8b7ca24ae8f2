//! The set's folder: built beside its place, moved there whole. What it replaces must be an earlier set.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use autonomy_schema::document::MAX_DOCUMENT_BYTES;
use autonomy_schema::{Mode, set};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::failure::Failure;
use crate::files;

/// Most entries of `roots/` that are carried over.
const MAX_ROOTS: usize = 1000;

/// Which signatures of an earlier set still hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// Those over the manifest.
    pub(super) manifest: bool,
    /// Those over the lock.
    pub(super) lock: bool,
}

/// A folder in the making; it goes away unless it is committed.
pub(super) struct Staging {
    folder: PathBuf,
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a commit this is the set that was replaced, or nothing.
        if let Err(error) = std::fs::remove_dir_all(&self.folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %self.folder.display(), %error, "cannot remove the temporary folder");
        }
    }
}

impl Staging {
    /// Makes a folder on the same file system as `out`.
    pub(super) fn beside(out: &Path) -> Result<Self, Failure> {
        check_replaceable(out)?;
        let Some(name) = out.file_name() else {
            return Err(Failure::Usage(format!("--out {} does not name a folder", out.display())));
        };
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".render-{}", std::process::id()));
        let folder = out.with_file_name(hidden);
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(|error| Failure::io("create", parent, &error))?;
        }
        // Left over by a process of the same id that was killed.
        std::fs::remove_dir_all(&folder).ok();
        std::fs::create_dir(&folder).map_err(|error| Failure::io("create", &folder, &error))?;
        Ok(Self { folder })
    }

    /// Where a file of the set lies for now.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Creates a file of the set, and the folders above it.
    pub(super) fn create(&self, name: &str) -> Result<File, Failure> {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| Failure::io("create", parent, &error))?;
        }
        let created = OpenOptions::new().write(true).create_new(true).open(&path);
        created.map_err(|error| Failure::io("create", &path, &error))
    }

    /// Writes a small file of the set.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let mut file = self.create(name)?;
        io::Write::write_all(&mut file, bytes).map_err(|error| Failure::io("write", &self.path(name), &error))?;
        self.set_mode(name, Mode::FILE)
    }

    /// Sets the permission bits of a file of the set, whatever the umask.
    pub(super) fn set_mode(&self, name: &str, mode: Mode) -> Result<(), Failure> {
        let path = self.path(name);
        let set = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode.bits()));
        set.map_err(|error| Failure::io("set the mode of", &path, &error))
    }

    /// Carries over what an earlier set holds and render does not make: trust roots, and signatures over bytes that
    /// are the same now.
    pub(super) fn keep_from(&self, out: &Path) -> Result<Kept, Failure> {
        let roots = out.join(set::ROOTS);
        for name in entries(&roots)?.into_iter().take(MAX_ROOTS) {
            let file = format!("{}/{name}", set::ROOTS);
            if set::is_root_file(&file) {
                self.write(&file, &files::read(&roots.join(&name), MAX_DOCUMENT_BYTES as u64)?)?;
            }
        }
        Ok(Kept {
            manifest: self.keep(out, set::MANIFEST, set::MANIFEST_SIGNATURES)?,
            lock: self.keep(out, set::LOCK, set::LOCK_SIGNATURES)?,
        })
    }

    fn keep(&self, out: &Path, document: &str, signatures: &str) -> Result<bool, Failure> {
        let cap = MAX_DOCUMENT_BYTES as u64;
        let Some(before) = files::read_if_there(&out.join(document), cap)? else { return Ok(false) };
        if before != files::read(&self.path(document), cap)? {
            return Ok(false);
        }
        let Some(lines) = files::read_if_there(&out.join(signatures), set::MAX_SIGNATURES_BYTES)? else {
            return Ok(false);
        };
        self.write(signatures, &lines)?;
        Ok(true)
    }

    /// Moves the folder to its place. An earlier set is there until the instant that the new one is.
    pub(super) fn commit(self, out: &Path) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::io("write", out, &error);
        if out.symlink_metadata().is_err() {
            return std::fs::rename(&self.folder, out).map_err(failed);
        }
        // The two folders change names; `drop` then removes the old one.
        match renameat_with(CWD, &self.folder, CWD, out, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(()),
            // A file system that cannot exchange names.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                std::fs::remove_dir_all(out).and_then(|()| std::fs::rename(&self.folder, out)).map_err(failed)
            }
            Err(error) => Err(failed(error.into())),
        }
    }
}

/// Refuses to replace what is not a set: it would be deleted.
fn check_replaceable(out: &Path) -> Result<(), Failure> {
    let metadata = match out.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::io("look at", out, &error)),
        Ok(metadata) => metadata,
    };
    if !metadata.is_dir() {
        return Err(Failure::Usage(format!("--out {} exists and is no folder", out.display())));
    }
    let names = entries(out)?;
    let is_set = names.is_empty() || names.iter().any(|name| name == set::MANIFEST);
    let known = [
        set::MANIFEST,
        set::MANIFEST_SIGNATURES,
        set::LOCK,
        set::LOCK_SIGNATURES,
        set::POLICY,
        set::SEGMENTS,
        set::TREES,
        set::ARTIFACTS,
        set::ROOTS,
    ];
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        None if is_set => Ok(()),
        None => Err(Failure::Usage(format!("--out {} exists and holds no {}", out.display(), set::MANIFEST))),
        Some(other) => Err(Failure::Usage(format!(
            "--out {} holds `{}`, which is not part of a set; render would delete it",
            out.display(),
            other.escape_default()
        ))),
    }
}

/// The names in a folder, sorted; none when it does not exist.
fn entries(folder: &Path) -> Result<Vec<String>, Failure> {
    let listed = match std::fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::io("read the folder", folder, &error)),
    };
    let names = listed.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    let mut names =
        names.collect::<io::Result<Vec<_>>>().map_err(|error| Failure::io("read the folder", folder, &error))?;
    names.sort();
    Ok(names)
}
