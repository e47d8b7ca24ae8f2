//! The files of a node's certificates outside a state root, and judging them wherever they lie.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use autonomy_precheck::{Replaced, note_certificate};
use autonomy_schema::{Code, Duration, Mode, Name, Reason, Reasons, Time};
use autonomy_stateroot::{Certificates, NewCertificates, StateRoot};
use autonomy_trust::{
    Demand, Identity, IdentityFiles, IdentityFinding, MAX_CRL_BYTES, MAX_IDENTITY_BYTES, Severity,
    describe_certificates, judge_identity,
};

use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::{Global, files, node, ui};

/// Longest file of certificates or of a key.
pub(super) const MAX_PEM: u64 = MAX_IDENTITY_BYTES;
/// What ends within it is a finding, where nothing else is said: `precheck.certExpiryWindow` has the same default.
pub(super) const DEFAULT_WINDOW: &str = "7d";

/// The names of a node's files.
pub(super) const NAMES: [&str; 4] = ["node.crt", "node.key", "ca.crt", "crl.pem"];

/// Reads a private key, which must be its owner's alone.
pub(super) fn private(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    files::read_private(path, MAX_PEM, Code::KeyExposed).map(Zeroizing::new)
}

/// Makes a folder for keys, and those above it, for the owner alone.
pub(super) fn make_folder(dir: &Path) -> Result<(), Failure> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(Mode::FOLDER.bits()).create(dir);
    made.map_err(|error| Failure::io("make the folder", dir, &error))
}

/// Reads what there is of a node's files in a folder.
pub(super) fn in_folder(dir: &Path) -> Result<Certificates, Failure> {
    let read = |name: &str, cap| files::read_if_there(&dir.join(name), cap);
    if !dir.is_dir() {
        return Err(Failure::because(Code::SourceNotFound, format!("{} is no folder", dir.display())));
    }
    let key = dir.join(NAMES[1]);
    Ok(Certificates {
        certificate: read(NAMES[0], MAX_PEM)?,
        key_mode: key.metadata().ok().map(|meta| Mode::from_bits(meta.mode())),
        key: files::read_if_there(&key, MAX_PEM)?,
        ca: read(NAMES[2], MAX_PEM)?,
        crl: read(NAMES[3], MAX_CRL_BYTES)?,
        attest: read("attest.pub", MAX_PEM)?,
    })
}

/// Reads those of a state root.
pub(super) fn in_state_root(root: &StateRoot) -> Result<Certificates, Failure> {
    let read = root.certificates(MAX_PEM, MAX_CRL_BYTES);
    read.map_err(|error| Failure::refused(error.to_reason(), false))
}

/// Judges a node's files; a key that others may read is a finding too.
pub(super) fn judge(
    found: &Certificates,
    fleet: &Name,
    node: &Name,
    now: Time,
    window: Duration,
) -> (Identity, Vec<IdentityFinding>) {
    let files = IdentityFiles {
        certificate: found.certificate.as_deref(),
        key: found.key.as_deref(),
        ca: found.ca.as_deref(),
        crl: found.crl.as_deref(),
        attest: found.attest.as_deref(),
    };
    let (identity, mut findings) = judge_identity(&files, &Demand { node, fleet, now, window });
    if let Some(mode) = found.key_mode.filter(|mode| mode.bits() & 0o077 != 0) {
        let message = format!("`node.key` has mode {mode}: others may read or write it");
        findings.push(IdentityFinding { severity: Severity::Error, reason: Reason::new(Code::KeyExposed, message) });
        findings.sort_by(|a, b| a.reason.cmp(&b.reason));
    }
    (identity, findings)
}

/// Refuses what has errors; warns of the rest.
pub(super) fn must_be_good(findings: &[IdentityFinding]) -> Result<(), Failure> {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    Reasons::check(errors.map(|finding| finding.reason.clone()).collect())?;
    for finding in findings {
        ui::warn(Some(&finding.reason.to_string()));
    }
    Ok(())
}

/// Where new certificates go.
pub(super) enum Target {
    /// A folder that the operator carries to the node.
    Folder(std::path::PathBuf),
    /// This node itself.
    Node(Box<StateRoot>),
}

impl Target {
    /// `--out`, or else the state root.
    pub(super) fn new(out: Option<&Path>, global: &Global) -> Result<Self, Failure> {
        match out {
            Some(out) => Ok(Self::Folder(out.to_owned())),
            None => Ok(Self::Node(Box::new(node::state_root(global)?.0))),
        }
    }

    /// What lies there.
    pub(super) fn read(&self) -> Result<Certificates, Failure> {
        match self {
            Self::Folder(dir) if !dir.exists() => Ok(Certificates::default()),
            Self::Folder(dir) => in_folder(dir),
            Self::Node(root) => in_state_root(root),
        }
    }

    /// Writes them. In a state root they are replaced as one; in a folder one after the other, the key first, each
    /// whole.
    pub(super) fn write(&self, new: &Certificates, verb: &str) -> Result<(), Failure> {
        let part = |part: &Option<Vec<u8>>| part.clone().unwrap_or_default();
        let (certificate, key) = (part(&new.certificate), Zeroizing::new(part(&new.key)));
        let (ca, crl) = (part(&new.ca), part(&new.crl));
        match self {
            Self::Folder(dir) => {
                make_folder(dir)?;
                replace_durably(&dir.join(NAMES[1]), &key, Mode::PRIVATE)?;
                replace_durably(&dir.join(NAMES[0]), &certificate, Mode::FILE)?;
                replace_durably(&dir.join(NAMES[2]), &ca, Mode::FILE)?;
                replace_durably(&dir.join(NAMES[3]), &crl, Mode::FILE)
            }
            Self::Node(root) => {
                let held = root.lock(verb).map_err(|error| Failure::refused(error.to_reason(), false))?;
                let new = NewCertificates { certificate: &certificate, key: &key, ca: &ca, crl: &crl };
                let installed = root.install_certificates(&held, &new);
                installed.map_err(|error| Failure::refused(error.to_reason(), false))?;
                let cards = describe_certificates(&certificate).unwrap_or_default();
                let serial = cards.first().map(|card| card.serial.as_str());
                let by = Replaced { actor: &node::who(), verb, time: node::clock() };
                Ok(note_certificate(root, &held, by, serial)?)
            }
        }
    }

    /// The place, for people.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Folder(dir) => dir.display().to_string(),
            Self::Node(_) => "the state root".to_owned(),
        }
    }
}

/// Replaces a file, or makes it: after a power loss it is the old one or the new one.
pub(super) fn replace_durably(path: &Path, bytes: &[u8], mode: Mode) -> Result<(), Failure> {
    let (Some(name), Some(folder)) = (path.file_name(), path.parent()) else {
        return Err(Failure::Usage(format!("{} is not the name of a file", path.display())));
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let beside = folder.join(format!(".{}.tmp", name.to_string_lossy()));
    let write = || {
        std::fs::remove_file(&beside)
            .or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        let mut file = File::options().write(true).create_new(true).mode(mode.bits()).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| {
        std::fs::remove_file(&beside).ok();
        Failure::io("write", path, &error)
    })
}
