//! Which certificate authorities are trusted.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use reqwest::Certificate;

use autonomy_schema::Reason;

use super::error::RegistryError;

/// Largest file of certificates: the bundle of a distribution has a quarter of a MiB.
const MAX_CA_BYTES: u64 = 8 * 1024 * 1024;
/// Where distributions keep their bundle: Debian and Alpine, Fedora, openSUSE.
const BUNDLES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// The file of trusted certificates: the given one, else the system's bundle.
pub(crate) fn file(given: Option<&Path>) -> Option<PathBuf> {
    let bundle = || BUNDLES.iter().map(Path::new).find(|path| path.exists());
    given.or_else(bundle).map(Path::to_path_buf)
}

/// The certificates that https trusts: those of the given file, else the system's. For whoever else speaks https.
pub fn trusted(given: Option<&Path>) -> Result<Vec<Certificate>, Reason> {
    read(file(given).as_deref()).map_err(|error| error.to_reason())
}

/// Reads them. None at all is not an error here: the handshake will fail and say what was trusted.
pub(crate) fn read(path: Option<&Path>) -> Result<Vec<Certificate>, RegistryError> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let problem = |problem: String| RegistryError::File { path: path.to_path_buf(), problem };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_CA_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| problem(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_CA_BYTES {
        return Err(problem(format!("is larger than {MAX_CA_BYTES} bytes")));
    }
    match Certificate::from_pem_bundle(&bytes) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(problem("holds no certificate".to_owned())),
        Err(error) => Err(problem(format!("is not a file of certificates: {error}"))),
    }
}
