//! A registry of distribution-spec 1.1: one host, one repository.

mod blobs;
mod credentials;
mod error;
mod http;
mod referrers;
mod roots;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use autonomy_schema::Sha256;
use reqwest::Method;

pub use self::blobs::Reopen;
pub use self::error::RegistryError;
use self::http::{Ask, Http, header, place};
use crate::reference::Reference;
use crate::spec::{
    DOCKER_LIST_TYPE, DOCKER_MANIFEST_TYPE, Descriptor, INDEX_TYPE, Index, MANIFEST_TYPE, MAX_MANIFEST_BYTES,
};
pub use roots::trusted as trusted_certificates;

/// How long a registry may be silent, where nobody says otherwise.
const SILENCE: Duration = Duration::from_secs(30);

/// How a registry is spoken to.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// CA certificates in PEM; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Speak https to this machine too; with others it is always spoken.
    pub tls: bool,
    /// Docker's config file; none: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
    pub docker_config: Option<PathBuf>,
    /// Where credential helpers are looked for before the PATH.
    pub helpers: Option<PathBuf>,
    /// A body that gives less than 1 KiB in each such span ends.
    pub silence: Duration,
    /// Looked at between pieces; `true` stops.
    pub cancel: Option<Arc<AtomicBool>>,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self { ca_file: None, tls: false, docker_config: None, helpers: None, silence: SILENCE, cancel: None }
    }
}

/// What a registry says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Its `Docker-Distribution-API-Version`, mostly `registry/2.0`.
    pub api_version: Option<String>,
    /// The scheme of its challenge, where it asks who we are.
    pub auth: Option<String>,
    /// Whether it lists referrers by itself.
    pub referrers_api: bool,
}

/// A repository of a registry.
pub struct Registry {
    http: Http,
    reference: Reference,
}

impl Registry {
    /// Makes ready; nothing is sent yet.
    pub fn connect(reference: &Reference, options: RegistryOptions) -> Result<Self, RegistryError> {
        Ok(Self { http: Http::new(reference, options)?, reference: reference.clone() })
    }

    /// What it was made ready for.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    fn path(&self, rest: &str) -> url::Url {
        self.http.at(&format!("/v2/{}/{rest}", self.reference.repository()))
    }

    /// The manifest or index that the reference names: its media type and its bytes.
    pub fn named(&self) -> Result<(String, Vec<u8>), RegistryError> {
        self.manifest(&self.reference.target())
    }

    /// What the reference means now.
    pub fn resolve(&self) -> Result<Descriptor, RegistryError> {
        let (media_type, bytes) = self.named()?;
        Ok(Descriptor::of(&media_type, &bytes))
    }

    /// A manifest or an index by tag or digest: its media type and its bytes, which hash to what was asked for.
    pub fn manifest(&self, target: &str) -> Result<(String, Vec<u8>), RegistryError> {
        let wanted = self.target(target)?;
        let url = self.path(&format!("manifests/{target}"));
        let accept = [MANIFEST_TYPE, INDEX_TYPE, DOCKER_MANIFEST_TYPE, DOCKER_LIST_TYPE].join(", ");
        let ask = Ask::new(Method::GET, url.clone()).with("Accept", accept);
        let what = format!("the manifest `{target}` of {}", self.reference.repository());
        self.http.attempts(|| {
            let (response, bytes) = self.document(&ask, &what)?;
            let found = Sha256::of(&bytes);
            let said = header(&response, "docker-content-digest");
            let expected = wanted.map(|digest| digest.to_string());
            let said = (said.starts_with("sha256:")).then(|| said.to_owned());
            for expected in [expected, said].into_iter().flatten() {
                if expected != found.to_string() {
                    return Err(RegistryError::Digest { what: what.clone(), expected, found });
                }
            }
            let media_type = header(&response, "content-type").split(';').next().unwrap_or_default().trim();
            Ok((media_type.to_owned(), bytes))
        })
    }

    /// A document within the cap.
    fn document(&self, ask: &Ask, what: &str) -> Result<(reqwest::header::HeaderMap, Vec<u8>), RegistryError> {
        let response = self.http.send(ask)?;
        let mut response = self.http.accept(&ask.url, response, what)?;
        let large = || RegistryError::TooLarge { what: what.to_owned(), cap: MAX_MANIFEST_BYTES };
        if response.content_length().is_some_and(|length| length > MAX_MANIFEST_BYTES) {
            return Err(large());
        }
        let mut bytes = Vec::new();
        self.http.body(&ask.url, &mut response, |piece| {
            bytes.extend_from_slice(piece);
            if bytes.len() as u64 > MAX_MANIFEST_BYTES { Err(large()) } else { Ok(()) }
        })?;
        Ok((response.headers().clone(), bytes))
    }

    /// Puts a manifest or an index; answers with its digest.
    pub fn push_manifest(&self, media_type: &str, bytes: &[u8], target: &str) -> Result<Sha256, RegistryError> {
        self.put_manifest(media_type, bytes, target).map(|(digest, _)| digest)
    }

    /// The same, and whether the registry saw the subject.
    fn put_manifest(&self, media_type: &str, bytes: &[u8], target: &str) -> Result<(Sha256, bool), RegistryError> {
        let what = format!("the manifest `{target}` of {}", self.reference.repository());
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(RegistryError::TooLarge { what, cap: MAX_MANIFEST_BYTES });
        }
        let digest = Sha256::of(bytes);
        if let Some(wanted) = self.target(target)?.filter(|wanted| *wanted != digest) {
            return Err(RegistryError::Digest { what, expected: wanted.to_string(), found: digest });
        }
        let url = self.path(&format!("manifests/{target}"));
        let ask = Ask::new(Method::PUT, url.clone()).with("Content-Type", media_type).body(bytes.to_vec());
        self.http.attempts(|| {
            let response = self.http.send(&ask)?;
            let response = self.http.accept(&url, response, &what)?;
            let said = header(response.headers(), "docker-content-digest");
            if said.starts_with("sha256:") && said != digest.to_string() {
                let detail = format!("it took `{target}` as {}, sent was {digest}", error::shown(said));
                return Err(RegistryError::Malformed { place: place(&url), detail });
            }
            Ok((digest, response.headers().contains_key("oci-subject")))
        })
    }

    /// The digest that a target is, if it is one; what is neither tag nor digest is refused.
    fn target(&self, target: &str) -> Result<Option<Sha256>, RegistryError> {
        match target.parse::<Sha256>() {
            Ok(digest) => Ok(Some(digest)),
            Err(_) if crate::reference::is_tag(target) => Ok(None),
            Err(error) => {
                let what = format!("`{}` of {}", error::shown(target), self.reference.repository());
                Err(RegistryError::Unfit { what, problem: format!("neither a tag nor a digest ({error})") })
            }
        }
    }

    /// What the registry says of itself.
    pub fn probe(&self) -> Result<Probe, RegistryError> {
        let url = self.http.at("/v2/");
        let (api_version, auth) = self.http.challenge(&url)?;
        let none = Sha256::of(b"");
        let url = self.path(&format!("referrers/{none}"));
        let response = self.http.attempts(|| self.http.send(&Ask::new(Method::GET, url.clone())))?;
        Ok(Probe { api_version, auth, referrers_api: response.status().is_success() })
    }
}

/// The image for this machine.
pub fn for_this_platform(index: &Index) -> Result<&Descriptor, RegistryError> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    };
    let fits = |descriptor: &&Descriptor| {
        descriptor.platform.as_ref().is_some_and(|it| it.os == "linux" && it.architecture == architecture)
    };
    index.manifests.iter().find(fits).ok_or_else(|| {
        let platforms = index.manifests.iter().filter_map(|descriptor| descriptor.platform.as_ref());
        let names: Vec<String> = platforms.map(|it| format!("{}/{}", it.os, it.architecture)).collect();
        let offered = if names.is_empty() { "none with a platform".to_owned() } else { names.join(", ") };
        RegistryError::NoPlatform { wanted: format!("linux/{architecture}"), offered: error::shown(&offered) }
    })
}
