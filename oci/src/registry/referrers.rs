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

    /// Pushes manifests that have the same subject, and lists them as its referrers where the registry does not do so
    /// itself.
    ///
    /// The fallback list is read, changed and written without a lock, as the specification has none. What was written
    /// is read again after a while, and written again until everything is in it. An entry is lost only if another
    /// writer takes longer than that while between its own read and write.
    pub fn attach(&self, manifests: &[Vec<u8>]) -> Result<Vec<Descriptor>, RegistryError> {
        let unfit = |problem: &str| RegistryError::Unfit { what: "a referrer".to_owned(), problem: problem.to_owned() };
        let (mut entries, mut unseen, mut subject) = (Vec::new(), Vec::new(), None);
        for bytes in manifests {
            let manifest = Manifest::parse(bytes).map_err(|reason| unfit(&reason.message))?;
            let of =
                manifest.subject.as_ref().map(|subject| subject.digest).ok_or_else(|| unfit("it has no subject"))?;
            if *subject.get_or_insert(of) != of {
                return Err(unfit("it has another subject than those beside it"));
            }
            let mut entry = Descriptor::of(MANIFEST_TYPE, bytes);
            entry.artifact_type = Some(manifest.kind().to_owned());
            entry.annotations.clone_from(&manifest.annotations);
            let (_, seen) = self.put_manifest(MANIFEST_TYPE, bytes, &entry.digest.to_string())?;
            if !seen {
                unseen.push(entry.clone());
            }
            entries.push(entry);
        }
        if let Some(subject) = subject.filter(|_| !unseen.is_empty()) {
            self.list(&tag(subject), &unseen)?;
        }
        Ok(entries)
    }

    /// Waits for other writers of a list; not the same span for two that met.
    pub(crate) fn settle(&self, new: &[Descriptor], turn: usize) -> Result<(), RegistryError> {
        let spread = new.iter().map(|it| u64::from(it.digest.as_bytes()[turn % 32])).sum::<u64>() % 256;
        self.http.pause(SETTLE + Duration::from_millis(spread))
    }

    fn list(&self, tag: &str, new: &[Descriptor]) -> Result<(), RegistryError> {
        let unfit =
            |error: serde_json::Error| RegistryError::Unfit { what: tag.to_owned(), problem: error.to_string() };
        let mut wanted = new.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>().map_err(unfit)?;
        let mut entries = self.fallback(tag)?;
        for turn in 0..TRIES {
            // What is there already stays, before what is new, so that the list has one order.
            let missing: Vec<Value> = wanted.iter().filter(|it| !holds(&entries, it)).cloned().collect();
            if missing.is_empty() {
                return Ok(());
            }
            let mut written = entries;
            written.extend(missing);
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": written });
            self.push_manifest(INDEX_TYPE, index.to_string().as_bytes(), tag)?;
            wanted = written;
            self.settle(new, turn)?;
            entries = self.fallback(tag)?;
        }
        if wanted.iter().all(|it| holds(&entries, it)) {
            return Ok(());
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
