//! The inodes of the simulated disk, one tree per image.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use autonomy_schema::{Mode, RelPath};
use rustix::io::Errno;

use super::{FileKind, Identity, Image, Seen, Stat};

/// The inode of the root folder.
pub(super) const ROOT: u64 = 1;

#[derive(Debug, Clone)]
pub(super) enum Body {
    File(Arc<Vec<u8>>),
    Dir(Arc<BTreeMap<String, u64>>),
    Symlink(String),
}

#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub(super) body: Body,
    pub(super) mode: Mode,
    pub(super) links: u64,
    pub(super) mtime: i64,
    pub(super) ctime: i64,
}

#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) nodes: BTreeMap<u64, Inode>,
    pub(super) tick: i64,
    next: u64,
}

/// An error of the operating system.
pub(super) fn errno(code: Errno) -> io::Error {
    code.into()
}

/// Bytes that a file of this length takes, in blocks of 4 KiB.
pub(super) fn blocks(len: usize) -> u64 {
    (len as u64).div_ceil(4096) * 4096
}

impl Tree {
    pub(super) fn new() -> Self {
        let root =
            Inode { body: Body::Dir(Arc::default()), mode: Mode::from_bits(0o700), links: 1, mtime: 0, ctime: 0 };
        Self { nodes: BTreeMap::from([(ROOT, root)]), tick: 1_000_000_000, next: ROOT + 1 }
    }

    pub(super) fn node(&self, ino: u64) -> io::Result<&Inode> {
        self.nodes.get(&ino).ok_or_else(|| errno(Errno::NOENT))
    }

    fn children(&self, ino: u64) -> io::Result<&BTreeMap<String, u64>> {
        match &self.node(ino)?.body {
            Body::Dir(entries) => Ok(entries),
            Body::Symlink(_) => Err(errno(Errno::LOOP)),
            Body::File(_) => Err(errno(Errno::NOTDIR)),
        }
    }

    fn children_mut(&mut self, ino: u64) -> io::Result<&mut BTreeMap<String, u64>> {
        let tick = self.tick;
        match self.nodes.get_mut(&ino) {
            Some(Inode { body: Body::Dir(entries), mtime, ctime, .. }) => {
                (*mtime, *ctime) = (tick, tick);
                Ok(Arc::make_mut(entries))
            }
            Some(_) | None => Err(errno(Errno::NOTDIR)),
        }
    }

    /// The folder above `path`, and the last component.
    fn parent<'p>(&self, path: &'p RelPath) -> io::Result<(u64, &'p str)> {
        let Some((folder, name)) = path.as_str().rsplit_once('/') else { return Ok((ROOT, path.as_str())) };
        let mut at = ROOT;
        for component in folder.split('/') {
            at = *self.children(at)?.get(component).ok_or_else(|| errno(Errno::NOENT))?;
        }
        self.children(at)?;
        Ok((at, name))
    }

    /// The inode at `path`; a link at the end is found, not followed.
    pub(super) fn find(&self, path: &RelPath) -> io::Result<u64> {
        let (folder, name) = self.parent(path)?;
        self.children(folder)?.get(name).copied().ok_or_else(|| errno(Errno::NOENT))
    }

    /// The regular file at `path`.
    pub(super) fn file(&self, path: &RelPath) -> io::Result<u64> {
        let ino = self.find(path)?;
        match &self.node(ino)?.body {
            Body::File(_) => Ok(ino),
            Body::Dir(_) => Err(errno(Errno::ISDIR)),
            Body::Symlink(_) => Err(errno(Errno::LOOP)),
        }
    }

    /// The folder at `path`.
    pub(super) fn dir(&self, path: Option<&RelPath>) -> io::Result<u64> {
        let ino = path.map_or(Ok(ROOT), |path| self.find(path))?;
        self.children(ino).map(|_| ino)
    }

    pub(super) fn entries(&self, dir: Option<&RelPath>) -> io::Result<Vec<(String, Stat)>> {
        let children = self.children(self.dir(dir)?)?;
        children.iter().map(|(name, ino)| Ok((name.clone(), self.stat(*ino)?))).collect()
    }

    pub(super) fn create(&mut self, path: &RelPath, body: Body, mode: Mode) -> io::Result<u64> {
        let (folder, name) = self.parent(path)?;
        if self.children(folder)?.contains_key(name) {
            return Err(errno(Errno::EXIST));
        }
        if matches!(&body, Body::Symlink(target) if target.is_empty()) {
            return Err(errno(Errno::NOENT));
        }
        let ino = self.next;
        self.next += 1;
        self.children_mut(folder)?.insert(name.to_owned(), ino);
        self.nodes.insert(ino, Inode { body, mode, links: 1, mtime: self.tick, ctime: self.tick });
        Ok(ino)
    }

    pub(super) fn hard_link(&mut self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        // In the order in which the kernel looks: both folders are open before either name is looked up.
        self.parent(from)?;
        let (folder, name) = self.parent(to)?;
        let ino = self.find(from)?;
        if self.children(folder)?.contains_key(name) {
            return Err(errno(Errno::EXIST));
        }
        if matches!(self.node(ino)?.body, Body::Dir(_)) {
            return Err(errno(Errno::PERM));
        }
        self.children_mut(folder)?.insert(name.to_owned(), ino);
        let tick = self.tick;
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.links += 1;
            node.ctime = tick;
        }
        Ok(())
    }

    /// Renames; gives the bytes that what was replaced sets free.
    pub(super) fn rename(&mut self, from: &RelPath, to: &RelPath) -> io::Result<u64> {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let ino = self.find(from)?;
        let is_dir = matches!(self.node(ino)?.body, Body::Dir(_));
        let below = |path: &RelPath, of: &RelPath| {
            path.as_str().strip_prefix(of.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        if below(to, from) {
            return Err(errno(Errno::INVAL));
        }
        if below(from, to) {
            return Err(errno(Errno::NOTEMPTY));
        }
        let replaced = self.children(to_dir)?.get(to_name).copied();
        if replaced == Some(ino) {
            return Ok(0);
        }
        let mut freed = 0;
        if let Some(old) = replaced {
            match (&self.node(old)?.body, is_dir) {
                (Body::Dir(_), false) => return Err(errno(Errno::ISDIR)),
                (Body::File(_) | Body::Symlink(_), true) => return Err(errno(Errno::NOTDIR)),
                (Body::Dir(entries), true) if !entries.is_empty() => return Err(errno(Errno::NOTEMPTY)),
                (Body::Dir(_), true) | (Body::File(_) | Body::Symlink(_), false) => {}
            }
            freed = self.unlink(to_dir, to_name)?;
        }
        self.children_mut(from_dir)?.remove(from_name);
        self.children_mut(to_dir)?.insert(to_name.to_owned(), ino);
        let tick = self.tick;
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.ctime = tick;
        }
        Ok(freed)
    }

    /// Removes; gives the bytes that are set free.
    pub(super) fn remove(&mut self, path: &RelPath) -> io::Result<u64> {
        let ino = self.find(path)?;
        if matches!(&self.node(ino)?.body, Body::Dir(entries) if !entries.is_empty()) {
            return Err(errno(Errno::NOTEMPTY));
        }
        let (folder, name) = self.parent(path)?;
        self.unlink(folder, name)
    }

    fn unlink(&mut self, folder: u64, name: &str) -> io::Result<u64> {
        let Some(ino) = self.children_mut(folder)?.remove(name) else { return Ok(0) };
        let tick = self.tick;
        let Some(node) = self.nodes.get_mut(&ino) else { return Ok(0) };
        node.links -= 1;
        node.ctime = tick;
        if node.links > 0 {
            return Ok(0);
        }
        let freed = allocated(node);
        self.nodes.remove(&ino);
        Ok(freed)
    }

    pub(super) fn stat(&self, ino: u64) -> io::Result<Stat> {
        let node = self.node(ino)?;
        let (kind, size, nlink) = match &node.body {
            Body::File(data) => (FileKind::File, data.len() as u64, node.links),
            Body::Symlink(target) => (FileKind::Symlink, target.len() as u64, node.links),
            Body::Dir(entries) => {
                let folders = entries
                    .values()
                    .filter(|child| self.nodes.get(child).is_some_and(|node| matches!(node.body, Body::Dir(_))));
                (FileKind::Dir, 4096, 2 + folders.count() as u64)
            }
        };
        let identity = Identity { dev: 1, ino, mtime_ns: node.mtime, ctime_ns: node.ctime };
        Ok(Stat {
            kind,
            mode: node.mode,
            size,
            nlink,
            is_own: true,
            is_own_group: true,
            allocated: allocated(node),
            identity,
        })
    }

    /// Bytes that all files take.
    pub(super) fn allocated(&self) -> u64 {
        self.nodes.values().map(allocated).sum()
    }

    pub(super) fn snapshot(&self) -> BTreeMap<String, Seen> {
        let mut seen = BTreeMap::new();
        let mut todo = vec![(String::new(), ROOT)];
        while let Some((prefix, ino)) = todo.pop() {
            let Ok(children) = self.children(ino) else { continue };
            for (name, child) in children {
                let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
                let Some(node) = self.nodes.get(child) else { continue };
                let entry = match &node.body {
                    Body::File(data) => Seen::File { mode: node.mode, data: data.to_vec() },
                    Body::Symlink(target) => Seen::Symlink(target.clone()),
                    Body::Dir(_) => {
                        todo.push((path.clone(), *child));
                        Seen::Dir { mode: node.mode }
                    }
                };
                seen.insert(path, entry);
            }
        }
        seen
    }

    /// On the durable tree: takes over an inode of the live one, whole.
    pub(super) fn keep(&mut self, live: &Tree, ino: u64) {
        if let Some(node) = live.nodes.get(&ino) {
            self.nodes.insert(ino, node.clone());
        }
    }

    /// On the durable tree: takes over the entries of a folder. What was never synced itself is there as it was born:
    /// a file empty, a folder empty, a link with its text.
    pub(super) fn keep_entries(&mut self, live: &Tree, ino: u64) {
        let Some(Inode { body: Body::Dir(entries), .. }) = live.nodes.get(&ino) else { return };
        for child in entries.values() {
            let Some(node) = live.nodes.get(child) else { continue };
            let (body, mode) = match &node.body {
                Body::File(_) => (Body::File(Arc::default()), Mode::PRIVATE),
                Body::Dir(_) => (Body::Dir(Arc::default()), Mode::from_bits(0o700)),
                Body::Symlink(target) => (Body::Symlink(target.clone()), node.mode),
            };
            self.nodes.entry(*child).or_insert_with(|| Inode { body, mode, ..node.clone() });
        }
        self.keep(live, ino);
    }

    /// On the live tree: what a power loss leaves, given what is `safe`.
    pub(super) fn survivors(&self, safe: &Tree, image: Image) -> Tree {
        let (entries_from, data_from) = match image {
            Image::Synced => (safe, safe),
            Image::All => (self, self),
            Image::MetadataFirst => (self, safe),
            Image::DataFirst => (safe, self),
        };
        let mut built = Tree { nodes: BTreeMap::new(), tick: self.tick, next: self.next };
        let mut todo = vec![ROOT];
        while let Some(ino) = todo.pop() {
            if let Some(node) = built.nodes.get_mut(&ino) {
                node.links += 1;
                continue;
            }
            let Some(named) = entries_from.nodes.get(&ino).or_else(|| safe.nodes.get(&ino)) else { continue };
            let mut node = Inode { links: 1, ..named.clone() };
            match &mut node.body {
                Body::Dir(entries) => todo.extend(entries.values().copied()),
                Body::File(data) => *data = survivor_data(data_from, safe, ino),
                Body::Symlink(_) => {}
            }
            built.nodes.insert(ino, node);
        }
        built
    }
}

/// The data of a file from one tree, else from the durable one, else none.
fn survivor_data(from: &Tree, safe: &Tree, ino: u64) -> Arc<Vec<u8>> {
    let data = |tree: &Tree| match tree.nodes.get(&ino).map(|node| &node.body) {
        Some(Body::File(data)) => Some(Arc::clone(data)),
        Some(Body::Dir(_) | Body::Symlink(_)) | None => None,
    };
    data(from).or_else(|| data(safe)).unwrap_or_default()
}

fn allocated(node: &Inode) -> u64 {
    match &node.body {
        Body::File(data) => blocks(data.len()),
        Body::Dir(_) | Body::Symlink(_) => 0,
    }
}
