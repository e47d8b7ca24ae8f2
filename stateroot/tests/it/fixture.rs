//! A node, a trust root, a release, and a disk that tells what was opened.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex};

use autonomy_schema::node::Node;
use autonomy_schema::{Blake3, Document as _, Mode, Name, RelPath, Sha256, StateManifest, set};
use autonomy_stateroot::{
    AttestFiles, Disk, DiskError, Durability, Entry, InsertError, Link, LockGuard, LockMode, ObjectStore, Pins, Placed,
    Query, SimDisk, Space, Stat, StatCache, StateRoot, SyncTarget, durable, init_on, layout,
};
use serde_json::json;

pub(crate) const ATTEST: AttestFiles<'static> = AttestFiles { key_pem: "private", pub_pem: "public" };
pub(crate) const SIGNATURES: &[u8] = b"signatures\n";

pub(crate) fn rel(path: &str) -> RelPath {
    path.parse().expect("a safe path")
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(crate) fn node() -> Node {
    serde_json::from_value(json!({
        "apiVersion": "autonomy/v1", "kind": "Node", "nodeId": "node-a", "fleet": "harbor", "hardware": "x86_64",
        "labels": { "site": "pier-7", "note": "quotes \" and: colons # and \u{fc}mlauts", "yes": "no" },
    }))
    .expect("a node")
}

pub(crate) fn trust_root() -> Vec<u8> {
    include_bytes!("../../../docs/formats/samples/trust-root.json").to_vec()
}

/// An initialized state root on a simulated disk.
pub(crate) fn sim_root() -> (SimDisk, StateRoot) {
    let disk = SimDisk::new();
    let root = init_on(Arc::new(disk.clone()), &node(), &trust_root(), SIGNATURES, &ATTEST).expect("initialized");
    (disk, root)
}

/// A release: path, mode and content of its artifacts.
pub(crate) struct Release {
    pub(crate) serial: u64,
    pub(crate) artifacts: Vec<(String, Mode, Vec<u8>)>,
}

const LOCK_TEXT: &[u8] = b"the lock";
const POLICY_TEXT: &[u8] = b"the policy";
const INDEX_TEXT: &[u8] = b"the index: forty bytes of digest, length";

impl Release {
    pub(crate) fn small(serial: u64) -> Self {
        let file = |path: &str, mode: &str, data: &[u8]| (path.to_owned(), mode.parse().expect("mode"), data.to_vec());
        Self { serial, artifacts: vec![file("bin/agent", "0755", b"agent"), file("etc/deep/conf", "0644", b"conf")] }
    }

    pub(crate) fn manifest(&self) -> StateManifest {
        let behaviour = Blake3::of(b"behaviour");
        let artifacts: Vec<_> = self
            .artifacts
            .iter()
            .enumerate()
            .map(|(at, (path, mode, data))| {
                json!({
                    "name": format!("artifact-{at}"), "type": "file", "path": path, "mode": mode,
                    "size": data.len(), "digest": Sha256::of(data), "blake3": Blake3::of(data),
                    "segments": { "index": Blake3::of(INDEX_TEXT), "count": 1, "size": INDEX_TEXT.len() },
                })
            })
            .collect();
        serde_json::from_value(json!({
            "apiVersion": "autonomy/v1", "kind": "StateManifest",
            "metadata": { "name": "stream", "serial": self.serial, "issuedAt": "2026-11-20T09:00:00Z",
                          "expiresAt": "2027-02-20T09:00:00Z" },
            "spec": {
                "scope": { "fleet": "harbor" },
                "release": { "version": "1.0.0", "targetLockFingerprint": behaviour },
                "lock": { "path": set::LOCK, "size": LOCK_TEXT.len(), "digest": Sha256::of(LOCK_TEXT),
                          "fingerprint": behaviour },
                "artifacts": artifacts,
                "policy": { "path": set::POLICY, "size": POLICY_TEXT.len(), "digest": Sha256::of(POLICY_TEXT) },
            },
        }))
        .expect("a manifest")
    }

    /// Lays the generation down and points `current` to it.
    pub(crate) fn activate(&self, root: &StateRoot) -> Name {
        let manifest = self.manifest();
        let bytes = manifest.to_canonical().expect("canonical");
        let generation = root.next_generation_name(self.serial, Blake3::of(&bytes)).expect("a name");
        let disk = root.disk();
        let put = |path: &str, data: &[u8], mode: Mode| {
            let path = layout::in_generation(&generation, &rel(path));
            durable::make_dirs(disk, &path.parent().expect("a folder")).expect("folders");
            durable::write_new(disk, &path, data, mode).expect("written");
        };
        put(set::MANIFEST, &bytes, Mode::FILE);
        put(set::MANIFEST_SIGNATURES, b"s", Mode::FILE);
        put(set::LOCK, LOCK_TEXT, Mode::FILE);
        put(set::LOCK_SIGNATURES, b"s", Mode::FILE);
        put(set::POLICY, POLICY_TEXT, Mode::FILE);
        put("edge.toml", manifest.spec.relay.edge_toml().as_bytes(), Mode::FILE);
        put("plan.json", b"{}", Mode::FILE);
        put("roots/1.root.json", b"{}", Mode::FILE);
        let store = ObjectStore::new(root);
        for (at, (path, mode, data)) in self.artifacts.iter().enumerate() {
            put(&set::segment_index(&name(&format!("artifact-{at}"))), INDEX_TEXT, Mode::FILE);
            let to = layout::in_generation(&generation, &rel(&set::artifact(&rel(path))));
            durable::make_dirs(disk, &to.parent().expect("a folder")).expect("folders");
            let open = || Ok::<_, InsertError>(&data[..]);
            let mut cache = StatCache::default();
            store.place(open, &pins(data, *mode), &to, Durability::Batched, &mut cache).expect("placed");
        }
        disk.sync(SyncTarget::Fs).expect("synced");
        // As apply does: floors first.
        let floors = root.floors().expect("floors").unwrap_or_default();
        root.write_floors(&floors.raised_by(&manifest, Blake3::of(&bytes))).expect("raised");
        durable::point(disk, &layout::current(), &layout::generation_link(&generation)).expect("pointed");
        generation
    }
}

/// Places an object under a fresh name in the inbox.
pub(crate) fn store(
    root: &StateRoot,
    source: impl Read,
    pins: &Pins,
    durability: Durability,
) -> Result<Placed, InsertError> {
    let free =
        (0..1000).map(|n| format!("inbox/{n}")).find(|path| !durable::exists(root.disk(), &rel(path)).expect("asked"));
    let to = rel(&free.expect("a free name"));
    ObjectStore::new(root).place(|| Ok(source), pins, &to, durability, &mut StatCache::default())
}

pub(crate) fn pins(data: &[u8], mode: Mode) -> Pins {
    Pins { size: data.len() as u64, sha256: Some(Sha256::of(data)), blake3: Blake3::of(data), mode }
}

/// Every file and link below a folder of the machine, with its kind, mode, times and content.
pub(crate) fn picture(path: &std::path::Path) -> BTreeMap<String, String> {
    use std::os::unix::fs::MetadataExt as _;
    let mut picture = BTreeMap::new();
    let mut todo = vec![path.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(&folder).expect("listed") {
            let path = entry.expect("an entry").path();
            let meta = path.symlink_metadata().expect("there");
            let content = if meta.is_file() { std::fs::read(&path).expect("read") } else { Vec::new() };
            let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
            let text = format!("{:o} {times:?} {}", meta.mode(), Blake3::of(&content));
            picture.insert(path.display().to_string(), text);
            if meta.is_dir() {
                todo.push(path);
            }
        }
    }
    picture
}

/// A disk that records which files were opened for reading.
#[derive(Debug)]
pub(crate) struct Watched<D> {
    pub(crate) disk: Arc<D>,
    pub(crate) opened: Arc<Mutex<Vec<String>>>,
}

impl<D> Watched<D> {
    pub(crate) fn new(disk: D) -> Self {
        Self { disk: Arc::new(disk), opened: Arc::default() }
    }

    /// A second handle of the same disk and record.
    pub(crate) fn handle(&self) -> Self {
        Self { disk: Arc::clone(&self.disk), opened: Arc::clone(&self.opened) }
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.opened.lock().expect("not poisoned"))
    }
}

impl<D: Disk> Disk for Watched<D> {
    fn write_at(&self, path: &RelPath, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        self.disk.write_at(path, offset, data)
    }
    fn set_len(&self, path: &RelPath, len: u64) -> Result<(), DiskError> {
        self.disk.set_len(path, len)
    }
    fn sync(&self, what: SyncTarget<'_>) -> Result<(), DiskError> {
        self.disk.sync(what)
    }
    fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }
    fn link(&self, link: Link<'_>) -> Result<(), DiskError> {
        self.disk.link(link)
    }
    fn mkdir(&self, path: &RelPath) -> Result<(), DiskError> {
        self.disk.mkdir(path)
    }
    fn remove(&self, path: &RelPath) -> Result<(), DiskError> {
        self.disk.remove(path)
    }
    fn set_meta(&self, path: &RelPath, mode: Mode) -> Result<(), DiskError> {
        self.disk.set_meta(path, mode)
    }
}

impl<D: Query> Query for Watched<D> {
    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, DiskError> {
        self.opened.lock().expect("not poisoned").push(path.to_string());
        self.disk.open(path)
    }
    fn stat(&self, path: &RelPath) -> Result<Option<Stat>, DiskError> {
        self.disk.stat(path)
    }
    fn list(&self, dir: Option<&RelPath>) -> Result<Vec<Entry>, DiskError> {
        self.disk.list(dir)
    }
    fn list_stat(&self, dir: Option<&RelPath>) -> Result<Vec<(String, Stat)>, DiskError> {
        self.disk.list_stat(dir)
    }
    fn read_link(&self, path: &RelPath) -> Result<Option<String>, DiskError> {
        self.disk.read_link(path)
    }
    fn space(&self) -> Result<Space, DiskError> {
        self.disk.space()
    }
    fn try_lock(&self, path: &RelPath, mode: LockMode) -> Result<Option<Box<dyn LockGuard>>, DiskError> {
        self.disk.try_lock(path, mode)
    }
}
