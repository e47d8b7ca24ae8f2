//! The folder of a CA: `ca.crt`, `ca.key`, `ca.json` (what it issued and revoked), `crl.pem` (its newest list).
//!
//! `ca.json` is replaced durably before what it tells of leaves the folder: a certificate that is out there is listed,
//! and no number of a revocation list is used twice. Drawn in `docs/formats/certificates.md`.

use std::fs::File;
use std::path::{Path, PathBuf};

use autonomy_schema::version::ApiVersion;
use autonomy_schema::{Code, Duration, Mode, Name, Reason, Time, canonical};
use autonomy_signing::{Ca, CertificateError, Issued, Revoked};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::commands::cert::files::{self as pem, MAX_PEM};
use crate::failure::Failure;
use crate::files;

/// Largest `ca.json`: about 100,000 certificates.
const MAX_RECORD: u64 = 16 << 20;
const KIND: &str = "CertificateAuthority";

/// The names in the folder.
pub(super) const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";
const RECORD: &str = "ca.json";
const LIST: &str = "crl.pem";

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
pub(super) struct Authority {
    dir: PathBuf,
    ca: Ca,
    certificate: String,
    record: Record,
    _lock: File,
}

/// Makes the folder of a new CA. `ca.json` comes last: without it the folder is no CA.
pub(super) fn create(dir: &Path, fleet: &Name, valid_for: Duration, now: Time) -> Result<String, Failure> {
    let pair = autonomy_signing::create_ca(fleet, now, valid_for).map_err(|error| failed(&error))?;
    if let Err(error) = std::fs::create_dir_all(dir) {
        return Err(Failure::io("make the folder", dir, &error));
    }
    let why =
        "a CA's folder is never overwritten; choose another one, or remove what an interrupted `cert ca init` left";
    for name in [CERTIFICATE, KEY, RECORD, LIST] {
        files::must_not_exist(&dir.join(name), why)?;
    }
    let _lock = lock(dir)?;
    pem::replace_durably(&dir.join(KEY), pair.private_pem.as_bytes(), Mode::PRIVATE)?;
    pem::replace_durably(&dir.join(CERTIFICATE), pair.certificate_pem.as_bytes(), Mode::FILE)?;
    let record = Record {
        api_version: ApiVersion::default(),
        kind: KIND.to_owned(),
        fleet: fleet.clone(),
        crl_number: 0,
        issued: Vec::new(),
        revoked: Vec::new(),
    };
    write(dir, &record)?;
    Ok(pair.certificate_pem)
}

impl Authority {
    /// Opens the folder of a CA.
    pub(super) fn open(dir: &Path) -> Result<Self, Failure> {
        let lock = lock(dir)?;
        let record = files::read_if_there(&dir.join(RECORD), MAX_RECORD)?;
        let record = record.ok_or_else(|| {
            let message = format!("{} has no `{RECORD}`, so it is no CA", dir.display());
            Failure::refused(
                Reason::new(Code::NotInitialized, message).with_remedy("run `autonomy cert ca init`"),
                false,
            )
        })?;
        let record: Record = serde_json::from_slice(&record).map_err(|error| damaged(dir, &error.to_string()))?;
        if record.kind != KIND {
            return Err(damaged(dir, &format!("its kind is not `{KIND}`")));
        }
        let certificate = pem::text(&dir.join(CERTIFICATE), &files::read(&dir.join(CERTIFICATE), MAX_PEM)?)?;
        let key = Zeroizing::new(pem::private(&dir.join(KEY))?);
        let key = std::str::from_utf8(&key).map_err(|_binary| {
            Failure::because(Code::KeyUnreadable, format!("{} is not PEM", dir.join(KEY).display()))
        })?;
        let ca = Ca::open(&certificate, key).map_err(|error| failed(&error))?;
        Ok(Self { dir: dir.to_owned(), ca, certificate, record, _lock: lock })
    }

    /// Its fleet.
    pub(super) fn fleet(&self) -> &Name {
        &self.record.fleet
    }

    /// Its certificate.
    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Issues a certificate: for the key that is given, or a new one.
    pub(super) fn issue(
        &mut self,
        node: &Name,
        key: Option<&str>,
        valid_for: Duration,
        now: Time,
    ) -> Result<Issued, Failure> {
        let fleet = &self.record.fleet;
        let issued = match key {
            None => self.ca.issue(fleet, node, now, valid_for),
            Some(key) => self.ca.renew(key, fleet, node, now, valid_for),
        };
        let issued = issued.map_err(|error| failed(&error))?;
        let (serial, expires) = (issued.serial.clone(), issued.expires);
        self.record.issued.push(Entry { serial, node: node.clone(), issued_at: now, expires });
        write(&self.dir, &self.record)?;
        Ok(issued)
    }

    /// Revokes a serial number; `false` when it was revoked before.
    pub(super) fn revoke(&mut self, serial: &str, now: Time) -> Result<bool, Failure> {
        if self.record.revoked.iter().any(|entry| entry.serial == serial) {
            return Ok(false);
        }
        self.record.revoked.push(RevokedEntry { serial: serial.to_owned(), at: now });
        write(&self.dir, &self.record)?;
        Ok(true)
    }

    /// Makes a revocation list with the next number, and keeps it in the folder.
    pub(super) fn list(&mut self, valid_for: Duration, now: Time) -> Result<(String, u64), Failure> {
        let number = self.record.crl_number.saturating_add(1);
        let revoked = self.record.revoked.iter().map(|entry| Revoked { serial: entry.serial.clone(), at: entry.at });
        let list = self.ca.revocation_list(number, &revoked.collect::<Vec<_>>(), now, valid_for);
        let list = list.map_err(|error| failed(&error))?;
        self.record.crl_number = number;
        write(&self.dir, &self.record)?;
        pem::replace_durably(&self.dir.join(LIST), list.as_bytes(), Mode::FILE)?;
        Ok((list, number))
    }
}

fn lock(dir: &Path) -> Result<File, Failure> {
    let file = File::open(dir).map_err(|error| Failure::io("open the CA's folder", dir, &error))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_held| {
        let message = format!("another process works with the CA in {}", dir.display());
        Failure::refused(Reason::new(Code::Locked, message).with_remedy("wait for it"), false)
    })?;
    Ok(file)
}

fn write(dir: &Path, record: &Record) -> Result<(), Failure> {
    let bytes = canonical::to_bytes(record).map_err(|error| damaged(dir, &error.to_string()))?;
    pem::replace_durably(&dir.join(RECORD), &bytes, Mode::PRIVATE)
}

fn damaged(dir: &Path, why: &str) -> Failure {
    let message = format!("{} cannot be used: {why}", dir.join(RECORD).display());
    let remedy = "restore it from a backup. Without one make a new CA: what this one revoked is not known any more, \
                  and a lower number of its revocation list could hide a revocation";
    Failure::refused(Reason::new(Code::CorruptState, message).with_remedy(remedy), false)
}

/// A failure of the CA as a refusal.
fn failed(error: &CertificateError) -> Failure {
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
    Failure::because(code, format!("{error}{source}"))
}
