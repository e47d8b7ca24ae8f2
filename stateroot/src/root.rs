//! An opened state root: its documents, links and generations.

use std::path::Path;
use std::sync::Arc;

use autonomy_schema::document::{self, MAX_DOCUMENT_BYTES};
use autonomy_schema::floors::Floors;
use autonomy_schema::journal::Journal;
use autonomy_schema::node::Node;
use autonomy_schema::{Blake3, Code, Document, Mode, Name, Reason, Reasons, RelPath, author, generation};

use crate::disk::{DiskError, FileKind, StateDisk, SyncTarget, read_capped};
use crate::real::RealDisk;
use crate::{durable, layout, place};

/// Largest `node.yaml` in bytes: some hundred labels.
pub const MAX_NODE_BYTES: u64 = 64 << 10;

/// A state root. Clones share the disk.
#[derive(Clone)]
pub struct StateRoot {
    disk: Arc<dyn StateDisk>,
}

impl std::fmt::Debug for StateRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateRoot").finish_non_exhaustive()
    }
}

impl StateRoot {
    /// Opens the initialized state root at `path`, after the checks of INV-01.
    pub fn open(path: &Path) -> Result<Self, Reasons> {
        Self::open_with(path, None)
    }

    /// The same with a stand-in for the magic number that `statfs` gives, for tests.
    pub fn open_with(path: &Path, fs_magic: Option<u64>) -> Result<Self, Reasons> {
        let disk = place::check(path, fs_magic)?;
        Self::initialized(disk, path)
    }

    fn initialized(disk: RealDisk, path: &Path) -> Result<Self, Reasons> {
        let root = Self::on(Arc::new(disk));
        if root.is_initialized().map_err(|error| Reasons::from(error.to_reason()))? {
            return Ok(root);
        }
        let inhabited = !root.generations().map_err(|error| Reasons::from(error.to_reason()))?.is_empty();
        if inhabited {
            return Err(corrupt(&layout::node_yaml(), "it is missing, although the folder has generations"));
        }
        Err(Reason::new(Code::NotInitialized, format!("`{}` is not a state root yet", path.display())).into())
    }

    /// A state root on any disk, unchecked: the simulated one, or one that [`place::check`] gave.
    pub fn on(disk: Arc<dyn StateDisk>) -> Self {
        Self { disk }
    }

    /// The disk.
    pub fn disk(&self) -> &dyn StateDisk {
        &*self.disk
    }

    /// Whether `init` came to its end here.
    pub fn is_initialized(&self) -> Result<bool, DiskError> {
        durable::exists(self.disk(), &layout::node_yaml())
    }

    /// Who the node is.
    pub fn node(&self) -> Result<Node, Reasons> {
        let path = layout::node_yaml();
        let bytes = read_capped(self.disk(), &path, MAX_NODE_BYTES).map_err(|error| error.to_reason())?;
        let bytes = bytes.ok_or_else(|| Reason::new(Code::NotInitialized, "the folder has no `node.yaml`"))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            Reason::new(Code::NotUtf8, format!("`{path}` is not UTF-8 after byte {}", error.utf8_error().valid_up_to()))
        })?;
        author::parse_plain::<Node>(path.as_str(), &text).map_err(|diagnostics| {
            let reasons = diagnostics.iter().map(author::Diagnostic::to_reason).collect();
            Reasons::new(reasons).unwrap_or_else(|| corrupt(&path, "it does not parse"))
        })
    }

    /// The floors. `None` only on a node that has no floors, no generation and no `current`; else their absence is
    /// as bad as damage, as a rollback could pass unseen.
    pub fn floors(&self) -> Result<Option<Floors>, Reasons> {
        let path = layout::floors();
        let unreadable = |why: String| Reasons::from(Reason::new(Code::FloorsUnreadable, format!("`{path}`: {why}")));
        match read_capped(self.disk(), &path, MAX_DOCUMENT_BYTES as u64) {
            Ok(Some(bytes)) => document::parse(&bytes).map(Some).map_err(|reasons| unreadable(reasons.one_line())),
            Ok(None) => {
                let generations = self.generations().map_err(|error| unreadable(error.to_reason().message))?;
                let current = durable::exists(self.disk(), &layout::current());
                if generations.is_empty() && !current.map_err(|error| unreadable(error.to_reason().message))? {
                    return Ok(None);
                }
                Err(unreadable("it is missing although the node has generations".to_owned()))
            }
            Err(error) => Err(unreadable(error.to_reason().message)),
        }
    }

    /// Writes the floors, durably.
    pub fn write_floors(&self, floors: &Floors) -> Result<(), DiskError> {
        self.write_document(&layout::floors(), floors)
    }

    /// The journal; `None` when no apply ever began.
    pub fn journal(&self) -> Result<Option<Journal>, Reasons> {
        self.document(&layout::journal())
    }

    /// Writes the journal, durably.
    pub fn write_journal(&self, journal: &Journal) -> Result<(), DiskError> {
        self.write_document(&layout::journal(), journal)
    }

    /// Removes the journal, durably: no change was ever begun.
    pub fn remove_journal(&self) -> Result<(), DiskError> {
        let path = layout::journal();
        self.disk().remove(&path)?;
        self.disk().sync(SyncTarget::Dir(path.parent().as_ref()))
    }

    /// The active generation.
    pub fn current(&self) -> Result<Option<Name>, Reasons> {
        self.link_to_generation(&layout::current())
    }

    /// The last known good generation.
    pub fn lkg(&self) -> Result<Option<Name>, Reasons> {
        self.link_to_generation(&layout::lkg())
    }

    fn link_to_generation(&self, link: &RelPath) -> Result<Option<Name>, Reasons> {
        let text = match self.disk().read_link(link) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(None),
            Err(error) if error.source.kind() == std::io::ErrorKind::InvalidInput => {
                return Err(corrupt(link, "it is not a symbolic link"));
            }
            Err(error) => return Err(error.to_reason().into()),
        };
        let name = text.strip_prefix("generations/").and_then(|name| name.parse::<Name>().ok());
        match name {
            Some(name) => Ok(Some(name)),
            None => Err(corrupt(link, &format!("it points to `{}`, which is no generation", text.escape_default()))),
        }
    }

    /// The generations, by serial, then fingerprint, then number. A folder whose name is no [`Name`], such as one
    /// that is still being staged under a dot name, is not one.
    pub fn generations(&self) -> Result<Vec<Name>, DiskError> {
        let entries = match self.disk().list(Some(&layout::generations())) {
            Ok(entries) => entries,
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let folders = entries.into_iter().filter(|entry| entry.kind == FileKind::Dir);
        let mut names: Vec<Name> = folders.filter_map(|entry| entry.name.parse().ok()).collect();
        names.sort_by_cached_key(|name| (generation_key(name), name.clone()));
        Ok(names)
    }

    /// A name for a new generation: `<serial>-<first 12 digits of the fingerprint>-<n>`, n one above the highest.
    pub fn next_generation_name(&self, serial: u64, manifest: Blake3) -> Result<Name, DiskError> {
        let generations = self.generations()?;
        let numbers = generations.iter().filter_map(|name| generation::number_of(name, serial, manifest));
        let name = format!("{}{}", generation::prefix(serial, manifest), numbers.max().unwrap_or(0).saturating_add(1));
        name.parse().map_err(|error: autonomy_schema::path::PathError| {
            DiskError::new("name generation", &name, std::io::Error::other(error))
        })
    }

    /// A canonical document of the state root; `None` when it is absent.
    pub(crate) fn document<T: Document>(&self, path: &RelPath) -> Result<Option<T>, Reasons> {
        let bytes = read_capped(self.disk(), path, MAX_DOCUMENT_BYTES as u64).map_err(|error| error.to_reason())?;
        let Some(bytes) = bytes else { return Ok(None) };
        document::parse(&bytes).map(Some).map_err(|reasons| corrupt(path, &reasons.one_line()))
    }

    pub(crate) fn write_document(&self, path: &RelPath, document: &impl Document) -> Result<(), DiskError> {
        let bytes = document.to_canonical();
        let bytes = bytes.map_err(|error| DiskError::new("encode", path, std::io::Error::other(error)))?;
        durable::replace(self.disk(), path, &bytes, Mode::PRIVATE)
    }
}

/// The numbers in a generation's name, so that serial 10 comes after 9.
fn generation_key(name: &Name) -> (u64, String, u64) {
    let mut parts = name.as_str().splitn(3, '-');
    let serial = parts.next().and_then(|part| part.parse().ok()).unwrap_or(u64::MAX);
    let fingerprint = parts.next().unwrap_or_default().to_owned();
    let number = parts.next().and_then(|part| part.parse().ok()).unwrap_or(u64::MAX);
    (serial, fingerprint, number)
}

/// A file of the state root is not what it must be.
pub(crate) fn corrupt(path: &RelPath, why: &str) -> Reasons {
    Reason::new(Code::CorruptState, format!("`{path}`: {why}")).into()
}
