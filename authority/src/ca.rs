//! Opening, issuing, revoking, listing.

use std::path::Path;

use autonomy_schema::version::ApiVersion;
use autonomy_schema::{Code, Duration, Mode, Name, Reason, RelPath, Time};
use autonomy_signing::{Ca, CertificateError, Issued, Revoked};
use autonomy_stateroot::{LockGuard, Query as _};
use zeroize::Zeroizing;

use crate::folder::{Entry, Folder, Record, RevokedEntry};
use crate::{CERTIFICATE, KEY, LIST, RECORD};

/// Largest `ca.json`: about 100,000 certificates.
const MAX_RECORD: u64 = 16 << 20;
/// Largest certificate or key of a CA.
const MAX_PEM: u64 = 64 << 10;
const KIND: &str = "CertificateAuthority";

/// An opened CA. The folder is locked until it is dropped.
pub struct Authority {
    folder: Folder,
    ca: Ca,
    certificate: String,
    record: Record,
    _lock: Box<dyn LockGuard>,
}

/// Makes a CA in an existing folder that holds none of [`crate::NAMES`]. `ca.json` comes last: without it the folder is no CA. Gives
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
