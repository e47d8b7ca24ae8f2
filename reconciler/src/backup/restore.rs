//! The hands of a restore: they do what the plan says, in an order that can be cut off anywhere and begun again.

use std::io::Read as _;

use autonomy_schema::{Blake3, Code, Mode, Name, Reason, RelPath};
use autonomy_stateroot::{
    ActivationLock, DiskError, Durability, InsertError, ObjectStore, StatCache, StateDisk, StateRoot, SyncTarget,
    durable, layout,
};

use super::archive::Archive;
use super::medium::{Body, Node};
use super::plan::{Found, Plan, pins};

/// Bytes in one write.
const BUFFER: usize = 1 << 20;

/// Writes what a plan says, through the seam alone.
pub(super) struct Hands<'a> {
    pub(super) root: &'a StateRoot,
    pub(super) held: &'a ActivationLock,
    pub(super) archive: &'a Archive,
    pub(super) plan: &'a Plan,
}

/// When a copy becomes durable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Durable {
    /// At once, under its name or not at all.
    Alone,
    /// With the next sync of the file system; nothing refers to it before.
    Later,
}

impl Hands<'_> {
    /// Folders, whose the folder is, and the logs: all that must be there before a record can be written.
    pub(super) fn prepare(&self) -> Result<(), Reason> {
        for folder in &self.plan.folders {
            durable::ensure_dir(self.disk(), folder).map_err(|error| failed(&error))?;
            self.folder_mode(folder, folder)?;
        }
        if !durable::exists(self.disk(), &layout::store_lock()).map_err(|error| failed(&error))? {
            self.disk().set_len(&layout::store_lock(), 0).map_err(|error| failed(&error))?;
        }
        self.copies(&self.plan.identity)?;
        if let Some(pem) = &self.plan.public_key {
            self.replace(&layout::attest_pub(), pem.as_bytes(), Mode::FILE)?;
        }
        self.copies(&self.plan.audit)?;
        for role in &self.plan.roles {
            self.role(role)?;
        }
        Ok(())
    }

    /// Everything else; `node.yaml` last, so that what is cut off before is no state root yet.
    pub(super) fn fill(&self) -> Result<(), Reason> {
        self.copies(&self.plan.trust)?;
        if let Some(floors) = &self.plan.floors {
            self.root.write_floors(floors).map_err(|error| failed(&error))?;
        }
        for path in &self.plan.set_aside {
            self.set_aside(path)?;
        }
        if let Some(pinned) = &self.plan.pinned {
            self.root.write_pinned(pinned).map_err(|error| failed(&error))?;
        }
        self.copies(&self.plan.files)?;
        for (name, found) in &self.plan.generations {
            self.generation(name, *found)?;
        }
        self.objects()?;
        self.links()?;
        self.settle()?;
        if self.plan.node {
            self.copies(&[layout::node_yaml()])?;
        }
        Ok(())
    }

    /// What is found in place may be what a killed run left, and nobody knows whether that was synced.
    pub(super) fn settle(&self) -> Result<(), Reason> {
        self.disk().sync(SyncTarget::Fs).map_err(|error| failed(&error))
    }

    fn disk(&self) -> &dyn StateDisk {
        self.root.disk()
    }

    fn links(&self) -> Result<(), Reason> {
        for (path, target) in self.plan.outbox.iter().chain(&self.plan.slots) {
            durable::point(self.disk(), path, target).map_err(|error| failed(&error))?;
        }
        if let Some(generation) = &self.plan.lkg {
            autonomy_apply::reinstate_lkg(self.root, self.held, generation).map_err(|error| failed(&error))?;
        }
        if self.plan.journal {
            self.copies(&[layout::journal()])?;
        }
        if let Some(generation) = &self.plan.current {
            autonomy_apply::reinstate_current(self.root, self.held, generation).map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    fn copies(&self, paths: &[RelPath]) -> Result<(), Reason> {
        for path in paths {
            self.copy(path, path, Durable::Alone)?;
        }
        Ok(())
    }

    /// Copies a file of the archive, which must still be what it was when the archive was looked through.
    fn copy(&self, from: &RelPath, to: &RelPath, durable: Durable) -> Result<(), Reason> {
        let body = self.body(from)?;
        let at =
            if durable == Durable::Alone { durable::beside(to).map_err(|error| failed(&error))? } else { to.clone() };
        let written = self.write(body, from, &at).and_then(|()| {
            if durable == Durable::Later {
                return Ok(());
            }
            let done = self.disk().sync(SyncTarget::File(&at)).and_then(|()| self.disk().rename(&at, to));
            done.map_err(|error| failed(&error))
        });
        if written.is_err() {
            // If this fails too, the next run writes over it.
            self.disk().remove(&at).ok();
        }
        written?;
        if durable == Durable::Alone {
            self.disk().sync(SyncTarget::Dir(to.parent().as_ref())).map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    fn write(&self, body: &Body, from: &RelPath, at: &RelPath) -> Result<(), Reason> {
        self.disk().set_len(at, 0).map_err(|error| failed(&error))?;
        let mut content = self.archive.medium().content(body);
        let mut buffer = vec![0; usize::try_from(body.size).unwrap_or(BUFFER).clamp(1, BUFFER)];
        let mut hasher = blake3::Hasher::new();
        let mut offset = 0;
        loop {
            let count = content.read(&mut buffer);
            let count =
                count.map_err(|error| Reason::new(Code::IoError, format!("cannot read the archive: {error}")))?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            self.disk().write_at(at, offset, &buffer[..count]).map_err(|error| failed(&error))?;
            offset += count as u64;
        }
        let found = Blake3::from_bytes(*hasher.finalize().as_bytes());
        if (offset, found) != (body.size, body.digests.0) {
            let message = format!("`{from}` in the archive changed while it was restored; run the restore again");
            return Err(Reason::new(Code::DigestMismatch, message));
        }
        self.disk().set_meta(at, body.mode).map_err(|error| failed(&error))
    }

    fn replace(&self, path: &RelPath, bytes: &[u8], mode: Mode) -> Result<(), Reason> {
        durable::replace(self.disk(), path, bytes, mode).map_err(|error| failed(&error))
    }

    fn body(&self, path: &RelPath) -> Result<&Body, Reason> {
        match self.archive.medium().node(path) {
            Some(Node::File(body)) => Ok(body),
            Some(Node::Folder(_) | Node::Symlink(_)) | None => {
                Err(Reason::new(Code::MissingFile, format!("the archive lacks the file `{path}`")))
            }
        }
    }

    /// A folder is made for its owner alone; the archive may say more.
    fn folder_mode(&self, from: &RelPath, to: &RelPath) -> Result<(), Reason> {
        match self.archive.medium().node(from) {
            Some(Node::Folder(mode)) if *mode != Mode::from_bits(0o700) => {
                self.disk().set_meta(to, *mode).map_err(|error| failed(&error))
            }
            _ => Ok(()),
        }
    }

    /// Stages a generation beside its place, makes it durable, and puts it there by one rename. A damaged one is moved away
    /// just before.
    fn generation(&self, name: &Name, found: Found) -> Result<(), Reason> {
        let place = layout::generation(name);
        let staged = staging(&layout::generations(), name.as_str())?;
        self.unpack(&place, &staged)?;
        if found == Found::Damaged {
            self.set_aside(&place)?;
        }
        self.put(&staged, &place)
    }

    /// The telemetry of a role, whole or not at all.
    fn role(&self, role: &RelPath) -> Result<(), Reason> {
        let staged = staging(&layout::telemetry(), role.file_name())?;
        self.unpack(role, &staged)?;
        if durable::exists(self.disk(), role).map_err(|error| failed(&error))? {
            // Only a lock lies there, or nothing.
            durable::remove_tree(self.disk(), role).map_err(|error| failed(&error))?;
        }
        self.put(&staged, role)
    }

    fn put(&self, staged: &RelPath, place: &RelPath) -> Result<(), Reason> {
        let put = self.disk().rename(staged, place);
        put.and_then(|()| self.disk().sync(SyncTarget::Dir(place.parent().as_ref()))).map_err(|error| failed(&error))
    }

    /// Writes a folder of the archive at `to`, durably. What is in the store, or belongs there, is linked from there.
    fn unpack(&self, from: &RelPath, to: &RelPath) -> Result<(), Reason> {
        durable::remove_tree(self.disk(), to).map_err(|error| failed(&error))?;
        let mut cache = StatCache::default();
        let mut folders = Vec::new();
        for (path, node) in self.archive.medium().nodes() {
            let Some(tail) = path.as_str().strip_prefix(from.as_str()) else { continue };
            let at = match tail.strip_prefix('/') {
                None if tail.is_empty() => to.clone(),
                None => continue,
                Some(tail) => to.join(&parsed(tail)?),
            };
            match node {
                Node::Folder(_) => {
                    self.disk().mkdir(&at).map_err(|error| failed(&error))?;
                    folders.push((path, at));
                }
                Node::File(body) => self.place(path, body, &at, &mut cache)?,
                Node::Symlink(_) => return Err(Reason::new(Code::SymlinkRefused, format!("`{path}` is a link"))),
            }
        }
        for (path, at) in folders.iter().rev() {
            self.folder_mode(path, at)?;
        }
        self.disk().sync(SyncTarget::Fs).map_err(|error| failed(&error))
    }

    fn place(&self, path: &RelPath, body: &Body, at: &RelPath, cache: &mut StatCache) -> Result<(), Reason> {
        let pins = pins(body);
        let object = layout::object(pins.blake3, pins.mode);
        if !matches!(self.archive.medium().node(&object), Some(Node::File(_))) {
            return self.copy(path, at, Durable::Later);
        }
        let open = || Ok::<_, InsertError>(self.archive.medium().content(body));
        let placed = ObjectStore::new(self.root).place(open, &pins, at, Durability::Batched, cache);
        placed.map(drop).map_err(|error| error.to_reason(path.as_str()))
    }

    fn objects(&self) -> Result<(), Reason> {
        let store = ObjectStore::new(self.root);
        for path in &self.plan.objects {
            let body = self.body(path)?;
            let open = || Ok::<_, InsertError>(self.archive.medium().content(body));
            let kept = store.keep(open, &pins(body), Durability::PerFile, &StatCache::default());
            kept.map_err(|error| error.to_reason(path.as_str()))?;
        }
        if self.plan.objects.is_empty() {
            return Ok(());
        }
        self.disk().sync(SyncTarget::Dir(Some(&layout::objects()))).map_err(|error| failed(&error))
    }

    /// Moves something damaged to `quarantine/`, for people to look at.
    fn set_aside(&self, path: &RelPath) -> Result<(), Reason> {
        autonomy_stateroot::set_aside(self.disk(), path).map(drop).map_err(|error| failed(&error))
    }
}

fn failed(error: &DiskError) -> Reason {
    error.to_reason()
}

fn parsed(text: &str) -> Result<RelPath, Reason> {
    text.parse().map_err(|error: autonomy_schema::path::PathError| error.to_reason())
}

/// Where a folder is made before it takes its name.
fn staging(folder: &RelPath, name: &str) -> Result<RelPath, Reason> {
    Ok(folder.join(&parsed(&format!("{}{name}", layout::RESTORING))?))
}
