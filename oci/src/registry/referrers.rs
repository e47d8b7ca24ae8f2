//! What refers to a manifest: by the registry's own list, else by the fallback tag.

use std::time::Duration;

use autonomy_schema::Sha256;
use reqwest::Method;
use serde_json::{Value, json};

use super::Registry;
use super::error::RegistryError;
use super::http::{Ask, header, place};
use crate::spec::{Descriptor, INDEX_TYPE, MANIFEST_TYPE, Manifest};

const MAX_PAGES: usize = 32;
const TRIES: usize = 10;
/// How long another writer of the fallback list may take between its read and its write.
const SETTLE: Duration = Duration::from_millis(250);

impl Registry {
    /// What refers to `digest`; of one artifact type, where that is given. Entries that cannot be read are passed over.
    pub fn referrers(&self, digest: Sha256, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, RegistryError> {
        let entries = match self.listed(digest, artifact_type) {
            Err(RegistryError::NotFound { .. }) => self.fallback(&tag(digest))?,
            other => other?,
        };
        let read = entries.into_iter().filter_map(|entry| serde_json::from_value::<Descriptor>(entry).ok());
        // A registry may pass over the filter (`OCI-Filters-Applied` says so): it is applied here in any case.
        let wanted = |it: &Descriptor| artifact_type.is_none_or(|kind| it.artifact_type.as_deref() == Some(kind));
        Ok(read.filter(wanted).collect())
    }

    fn listed(&self, digest: Sha256, artifact_type: Option<&str>) -> Result<Vec<Value>, RegistryError> {
        let mut url = self.path(&format!("referrers/{digest}"));
        if let Some(kind) = artifact_type {
            url.query_pairs_mut().append_pair("artifactType", kind);
        }
        let mut entries = Vec::new();
        for _ in 0..MAX_PAGES {
            let ask = Ask::new(Method::GET, url.clone()).with("Accept", INDEX_TYPE);
            let (headers, bytes) = self.http.attempts(|| self.document(&ask, "the list of referrers"))?;
            entries.extend(manifests(&bytes, &place(&url))?);
            let link = header(&headers, "link");
            let next = link.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
            let Some((next, _)) = next.filter(|(_, rest)| rest.contains("next")) else { return Ok(entries) };
            url = self.http.inside(&url, next)?;
        }
        let detail = format!("more than {MAX_PAGES} pages of referrers");
        Err(RegistryError::Malformed { place: place(&url), detail })
    }

    fn fallback(&self, tag: &str) -> Result<Vec<Value>, RegistryError> {
        match self.manifest(tag) {
            Ok((_, bytes)) => manifests(&bytes, tag),
            Err(RegistryError::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Pushes a manifest that has a subject, and lists it as a referrer where the registry does not do so itself.
    ///
    /// The fallback list is read, changed and written without a lock, as the specification has none. What was written
    /// is read again after a while, and written again until everything is in it. An entry is lost only if another
    /// writer takes longer than that while between its own read and write.
    pub fn attach(&self, bytes: &[u8]) -> Result<Descriptor, RegistryError> {
        let unfit = |problem: String| RegistryError::Unfit { what: "the manifest".to_owned(), problem };
        let manifest = Manifest::parse(bytes).map_err(|reason| unfit(reason.message))?;
        let Some(subject) = &manifest.subject else { return Err(unfit("it has no subject".to_owned())) };
        let mut entry = Descriptor::of(MANIFEST_TYPE, bytes);
        entry.artifact_type = Some(manifest.kind().to_owned());
        entry.annotations.clone_from(&manifest.annotations);
        let (_, seen) = self.put_manifest(MANIFEST_TYPE, bytes, &entry.digest.to_string())?;
        if !seen {
            self.list(&tag(subject.digest), &entry)?;
        }
        Ok(entry)
    }

    fn list(&self, tag: &str, entry: &Descriptor) -> Result<(), RegistryError> {
        let ours = serde_json::to_value(entry);
        let ours = ours.map_err(|error| RegistryError::Unfit { what: tag.to_owned(), problem: error.to_string() })?;
        let mut wanted = vec![ours];
        let mut entries = self.fallback(tag)?;
        for turn in 0..TRIES {
            for old in &entries {
                if !holds(&wanted, old) {
                    wanted.push(old.clone());
                }
            }
            if !wanted.iter().all(|it| holds(&entries, it)) {
                let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": wanted });
                self.push_manifest(INDEX_TYPE, index.to_string().as_bytes(), tag)?;
            }
            // Not the same for two writers that met.
            let spread = u64::from(entry.digest.as_bytes()[turn]);
            self.http.pause(SETTLE + Duration::from_millis(spread))?;
            entries = self.fallback(tag)?;
            if wanted.iter().all(|it| holds(&entries, it)) {
                return Ok(());
            }
        }
        Err(RegistryError::Contended { tag: tag.to_owned(), tries: TRIES })
    }
}

fn holds(entries: &[Value], wanted: &Value) -> bool {
    entries.iter().any(|entry| entry.get("digest") == wanted.get("digest"))
}

fn tag(digest: Sha256) -> String {
    format!("sha256-{}", digest.hex())
}

fn manifests(bytes: &[u8], place: &str) -> Result<Vec<Value>, RegistryError> {
    let index = serde_json::from_slice::<Value>(bytes).ok();
    let list = index.as_ref().and_then(|index| index.get("manifests")).and_then(Value::as_array);
    let not = || RegistryError::Malformed { place: place.to_owned(), detail: "no image index".to_owned() };
    list.cloned().ok_or_else(not)
}
