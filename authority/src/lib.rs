//! A folder in, a CA out: `ca.crt`, `ca.key`, `ca.json` (what it issued and revoked), `crl.pem` (its newest list).
//!
//! Floor 2: imports `schema`, `stateroot` (for the `Disk` seam: the folder of a CA is a disk of its own) and `signing`. Used by
//! `cert …` and by `edged precheck --rotate-certs`, and never in the closure of `apply`. Invariants and tests:
//!
//! - `ca.json` is replaced durably before what it tells of leaves the folder: a certificate that is out there is listed, and
//!   no number of a revocation list is used twice (`cli::cert::the_numbers_of_revocation_lists_rise`);
//! - a damaged folder says what to do, and is never written over (`cli::cert::a_damaged_ca_says_what_to_do`).
//!
//! Deliberately absent: X.509 itself (`signing` makes it, `trust` judges it), clocks. Drawn in `docs/formats/certificates.md`.

use std::path::Path;

use autonomy_schema::version::ApiVersion;
use autonomy_schema::{Code, Duration, Mode, Name, Reason, RelPath, Time, canonical};
use autonomy_signing::{Ca, CertificateError, Issued, Revoked};
use autonomy_stateroot::{DiskError, LockGuard, LockMode, Query as _, RealDisk, durable, read_capped};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Largest `ca.json`: about 100,000 certificates.
const MAX_RECORD: u64 = 16 << 20;
/// Largest certificate or key of a CA.
const MAX_PEM: u64 = 64 << 10;
const KIND: &str = "CertificateAuthority";

const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";
const RECORD: &str = "ca.json";
const LIST: &str = "crl.pem";
const LOCK: &str = "ca.lock";

/// The names of a CA's files.
pub const NAMES: [&str; 4] = [CERTIFICATE, KEY, RECORD, LIST];

/// `ca.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Record {
    api_version: ApiVersion,
    kind: String,
    fleet: Name,
    /// Number of the newest revocation list.
    crl_number: u64,
    issued: Vec<Entry>,
    revoked: Vec<RevokedEntry>,
}

/// A certificate that was issued.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Entry {
    serial: String,
    node: Name,
    issued_at: Time,
    expires: Time,
}

/// A certificate that was revoked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RevokedEntry {
    serial: String,
    at: Time,
}

/// An opened CA. The folder is locked until it is dropped.
pub struct Authority {
    folder: Folder,
    ca: Ca,
    certificate: String,
    record: Record,
    _lock: Box<dyn LockGuard>,
}

/// Where it lies.
struct Folder {
    disk: RealDisk,
    shown: String,
}

/// Makes a CA in an existing folder that holds none of [`NAMES`]. `ca.json` comes last: without it the folder is no CA. Gives
/// the certificate.
pub fn create(dir: &Path, fleet: &Name, valid_for: Duration, now: Time) -> Result<String, Reason> {
    let pair = autonomy_signing::create_ca(fleet, now, valid_for).map_err(|error| failed(&error))?;
    let folder = Folder::open(dir)?;
    let _lock = folder.lock()?;
    folder.replace(KEY, pair.private_pem.as_bytes(), Mode::PRIVATE)?;
    folder.replace(CERTIFICATE, pair.certificate_pem.as_bytes(), Mode::FILE)?;
    let record = Record {
        api_version: ApiVersion::default(),
        kind: KIND.to_owned(),
        fleet: fleet.clone(),
        crl_number: 0,
        issued: Vec::new(),
        revoked: Vec::new(),
    };
    folder.write(&record)?;
    Ok(pair.certificate_pem)
}

impl Authority {
    /// Opens the folder of a CA.
    pub fn open(dir: &Path) -> Result<Self, Reason> {
        let folder = Folder::open(dir)?;
        let none = || {
            let message = format!("{} has no `{RECORD}`, so it is no CA", folder.shown);
            Reason::new(Code::NotInitialized, message).with_remedy("run `autonomy cert ca init`")
        };
        // A folder that is none gets no lock file.
        if folder.disk.stat(&RelPath::fixed(RECORD)).map_err(|error| folder.failed(&error))?.is_none() {
            return Err(none());
        }
        let lock = folder.lock()?;
        let record = folder.read(RECORD, MAX_RECORD)?.ok_or_else(none)?;
        let record: Record = serde_json::from_slice(&record).map_err(|error| folder.damaged(&error.to_string()))?;
        if record.kind != KIND {
            return Err(folder.damaged(&format!("its kind is not `{KIND}`")));
        }
        let text = |name: &'static str, code| -> Result<Zeroizing<String>, Reason> {
            let bytes = folder.read(name, MAX_PEM)?.map(Zeroizing::new);
            let bytes = bytes.ok_or_else(|| Reason::new(code, format!("{} has no `{name}`", folder.shown)))?;
            let text = std::str::from_utf8(&bytes).map(|text| Zeroizing::new(text.to_owned()));
            text.map_err(|_binary| Reason::new(code, format!("`{name}` in {} is not PEM", folder.shown)))
        };
        let certificate = text(CERTIFICATE, Code::CaUnreadable)?;
        folder.is_private(KEY)?;
        let key = text(KEY, Code::KeyUnreadable)?;
        let ca = Ca::open(&certificate, &key).map_err(|error| failed(&error))?;
        Ok(Self { ca, certificate: certificate.to_string(), record, _lock: lock, folder })
    }

    /// Its fleet.
    pub fn fleet(&self) -> &Name {
        &self.record.fleet
    }

    /// Its certificate.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Issues a certificate: for the key that is given, or a new one.
    pub fn issue(&mut self, node: &Name, key: Option<&str>, valid_for: Duration, now: Time) -> Result<Issued, Reason> {
        let fleet = &self.record.fleet;
        let issued = match key {
            None => self.ca.issue(fleet, node, now, valid_for),
            Some(key) => self.ca.renew(key, fleet, node, now, valid_for),
        };
        let issued = issued.map_err(|error| failed(&error))?;
        let (serial, expires) = (issued.serial.clone(), issued.expires);
        self.record.issued.push(Entry { serial, node: node.clone(), issued_at: now, expires });
        self.folder.write(&self.record)?;
        Ok(issued)
    }

    /// Revokes a serial number; `false` when it was revoked before.
    pub fn revoke(&mut self, serial: &str, now: Time) -> Result<bool, Reason> {
        if self.record.revoked.iter().any(|entry| entry.serial == serial) {
            return Ok(false);
        }
        self.record.revoked.push(RevokedEntry { serial: serial.to_owned(), at: now });
        self.folder.write(&self.record)?;
        Ok(true)
    }

    /// Makes a revocation list with the next number, and keeps it in the folder.
    pub fn list(&mut self, valid_for: Duration, now: Time) -> Result<(String, u64), Reason> {
        let number = self.record.crl_number.saturating_add(1);
        let revoked = self.record.revoked.iter().map(|entry| Revoked { serial: entry.serial.clone(), at: entry.at });
        let list = self.ca.revocation_list(number, &revoked.collect::<Vec<_>>(), now, valid_for);
        let list = list.map_err(|error| failed(&error))?;
        self.record.crl_number = number;
        self.folder.write(&self.record)?;
        self.folder.replace(LIST, list.as_bytes(), Mode::FILE)?;
        Ok((list, number))
    }
}

impl Folder {
    fn open(dir: &Path) -> Result<Self, Reason> {
        let disk = RealDisk::open(dir).map_err(|error| error.to_reason())?;
        Ok(Self { disk, shown: dir.display().to_string() })
    }

    fn lock(&self) -> Result<Box<dyn LockGuard>, Reason> {
        let guard =
            self.disk.try_lock(&RelPath::fixed(LOCK), LockMode::Exclusive).map_err(|error| self.failed(&error))?;
        guard.ok_or_else(|| {
            let message = format!("another process works with the CA in {}", self.shown);
            Reason::new(Code::Locked, message).with_remedy("wait for it")
        })
    }

    fn read(&self, name: &'static str, cap: u64) -> Result<Option<Vec<u8>>, Reason> {
        read_capped(&self.disk, &RelPath::fixed(name), cap).map_err(|error| error.to_reason())
    }

    /// A private key must be its owner's alone.
    fn is_private(&self, name: &'static str) -> Result<(), Reason> {
        let stat = self.disk.stat(&RelPath::fixed(name)).map_err(|error| self.failed(&error))?;
        let open = stat.filter(|stat| stat.mode.bits() & 0o077 != 0);
        open.map_or(Ok(()), |stat| {
            let message = format!("`{name}` in {} has mode {}: others may read or write it", self.shown, stat.mode);
            Err(Reason::new(Code::KeyExposed, message))
        })
    }

    fn replace(&self, name: &'static str, bytes: &[u8], mode: Mode) -> Result<(), Reason> {
        durable::replace(&self.disk, &RelPath::fixed(name), bytes, mode).map_err(|error| self.failed(&error))
    }

    fn write(&self, record: &Record) -> Result<(), Reason> {
        let bytes = canonical::to_bytes(record).map_err(|error| self.damaged(&error.to_string()))?;
        self.replace(RECORD, &bytes, Mode::PRIVATE)
    }

    fn failed(&self, error: &DiskError) -> Reason {
        let reason = error.to_reason();
        Reason { message: format!("in {}: {}", self.shown, reason.message), ..reason }
    }

    fn damaged(&self, why: &str) -> Reason {
        let message = format!("`{RECORD}` in {} cannot be used: {why}", self.shown);
        let remedy = "restore it from a backup. Without one make a new CA: what this one revoked is not known any more, \
                      and a lower number of its revocation list could hide a revocation";
        Reason::new(Code::CorruptState, message).with_remedy(remedy)
    }
}

/// A failure of the CA as a reason.
fn failed(error: &CertificateError) -> Reason {
    let code = match error {
        CertificateError::Ca(_) => Code::CaInvalid,
        CertificateError::CaNotValid { now, from, .. } if now < from => Code::CaNotYetValid,
        CertificateError::CaNotValid { .. } => Code::CaExpired,
        CertificateError::NodeKey => Code::KeyUnreadable,
        CertificateError::Validity(_) => Code::BadDuration,
        CertificateError::Serial(_) => Code::CorruptState,
        CertificateError::Random(_) | CertificateError::Failed { .. } => Code::IoError,
    };
    let source = std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"));
    Reason::new(code, format!("{error}{source}"))
}
