//! Which certificate authorities are trusted for https.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use reqwest::Certificate;

use crate::error::GitError;
use crate::options::GitOptions;

/// Largest file of certificates: the bundle of a distribution has a quarter of a MiB.
const MAX_CA_BYTES: u64 = 8 * 1024 * 1024;
/// Where distributions keep their bundle: Debian and Alpine, Fedora, openSUSE.
const BUNDLES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// The file of trusted certificates, chosen as git chooses it.
#[derive(Debug, Clone)]
pub(crate) struct Roots {
    file: Option<PathBuf>,
    from: &'static str,
}

impl Roots {
    /// `--ca-file`, else `GIT_SSL_CAINFO`, else `http.sslCAInfo`, else the system's bundle. Switches that turn
    /// verification off (`GIT_SSL_NO_VERIFY`, `http.sslVerify`) are not read.
    pub(crate) fn of(options: &GitOptions<'_>) -> Self {
        if let Some(file) = &options.ca_file {
            return Self { file: Some(file.clone()), from: "given" };
        }
        if let Some(file) = &options.environment.ca_info {
            return Self { file: Some(file.clone()), from: "GIT_SSL_CAINFO" };
        }
        let configured = git2::Config::open_default().and_then(|config| config.get_path("http.sslCAInfo"));
        if let Ok(file) = configured {
            return Self { file: Some(file), from: "http.sslCAInfo of the git configuration" };
        }
        let bundle = BUNDLES.iter().map(Path::new).find(|path| path.exists());
        Self { file: bundle.map(Path::to_path_buf), from: "the system's bundle" }
    }

    /// Where they come from, for people.
    pub(crate) fn describe(&self) -> String {
        match &self.file {
            Some(file) => format!("`{}`, {}", file.display(), self.from),
            None => "nothing, as the system has no bundle of certificates".to_owned(),
        }
    }

    /// Reads them. None at all is not an error here: the handshake will fail and say what was trusted.
    pub(crate) fn read(&self) -> Result<Vec<Certificate>, GitError> {
        let Some(path) = &self.file else { return Ok(Vec::new()) };
        let problem = |problem: String| GitError::File {
            path: path.clone(),
            problem,
            remedy: "name a PEM file of CA certificates with `--ca-file`".to_owned(),
        };
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
}
