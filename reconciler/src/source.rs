//! Where sets come from (DESIGN §12): what a source is called, what it points to now, and the set itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use autonomy_git::{GitOptions, GitUrl};
use autonomy_oci::{Layout, LayoutRef, LayoutSet, Reference, Registry, RegistryOptions, RemoteSet, Strays, reference};
use autonomy_schema::{Blake3, Code, Reason, Reasons, document, set};
use autonomy_stateroot::{DirSet, SetSource, StateRoot, Unfolded};

use crate::delta::complete;
use crate::import;
use crate::judge::peek;
use crate::pull;

/// How remote sources are reached, beside what the environment says.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// Certificates (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// A file in the format of git-credential-store, instead of the user's own.
    pub git_credentials: Option<PathBuf>,
    /// Speak https to a registry on this machine too; with others it is always spoken.
    pub tls: bool,
    /// How long a registry may be silent, instead of 30 seconds.
    pub patience: Option<Duration>,
    /// Set to true from another thread to stop a fetch.
    pub cancel: Option<Arc<AtomicBool>>,
    /// The state root whose inbox `inbox` means, and whose sets complete one that leaves artifacts out.
    pub state_root: Option<PathBuf>,
}

/// A source that can be looked at again and again.
#[derive(Debug, Clone)]
pub enum Source {
    /// A folder.
    Folder(PathBuf),
    /// A folder of a commit in a git repository.
    Git(GitUrl, Reach),
    /// A set in an OCI image layout, such as `export` writes.
    Layout(LayoutRef, Reach),
    /// A set in a registry.
    Registry(Reference, Reach),
    /// The inbox of a node: the set with this fingerprint, or the one with the highest serial.
    Inbox(PathBuf, Option<Blake3>),
}

/// Kinds of sources that are named already and come with later versions.
const LATER: [&str; 1] = ["release:"];

impl Source {
    /// Reads what the operator wrote. Nothing is opened.
    pub fn parse(text: &str, reach: Reach) -> Result<Self, Reasons> {
        if GitUrl::claims(text) {
            let url = text.parse().map_err(|error: autonomy_git::UrlError| error.to_reason())?;
            return Ok(Self::Git(url, reach));
        }
        if text == "inbox" || text.starts_with("inbox:") {
            return inbox(text, reach);
        }
        if LATER.iter().any(|prefix| text.starts_with(prefix)) {
            let kind = text.split(':').next().unwrap_or(text);
            let reason = Reason::new(Code::NotBuilt, format!("this version cannot read sources of kind `{kind}` yet"));
            return Err(reason.with_remedy("name a folder, an image layout, a registry or a git repository").into());
        }
        if text.starts_with(reference::SCHEME) {
            let found = text.parse().map_err(|error: autonomy_oci::ReferenceError| error.to_reason())?;
            return Ok(Self::Registry(found, reach));
        }
        if text.starts_with("oci:") {
            return Ok(Self::Layout(text.parse()?, reach));
        }
        Ok(Self::Folder(PathBuf::from(text)))
    }

    /// Whether something must be fetched before the set can be read.
    pub fn fetches(&self) -> bool {
        match self {
            Self::Folder(_) | Self::Layout(..) | Self::Inbox(..) => false,
            Self::Git(url, _) => !url.is_local(),
            Self::Registry(..) => true,
        }
    }

    /// What the source points to now, without reading the set: it changes when the set does. `None` when nothing is there
    /// and that is no error.
    pub fn tip(&self) -> Result<Option<String>, Reasons> {
        match self {
            Self::Folder(path) => {
                let set = folder(path)?;
                let mut seen = peek(&set, set::MANIFEST, document::MAX_DOCUMENT_BYTES as u64);
                seen.extend(peek(&set, set::MANIFEST_SIGNATURES, set::MAX_SIGNATURES_BYTES));
                Ok(Some(Blake3::of(&seen).to_string()))
            }
            Self::Layout(wanted, _) => Ok(Some(format!("oci:{}", layout(wanted)?.digest()))),
            Self::Registry(reference, reach) => {
                let named = reach.registry(reference)?.resolve().map_err(|error| error.to_reason())?;
                Ok(Some(format!("oci:{}", named.digest)))
            }
            Self::Inbox(path, wanted) => {
                let found = chosen(path, *wanted)?;
                Ok(found.map(|found| format!("inbox:{found}")))
            }
            Self::Git(url, reach) => {
                let commit = autonomy_git::tip(url, &options(reach, None)).map_err(|error| error.to_reason())?;
                Ok(Some(format!("commit:{commit}")))
            }
        }
    }

    /// Opens the set. What must be fetched goes below `workspace`, each source into a folder of its own; `progress` is
    /// told how many bytes have come.
    pub fn open(&self, workspace: &Path, progress: &dyn Fn(u64)) -> Result<Box<dyn SetSource>, Reasons> {
        match self {
            Self::Folder(path) => {
                let set = folder(path)?;
                // What was pulled has its trees as they lie in a registry.
                if path.join(set::TREES).is_dir() {
                    return Ok(Box::new(Unfolded::new(Box::new(set))));
                }
                Ok(Box::new(set))
            }
            Self::Layout(wanted, reach) => {
                // A folder that is no state root yet has nothing to complete a set with.
                let root = reach.state_root.as_deref().map(StateRoot::open).and_then(Result::ok);
                Ok(complete(layout(wanted)?, root.as_ref()))
            }
            Self::Inbox(path, wanted) => {
                let found = chosen(path, *wanted)?.ok_or_else(|| {
                    let reason = Reason::new(Code::SourceNotFound, "the inbox is empty");
                    Reasons::from(reason.with_remedy("put a set there: `autonomy import DIR`"))
                })?;
                Ok(Box::new(folder(&path.join(autonomy_stateroot::layout::inbox_entry(found).as_str()))?))
            }
            Self::Registry(reference, reach) => {
                // Tags come and go; what they have in common stays in one folder.
                let place = format!("{}/{}", reference.authority(), reference.repository());
                let own = workspace.join(Blake3::of(place.as_bytes()).short());
                let remote = RemoteSet::open(reach.registry(reference)?)?;
                let pulled = pull::pull(&remote, &own, Strays::Remove, &|done, _| progress(done))?;
                Ok(Box::new(Unfolded::new(Box::new(pulled))))
            }
            Self::Git(url, reach) => {
                let own = workspace.join(Blake3::of(url.to_string().as_bytes()).short());
                let set = autonomy_git::fetch(url, &own, &options(reach, Some(progress)));
                Ok(Box::new(set.map_err(|error| error.to_reason())?))
            }
        }
    }
}

impl Reach {
    /// A registry, ready to be asked.
    pub fn registry(&self, reference: &Reference) -> Result<Registry, Reason> {
        let usual = RegistryOptions::default();
        let options = RegistryOptions {
            ca_file: self.ca_file.clone(),
            tls: self.tls,
            silence: self.patience.unwrap_or(usual.silence),
            cancel: self.cancel.clone(),
            ..usual
        };
        Registry::connect(reference, options).map_err(|error| error.to_reason())
    }
}

fn options<'a>(reach: &Reach, progress: Option<&'a dyn Fn(u64)>) -> GitOptions<'a> {
    GitOptions {
        ca_file: reach.ca_file.clone(),
        credentials: reach.git_credentials.clone(),
        progress,
        cancel: reach.cancel.clone(),
        ..GitOptions::default()
    }
}

fn inbox(text: &str, reach: Reach) -> Result<Source, Reasons> {
    let Some(state_root) = reach.state_root else {
        let reason = Reason::new(Code::SourceNotFound, "the inbox is a node's, and no state root was given");
        return Err(reason.with_remedy("give --state-root DIR, or set AUTONOMY_STATE_ROOT").into());
    };
    let Some(wanted) = text.strip_prefix("inbox:") else { return Ok(Source::Inbox(state_root, None)) };
    // With or without the algorithm, as `autonomy facts` and the folder's name have it.
    let digest = if wanted.starts_with("blake3:") { wanted.to_owned() } else { format!("blake3:{wanted}") };
    let digest =
        digest.parse().map_err(|error| Reason::new(Code::BadDigest, format!("`{}`: {error}", text.escape_debug())));
    Ok(Source::Inbox(state_root, Some(digest?)))
}

fn chosen(state_root: &Path, wanted: Option<Blake3>) -> Result<Option<Blake3>, Reasons> {
    match wanted {
        Some(wanted) => Ok(Some(wanted)),
        None => import::newest(&StateRoot::open(state_root)?),
    }
}

fn layout(wanted: &LayoutRef) -> Result<LayoutSet, Reasons> {
    Arc::new(Layout::open(&wanted.path)?).set(wanted)
}

fn folder(path: &Path) -> Result<DirSet, Reasons> {
    DirSet::open(path).map_err(|error| error.to_reason().into())
}
