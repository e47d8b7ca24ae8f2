//! The node's certificates: four files that belong together, replaced as one.
//!
//! Four renames are no atomic step, so the new files are first put whole into `identity/next/`. From the moment that
//! this folder has its name the new certificates are the node's: readers look there first, and the next writer
//! finishes the copy. A power loss leaves the old four or the new four, and never the key of one and the certificate
//! of the other.
//!
//! Deliberately absent: judging them (crate `trust`).

use autonomy_schema::{Mode, RelPath};

use crate::disk::{DiskError, FileKind, ReadError, StateDisk, SyncTarget, read_capped};
use crate::lock::ActivationLock;
use crate::root::StateRoot;
use crate::{durable, layout};

/// How often a reader begins again that met a writer.
const TRIES: u32 = 5;

/// The certificates of a node, as PEM; `None` is a file that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Certificates {
    /// `node.crt`.
    pub certificate: Option<Vec<u8>>,
    /// `node.key`.
    pub key: Option<Vec<u8>>,
    /// The permissions of `node.key`.
    pub key_mode: Option<Mode>,
    /// `ca.crt`.
    pub ca: Option<Vec<u8>>,
    /// `crl.pem`.
    pub crl: Option<Vec<u8>>,
    /// `attest.pub`.
    pub attest: Option<Vec<u8>>,
}

/// Certificates that were judged, to be installed.
#[derive(Clone, Copy)]
pub struct NewCertificates<'a> {
    /// `node.crt`.
    pub certificate: &'a [u8],
    /// `node.key`.
    pub key: &'a [u8],
    /// `ca.crt`.
    pub ca: &'a [u8],
    /// `crl.pem`.
    pub crl: &'a [u8],
}

impl StateRoot {
    /// Reads the node's certificates, each of at most `cap` bytes and the revocation lists of at most `crl_cap`.
    pub fn certificates(&self, cap: u64, crl_cap: u64) -> Result<Certificates, ReadError> {
        let mut found = self.read_certificates(cap, crl_cap)?;
        for _ in 1..TRIES {
            let again = self.read_certificates(cap, crl_cap)?;
            if again == found {
                break;
            }
            found = again;
        }
        Ok(found)
    }

    fn read_certificates(&self, cap: u64, crl_cap: u64) -> Result<Certificates, ReadError> {
        let disk = self.disk();
        let place = |path: RelPath| -> Result<RelPath, ReadError> {
            let next = in_next(&path);
            Ok(if durable::exists(disk, &next)? { next } else { path })
        };
        let read = |path: RelPath, cap| read_capped(disk, &place(path)?, cap);
        let key = place(layout::node_key())?;
        Ok(Certificates {
            certificate: read(layout::node_certificate(), cap)?,
            key_mode: disk.stat(&key)?.filter(|stat| stat.kind == FileKind::File).map(|stat| stat.mode),
            key: read_capped(disk, &key, cap)?,
            ca: read(layout::ca_certificate(), cap)?,
            crl: read(layout::node_crl(), crl_cap)?,
            attest: read_capped(disk, &layout::attest_pub(), cap)?,
        })
    }

    /// Replaces the node's certificates, durably: after a power loss it is the old ones or the new ones.
    pub fn install_certificates(&self, held: &ActivationLock, new: &NewCertificates<'_>) -> Result<(), DiskError> {
        let disk = self.disk();
        self.finish_certificates(held)?;
        let next = layout::identity_next();
        let tmp = durable::beside(&next)?;
        durable::ensure_dir(disk, &layout::identity())?;
        durable::remove_tree(disk, &tmp)?;
        disk.mkdir(&tmp)?;
        for (path, bytes) in places().iter().zip([new.certificate, new.key, new.ca, new.crl]) {
            let file = named(&tmp, path);
            durable::write_new(disk, &file, bytes, Mode::PRIVATE)?;
            disk.sync(SyncTarget::File(&file))?;
        }
        disk.sync(SyncTarget::Dir(Some(&tmp)))?;
        disk.rename(&tmp, &next)?;
        disk.sync(SyncTarget::Dir(Some(&layout::identity())))?;
        self.finish_certificates(held)
    }

    /// Brings what a power loss left to its end. Nothing to do is no error.
    pub fn finish_certificates(&self, _held: &ActivationLock) -> Result<(), DiskError> {
        let disk = self.disk();
        let next = layout::identity_next();
        if !durable::exists(disk, &next)? {
            return Ok(());
        }
        for path in places() {
            copy(disk, &named(&next, &path), &path)?;
        }
        let tmp = durable::beside(&next)?;
        durable::remove_tree(disk, &tmp)?;
        disk.rename(&next, &tmp)?;
        disk.sync(SyncTarget::Dir(Some(&layout::identity())))?;
        durable::remove_tree(disk, &tmp)
    }
}

fn places() -> [RelPath; 4] {
    [layout::node_certificate(), layout::node_key(), layout::ca_certificate(), layout::node_crl()]
}

fn in_next(path: &RelPath) -> RelPath {
    named(&layout::identity_next(), path)
}

/// The file of the same name in another folder.
fn named(folder: &RelPath, path: &RelPath) -> RelPath {
    // The name of a file is a safe path by itself, so this cannot fail; the folder is the harmless answer.
    path.file_name().parse().map_or_else(|_never| folder.clone(), |name: RelPath| folder.join(&name))
}

fn copy(disk: &dyn StateDisk, from: &RelPath, to: &RelPath) -> Result<(), DiskError> {
    /// Far above what is ever put there: the caps of `trust` bind before.
    const MAX_BYTES: u64 = 16 << 20;
    let bytes = read_capped(disk, from, MAX_BYTES).map_err(|error| match error {
        ReadError::Disk(error) => error,
        error @ ReadError::TooLarge { .. } => DiskError::new("read", from, std::io::Error::other(error)),
    })?;
    match bytes {
        Some(bytes) => durable::replace(disk, to, &bytes, Mode::PRIVATE),
        None => Ok(()),
    }
}
