//! A file that claims to be a backup, looked through from its first byte to its last before anything of it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use autonomy_schema::backup::{Backup, BackupEntry, EntryType, MAX_ENTRIES};
use autonomy_schema::floors::Floors;
use autonomy_schema::journal::Journal;
use autonomy_schema::node::Node as NodeDoc;
use autonomy_schema::{Blake3, Code, Document as _, Mode, Name, Reason, Reasons, RelPath, Sha256, Time, document};
use autonomy_stateroot::{StatCache, StateRoot, layout};
use autonomy_trust::PinnedRoot;
use sha2::Digest as _;

use super::check::{self, Generations};
use super::medium::{Body, Medium, Node};
use super::places;
use super::tarball::{Found, Headers, Kind};
use autonomy_sets::roots::pinned_root;

/// The last entry.
pub(super) const LIST: &str = "backup.json";
/// Bytes read at once.
const BUFFER: usize = 1 << 20;
/// As many differences are told.
const MAX_REASONS: usize = 20;

/// A backup whose every byte is what its list says, and whose own documents agree with each other. Who signed what is in
/// it is asked with the trust root of the node that it is for.
pub struct Archive {
    medium: Arc<Medium>,
    root: StateRoot,
    list: Backup,
    node: NodeDoc,
    floors: Floors,
    trust: PinnedRoot,
    known: StatCache,
    journal: Option<Journal>,
    pinned: BTreeSet<Blake3>,
    links: Links,
}

/// What the two links of a state root point to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Links {
    pub(super) current: Option<Name>,
    pub(super) lkg: Option<Name>,
}

impl Archive {
    /// Reads the whole file; nothing is written. `progress` is told bytes read and bytes in all.
    pub fn open(path: &Path, progress: &dyn Fn(u64, u64)) -> Result<Self, Reasons> {
        let failed = |error: std::io::Error| {
            let code = if error.kind() == std::io::ErrorKind::NotFound { Code::SourceNotFound } else { Code::IoError };
            Reasons::from(Reason::new(code, format!("cannot read {}: {error}", path.display())))
        };
        let meta = path.metadata().map_err(failed)?;
        if !meta.is_file() {
            let message = format!("{} is not a regular file", path.display());
            return Err(Reason::new(Code::WrongType, message).into());
        }
        let file = Arc::new(File::open(path).map_err(failed)?);
        let mut look = Look { total: meta.len(), progress, nodes: BTreeMap::new(), time: None };
        let bytes = look.through(&file)?;
        let list: Backup = document::parse(&bytes)?;
        Reasons::check(differences(&list, &look.nodes))?;
        if look.time.is_some_and(|time| time != list.created_at) {
            return Err(Reason::new(Code::DigestMismatch, "the times in the archive are not those of its list").into());
        }
        Self::agreeing(Arc::new(Medium::new(file, look.nodes)), list)
    }

    /// The documents in the archive agree with each other and with its list.
    fn agreeing(medium: Arc<Medium>, list: Backup) -> Result<Self, Reasons> {
        let root = StateRoot::on(Arc::clone(&medium) as Arc<dyn autonomy_stateroot::StateDisk>);
        for path in [layout::node_yaml(), layout::trust_root(), layout::trust_root_signatures(), layout::floors()] {
            if !matches!(medium.node(&path), Some(Node::File(_))) {
                return Err(Reason::new(Code::MissingFile, format!("the archive lacks `{path}`")).into());
            }
        }
        let node = root.node().map_err(inside)?;
        let trust = pinned_root(&root)?;
        let floors = root.floors().map_err(inside)?.unwrap_or_default();
        let (journal, pinned) = (root.journal().map_err(inside)?, root.pinned().map_err(inside)?);
        let links = Links { current: root.current().map_err(inside)?, lkg: root.lkg().map_err(inside)? };
        let differs = |what: &str| Reason::new(Code::DigestMismatch, format!("`{LIST}` names {what}"));
        let mut reasons = Vec::new();
        if (&list.node_id, &list.fleet) != (&node.node_id, &node.fleet) {
            reasons.push(differs("another node than the archive's `node.yaml`"));
        }
        if list.floors != summary(&floors) {
            reasons.push(differs("other floors than the archive's `trust/floors.json`"));
        }
        Reasons::check(reasons)?;
        let known = medium.known();
        Ok(Self { medium, root, list, node, floors, trust, known, journal, pinned, links })
    }

    /// The list.
    pub fn list(&self) -> &Backup {
        &self.list
    }

    /// Verifies every generation in the archive under the archive's own trust root: all that can be asked of a backup for
    /// a place where nothing is pinned yet.
    pub fn verify(&self) -> Result<(), Reasons> {
        self.generations(&self.trust).map(drop)
    }

    /// The generations, verified under `trust`.
    pub(super) fn generations(&self, trust: &PinnedRoot) -> Result<Generations, Reasons> {
        let mut reasons = Vec::new();
        let mut generations = Generations::new();
        for name in self.root.generations().map_err(|error| error.to_reason())? {
            match check::whole(&self.root, &name, trust, &self.known) {
                Ok(manifest) => drop(generations.insert(name, manifest)),
                Err(against) => reasons.extend(against.into_vec()),
            }
        }
        for link in [&self.links.current, &self.links.lkg].into_iter().flatten() {
            if !generations.contains_key(link) && reasons.is_empty() {
                let message = format!("a link in the archive points to generation `{link}`, which it lacks");
                reasons.push(Reason::new(Code::MissingFile, message));
            }
        }
        reasons.truncate(MAX_REASONS);
        Reasons::check(reasons)?;
        Ok(generations)
    }

    /// The archive as a state root that cannot be written.
    pub(super) fn root(&self) -> &StateRoot {
        &self.root
    }

    pub(super) fn journal(&self) -> Option<&Journal> {
        self.journal.as_ref()
    }

    pub(super) fn pinned(&self) -> &BTreeSet<Blake3> {
        &self.pinned
    }

    pub(super) fn links(&self) -> &Links {
        &self.links
    }

    pub(super) fn medium(&self) -> &Medium {
        &self.medium
    }

    pub(super) fn node(&self) -> &NodeDoc {
        &self.node
    }

    pub(super) fn floors(&self) -> &Floors {
        &self.floors
    }

    pub(super) fn trust(&self) -> &PinnedRoot {
        &self.trust
    }
}

/// A document that does not parse is damage on a node; in an archive whose bytes are those of its list it was put there.
fn inside(reasons: Reasons) -> Reasons {
    let refused = reasons.as_slice().iter().map(|reason| {
        Reason::new(Code::BadValue, format!("in the archive: {}", reason.message))
            .with_remedy("the archive was not made by `autonomy backup`; take another")
    });
    Reasons::new(refused.collect()).unwrap_or(reasons)
}

/// What `backup.json` says of floors.
pub(super) fn summary(floors: &Floors) -> BTreeMap<Name, u64> {
    floors.streams.iter().map(|(stream, floor)| (stream.clone(), floor.serial)).collect()
}

/// The first and only pass over the archive.
struct Look<'a> {
    total: u64,
    progress: &'a dyn Fn(u64, u64),
    nodes: BTreeMap<RelPath, Node>,
    time: Option<Time>,
}

impl Look<'_> {
    /// Gives the bytes of the list.
    fn through(&mut self, file: &File) -> Result<Vec<u8>, Reason> {
        let mut headers = Headers::new(BufReader::with_capacity(BUFFER, file));
        let mut buffer = vec![0; BUFFER];
        while let Some(found) = headers.next()? {
            if self.nodes.len() == MAX_ENTRIES {
                let message = format!("the archive has more than {MAX_ENTRIES} entries");
                return Err(Reason::new(Code::LimitExceeded, message));
            }
            if found.member.path == LIST {
                let bytes = list_bytes(&mut headers, &found)?;
                self.exact(&found)?;
                return match headers.next()? {
                    None => Ok(bytes),
                    Some(more) => {
                        let message = format!("`{}` comes after `{LIST}`", more.member.path.escape_default());
                        Err(Reason::new(Code::ExtraneousFile, message))
                    }
                };
            }
            let path = self.place(&found)?;
            let node = self.node(&mut headers, &found, &path, &mut buffer)?;
            self.exact(&found)?;
            self.nodes.insert(path, node);
            (self.progress)(headers.at, self.total);
        }
        let message = format!("the archive ends without `{LIST}`, so nobody knows whether it is whole");
        Err(Reason::new(Code::MissingFile, message))
    }

    /// A path that a state root has, once, below a folder that came before.
    fn place(&self, found: &Found) -> Result<RelPath, Reason> {
        let text = &found.member.path;
        let path = text.parse::<RelPath>().map_err(|error| {
            let message = error.to_string();
            Reason::new(Code::UnsafePath, message.strip_prefix("unsafe_path: ").unwrap_or(&message).to_owned())
        })?;
        if found.member.kind == Kind::Other {
            let message = format!("`{path}` is a device or another special entry; a backup holds none");
            return Err(Reason::new(Code::SymlinkRefused, message));
        }
        if self.nodes.contains_key(&path) {
            return Err(Reason::new(Code::ExtraneousFile, format!("`{path}` occurs twice in the archive")));
        }
        if !places::belongs(&path, found.member.kind == Kind::Folder) {
            return Err(Reason::new(Code::ExtraneousFile, format!("`{path}` is nothing that a backup holds")));
        }
        match path.parent().map(|parent| (self.nodes.get(&parent), parent)) {
            None | Some((Some(Node::Folder(_)), _)) => Ok(path),
            Some((_, parent)) => {
                let message = format!("`{path}` comes before its folder `{parent}`, or that is no folder");
                Err(Reason::new(Code::UnsafePath, message))
            }
        }
    }

    fn node(
        &self,
        headers: &mut Headers<BufReader<&File>>,
        found: &Found,
        path: &RelPath,
        buffer: &mut [u8],
    ) -> Result<Node, Reason> {
        let refused = |why: &str| Err(Reason::new(Code::SymlinkRefused, format!("`{path}` {why}")));
        match &found.member.kind {
            Kind::Folder | Kind::File(_) | Kind::Link(_) if places::is_link(path) => {
                refused("is no symbolic link, and must be one")
            }
            Kind::Folder => Ok(Node::Folder(found.member.mode)),
            Kind::File(size) => body(headers, *size, found.member.mode, buffer).map(Node::File),
            Kind::Link(target) => match target.parse().ok().and_then(|target: RelPath| self.nodes.get(&target)) {
                Some(Node::File(body)) => Ok(Node::File(*body)),
                Some(Node::Folder(_) | Node::Symlink(_)) | None => {
                    refused(&format!("is a hard link to `{}`, no file before it", target.escape_default()))
                }
            },
            Kind::Symlink(target) if places::may_point(path, target) => Ok(Node::Symlink(target.clone())),
            Kind::Symlink(target) => {
                refused(&format!("is a symbolic link to `{}`; a backup holds none such", target.escape_default()))
            }
            Kind::Other => refused("is a device or another special entry"),
        }
    }

    /// The header is what `backup` writes, and all have one time.
    fn exact(&mut self, found: &Found) -> Result<(), Reason> {
        let time = *self.time.get_or_insert(found.member.time);
        if found.exact && time == found.member.time {
            return Ok(());
        }
        let message = format!("the header of `{}` is not as `autonomy backup` writes it", found.member.path);
        Err(Reason::new(Code::DigestMismatch, message).with_remedy("take another copy of the backup"))
    }
}

/// Reads one file, hashing it.
fn body(headers: &mut Headers<BufReader<&File>>, size: u64, mode: Mode, buffer: &mut [u8]) -> Result<Body, Reason> {
    let offset = headers.at;
    let (mut blake3, mut sha256) = (blake3::Hasher::new(), sha2::Sha256::new());
    let mut left = size;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        headers.take(&mut buffer[..most])?;
        blake3.update(&buffer[..most]);
        sha256.update(&buffer[..most]);
        left -= most as u64;
    }
    headers.skip_padding(size)?;
    let digests = (Blake3::from_bytes(*blake3.finalize().as_bytes()), Sha256::from_bytes(sha256.finalize().into()));
    Ok(Body { offset, size, digests, mode })
}

fn list_bytes(headers: &mut Headers<BufReader<&File>>, found: &Found) -> Result<Vec<u8>, Reason> {
    let Kind::File(size) = found.member.kind else {
        return Err(Reason::new(Code::SymlinkRefused, format!("`{LIST}` is no regular file")));
    };
    if size > Backup::MAX_BYTES as u64 {
        let message = format!("`{LIST}` has {size} bytes; the cap is {}", Backup::MAX_BYTES);
        return Err(Reason::new(Code::DocumentTooLarge, message));
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
    headers.take(&mut bytes)?;
    headers.skip_padding(size)?;
    Ok(bytes)
}

/// What the list must say of something in the archive.
pub(super) fn entry(path: &RelPath, node: &Node) -> BackupEntry {
    let bare =
        BackupEntry { path: path.clone(), kind: EntryType::Folder, mode: None, size: None, blake3: None, target: None };
    match node {
        Node::Folder(mode) => BackupEntry { mode: Some(*mode), ..bare },
        Node::Symlink(target) => BackupEntry { kind: EntryType::Symlink, target: Some(target.clone()), ..bare },
        Node::File(body) => BackupEntry {
            kind: EntryType::File,
            mode: Some(body.mode),
            size: Some(body.size),
            blake3: Some(body.digests.0),
            ..bare
        },
    }
}

/// The archive against its list.
fn differences(list: &Backup, nodes: &BTreeMap<RelPath, Node>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut listed = 0;
    for wanted in &list.entries {
        match nodes.get(&wanted.path) {
            Some(node) if entry(&wanted.path, node) == *wanted => listed += 1,
            Some(_) => {
                listed += 1;
                let message = format!("`{}` in the archive is not what `{LIST}` says", wanted.path);
                reasons.push(Reason::new(Code::DigestMismatch, message));
            }
            None => {
                let message = format!("the archive lacks `{}`, which `{LIST}` names", wanted.path);
                reasons.push(Reason::new(Code::MissingFile, message));
            }
        }
        if reasons.len() == MAX_REASONS {
            return reasons;
        }
    }
    if listed < nodes.len() {
        let strange = nodes.keys().find(|path| list.entries.binary_search_by(|entry| entry.path.cmp(path)).is_err());
        let shown = strange.map(ToString::to_string).unwrap_or_default();
        let message = format!("`{shown}` is in the archive and not in `{LIST}`");
        reasons.push(Reason::new(Code::ExtraneousFile, message));
    }
    reasons
}
