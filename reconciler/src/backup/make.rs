//! What goes into a backup, and the writing of it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use autonomy_schema::backup::{Backup, EntryType, MAX_ENTRIES};
use autonomy_schema::version::{ApiVersion, Kind as DocKind, TOOL_VERSION};
use autonomy_schema::{Blake3, Code, Document as _, Mode, Name, Reason, Reasons, RelPath, Sha256, Time};
use autonomy_stateroot::{DiskError, FileKind, Stat, StatCache, StateRoot, layout, learn};
use autonomy_trust::PinnedRoot;

use super::archive::{LIST, entry, summary};
use super::check;
use super::medium::{Body, Node};
use super::places;
use super::tarball::{Kind, Member, header, padding};
use autonomy_sets::roots::pinned_root;

/// Bytes read and written at once.
const BUFFER: usize = 1 << 20;

/// What a backup will hold.
pub(super) struct Survey {
    /// Everything, by path.
    items: BTreeMap<RelPath, Stat>,
    /// What is left out although it lies in the state root, and why.
    pub(super) notes: Vec<String>,
}

impl Survey {
    /// Looks the node over. Refuses one whose backup could not be restored.
    pub(super) fn of(root: &StateRoot) -> Result<Self, Reasons> {
        let failed = |error: DiskError| Reasons::from(error.to_reason());
        root.node()?;
        if root.floors()?.is_none() {
            return Err(Reason::new(Code::FloorsUnreadable, format!("`{}`: it is missing", layout::floors())).into());
        }
        root.journal()?;
        root.pinned()?;
        root.lkg()?;
        let trust = pinned_root(root)?;
        let mut survey = Self { items: BTreeMap::new(), notes: Vec::new() };
        let damaged = survey.damaged(root, &trust)?;
        survey.walk(root, &damaged).map_err(failed)?;
        survey.links(root).map_err(failed)?;
        if survey.items.len() >= MAX_ENTRIES {
            let message = format!("the state root holds more than {MAX_ENTRIES} files, the most that a backup takes");
            return Err(Reason::new(Code::LimitExceeded, message).into());
        }
        Ok(survey)
    }

    /// Generations that are not whole are left out; the active one must be.
    fn damaged(&mut self, root: &StateRoot, trust: &PinnedRoot) -> Result<Vec<Name>, Reasons> {
        let current = root.current()?;
        let mut damaged = Vec::new();
        for name in root.generations().map_err(|error| error.to_reason())? {
            let mut cache = StatCache::default();
            learn(root, &name, &mut cache).map_err(|error| error.to_reason())?;
            let Err(reasons) = check::whole(root, &name, trust, &cache) else { continue };
            if current.as_ref() == Some(&name) {
                let message = format!(
                    "the active generation is damaged, so a backup of it could not be restored: {}",
                    one_line(&reasons)
                );
                let remedy = "apply its set again, which repairs it, or restore an earlier backup";
                return Err(Reason::new(Code::CorruptState, message).with_remedy(remedy).into());
            }
            self.notes.push(format!("generation `{name}` is damaged and is left out: {}", one_line(&reasons)));
            damaged.push(name);
        }
        Ok(damaged)
    }

    fn walk(&mut self, root: &StateRoot, damaged: &[Name]) -> Result<(), DiskError> {
        let mut todo = vec![None::<RelPath>];
        while let Some(folder) = todo.pop() {
            let entries = match root.disk().list_stat(folder.as_ref()) {
                Ok(entries) => entries,
                // Another process may remove what it made while we look.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            for (name, stat) in entries {
                let text = folder.as_ref().map_or_else(|| name.clone(), |folder| format!("{folder}/{name}"));
                let Ok(path) = text.parse::<RelPath>() else {
                    if folder.as_ref().is_some_and(|folder| folder.as_str().starts_with("generations/")) {
                        // A whole generation holds nothing but what its manifest names: left out, it could not be restored.
                        return Err(DiskError::new("back up", text.escape_default(), io::ErrorKind::InvalidFilename));
                    }
                    self.notes.push(format!(
                        "`{}` is no name that a backup can hold, and is left out",
                        text.escape_default()
                    ));
                    continue;
                };
                if damaged.iter().any(|name| layout::generation(name) == path) {
                    continue;
                }
                if self.takes(&path, &stat) {
                    if stat.kind == FileKind::Dir {
                        todo.push(Some(path.clone()));
                    }
                    self.items.insert(path, stat);
                }
            }
        }
        Ok(())
    }

    fn takes(&mut self, path: &RelPath, stat: &Stat) -> bool {
        if !places::belongs(path, stat.kind == FileKind::Dir) {
            let strange = path.parent().is_none() && !layout::TOP_NAMES.contains(&path.as_str());
            if strange && path.as_str() != "lost+found" {
                self.notes.push(format!("`{path}` is nothing of a state root, and is left out"));
            }
            return false;
        }
        let why = match stat.kind {
            FileKind::Other => "is a socket, pipe or device",
            FileKind::Symlink if !places::is_link(path) => "is a symbolic link",
            FileKind::Dir | FileKind::File if places::is_link(path) => "is no symbolic link",
            FileKind::File | FileKind::Dir | FileKind::Symlink => return true,
        };
        self.notes.push(format!("`{path}` {why}, and is left out"));
        false
    }

    /// Links to what is not in the backup are left out.
    fn links(&mut self, root: &StateRoot) -> Result<(), DiskError> {
        let links: Vec<RelPath> = self.items.keys().filter(|path| places::is_link(path)).cloned().collect();
        for link in links {
            let text = root.disk().read_link(&link)?.unwrap_or_default();
            if places::is_policy_slot(&link) {
                let bundle = layout::policy_target(&text).map(layout::policy_bundle);
                if bundle.is_none_or(|bundle| !self.items.contains_key(&bundle)) {
                    self.items.remove(&link);
                    self.notes.push(format!("`{link}` points to no policy bundle, and is left out"));
                }
                continue;
            }
            let target = text.rsplit('/').next().and_then(|name| name.parse::<Name>().ok());
            let kept = target.is_some_and(|name| self.items.contains_key(&layout::generation(&name)));
            if !(kept && places::may_point(&link, &text)) {
                self.items.remove(&link);
                self.notes.push(format!("`{link}` points to no whole generation, and is left out"));
            }
        }
        Ok(())
    }

    /// Bytes that will be read, hard links once.
    fn total(&self) -> u64 {
        let mut seen = std::collections::BTreeSet::new();
        let files = self.items.values().filter(|stat| stat.kind == FileKind::File);
        files.filter(|stat| seen.insert((stat.identity.dev, stat.identity.ino))).map(|stat| stat.size).sum()
    }

    /// Folders first, then objects, then what links them, then links: an order in which everything is there before it is
    /// referred to.
    fn order(&self) -> Vec<(&RelPath, &Stat)> {
        let objects = layout::objects();
        let class = |(path, stat): &(&RelPath, &Stat)| match stat.kind {
            FileKind::Dir => 0,
            FileKind::File if path.parent().as_ref() == Some(&objects) => 1,
            FileKind::File | FileKind::Other => 2,
            FileKind::Symlink => 3,
        };
        let mut items: Vec<_> = self.items.iter().collect();
        items.sort_by_key(class);
        items
    }
}

fn one_line(reasons: &Reasons) -> String {
    reasons.one_line()
}

/// A file that replaces another when it is whole, and goes away when it is not.
pub(super) struct Pending {
    file: Option<BufWriter<File>>,
    beside: PathBuf,
    path: PathBuf,
}

impl Pending {
    /// Makes the file beside `path`, for its owner alone: the private key of the node will be in it.
    pub(super) fn beside(path: &Path) -> Result<Self, Reason> {
        let failed = |error: &io::Error| io_reason("write", path, error);
        let name = path.file_name().ok_or_else(|| failed(&io::ErrorKind::InvalidFilename.into()))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.tmp", std::process::id()));
        let beside = path.with_file_name(hidden);
        let file = OpenOptions::new().write(true).create_new(true).mode(Mode::PRIVATE.bits()).open(&beside);
        let file = file.map_err(|error| failed(&error))?;
        Ok(Self { file: Some(BufWriter::with_capacity(BUFFER, file)), beside, path: path.to_owned() })
    }

    /// Makes the file durable under its name.
    fn finish(mut self) -> Result<(), Reason> {
        let done = self.file.take().map_or(Ok(()), |file| {
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            std::fs::rename(&self.beside, &self.path)?;
            let folder = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()
        });
        done.map_err(|error| io_reason("write", &self.path, &error))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        let written = self.file.as_mut().map_or(Ok(()), |file| file.write_all(bytes));
        written.map_err(|error| io_reason("write", &self.path, &error))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Gone already when it was renamed.
        std::fs::remove_file(&self.beside).ok();
    }
}

fn io_reason(action: &str, path: &Path, error: &io::Error) -> Reason {
    Reason::new(Code::IoError, format!("cannot {action} {}: {error}", path.display()))
}

/// Writes the archive of what was surveyed, and gives its list.
pub(super) fn write(
    root: &StateRoot,
    survey: &Survey,
    clock: Time,
    to: Pending,
    progress: &dyn Fn(u64, u64),
) -> Result<Backup, Reasons> {
    let mut writer = Writer {
        root,
        to,
        time: clock,
        nodes: BTreeMap::new(),
        names: BTreeMap::new(),
        done: 0,
        total: survey.total(),
        progress,
    };
    for (path, stat) in survey.order() {
        writer.item(path, stat)?;
    }
    let list = writer.list()?;
    let bytes = list.to_canonical().map_err(|error| Reason::new(Code::IoError, error.to_string()))?;
    if bytes.len() > Backup::MAX_BYTES {
        let message = format!("the list of the backup has {} bytes; the cap is {}", bytes.len(), Backup::MAX_BYTES);
        return Err(Reason::new(Code::LimitExceeded, message).into());
    }
    writer.header(LIST, Kind::File(bytes.len() as u64), Mode::PRIVATE)?;
    writer.to.write(&bytes)?;
    writer.pad(bytes.len() as u64)?;
    writer.to.write(&[0; 1024])?;
    writer.to.finish()?;
    Ok(list)
}

struct Writer<'a> {
    root: &'a StateRoot,
    to: Pending,
    time: Time,
    nodes: BTreeMap<RelPath, Node>,
    /// The first name of each file that has several.
    names: BTreeMap<(u64, u64), RelPath>,
    done: u64,
    total: u64,
    progress: &'a dyn Fn(u64, u64),
}

impl Writer<'_> {
    fn item(&mut self, path: &RelPath, stat: &Stat) -> Result<(), Reason> {
        let node = match stat.kind {
            FileKind::Dir => {
                self.header(path.as_str(), Kind::Folder, stat.mode)?;
                Node::Folder(stat.mode)
            }
            FileKind::Symlink | FileKind::Other => {
                let text = self.root.disk().read_link(path).map_err(|error| error.to_reason())?.unwrap_or_default();
                self.header(path.as_str(), Kind::Symlink(text.clone()), Mode::from_bits(0o777))?;
                Node::Symlink(text)
            }
            FileKind::File => self.file(path, stat)?,
        };
        self.nodes.insert(path.clone(), node);
        Ok(())
    }

    fn file(&mut self, path: &RelPath, stat: &Stat) -> Result<Node, Reason> {
        if stat.nlink > 1 {
            let key = (stat.identity.dev, stat.identity.ino);
            let known = self.names.get(&key).and_then(|first| Some((first.clone(), self.nodes.get(first)?.clone())));
            if let Some((first, node)) = known {
                self.header(path.as_str(), Kind::Link(first.to_string()), stat.mode)?;
                return Ok(node);
            }
            self.names.insert(key, path.clone());
        }
        self.header(path.as_str(), Kind::File(stat.size), stat.mode)?;
        let mut content = self.root.disk().open(path).map_err(|error| error.to_reason())?.take(stat.size);
        let mut blake3 = blake3::Hasher::new();
        let mut buffer = vec![0; usize::try_from(stat.size).unwrap_or(BUFFER).clamp(1, BUFFER)];
        let mut read = 0;
        loop {
            let count = content.read(&mut buffer);
            let count = count.map_err(|error| DiskError::new("read", path, error).to_reason())?;
            if count == 0 {
                break;
            }
            blake3.update(&buffer[..count]);
            self.to.write(&buffer[..count])?;
            read += count as u64;
            self.done += count as u64;
            (self.progress)(self.done, self.total);
        }
        if read != stat.size {
            let message = format!("`{path}` became shorter while it was read; run the backup again");
            return Err(Reason::new(Code::IoError, message));
        }
        self.pad(stat.size)?;
        // Where it lies and its SHA-256 are for those who read an archive.
        let digests = (Blake3::from_bytes(*blake3.finalize().as_bytes()), Sha256::from_bytes([0; 32]));
        Ok(Node::File(Body { offset: 0, size: stat.size, digests, mode: stat.mode }))
    }

    fn header(&mut self, path: &str, kind: Kind, mode: Mode) -> Result<(), Reason> {
        let member = Member { path: path.to_owned(), kind, mode, time: self.time };
        let blocks = header(&member).map_err(|error| Reason::new(Code::IoError, format!("`{path}`: {error}")))?;
        self.to.write(&blocks)
    }

    fn pad(&mut self, size: u64) -> Result<(), Reason> {
        self.to.write(&vec![0; usize::try_from(padding(size)).unwrap_or_default()])
    }

    fn list(&self) -> Result<Backup, Reasons> {
        let node = self.root.node()?;
        let floors = self.root.floors()?.unwrap_or_default();
        let list = Backup {
            api_version: ApiVersion::default(),
            kind: DocKind::Backup,
            node_id: node.node_id,
            fleet: node.fleet,
            tool_version: TOOL_VERSION.to_owned(),
            created_at: self.time,
            floors: summary(&floors),
            entries: self.nodes.iter().map(|(path, node)| entry(path, node)).collect(),
            fingerprint: Blake3::from_bytes([0; 32]),
        };
        list.seal().map_err(|error| Reason::new(Code::IoError, error.to_string()).into())
    }
}

/// How many files, folders and links a list has.
pub(super) fn counts(list: &Backup) -> [usize; 3] {
    [EntryType::File, EntryType::Folder, EntryType::Symlink]
        .map(|kind| list.entries.iter().filter(|entry| entry.kind == kind).count())
}
