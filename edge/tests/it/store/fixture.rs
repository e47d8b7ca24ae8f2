//! Signed sets as they come over the wire, and nodes that receive them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use autonomy_edge::store::{Accepted, Limits, Progress, Put, Segment, SetState, Store, StoreError, Ticket};
use autonomy_schema::author::{AuthoredManifest, BuiltLock, BuiltPolicy, Inputs, Located, resolve};
use autonomy_schema::lock::{Lock, LockedInputs, LockedPolicy};
use autonomy_schema::node::Node;
use autonomy_schema::root::{Role, RoleKeys, TrustRoot};
use autonomy_schema::segments::{self, Measured};
use autonomy_schema::tree::{self, TreeEntry};
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Document as _, Duration, Mode, Name, RelPath, Sha256, Time, document, set};
use autonomy_signing::Signer;
use autonomy_stateroot::{AttestFiles, SimDisk, StateDisk, StateRoot, init_on};

const PASSWORD: &[u8] = b"harbor";
const POLICY: &str = "package autonomy.update\nimport rego.v1\ndefault allow := true\n";

pub(crate) fn time(text: &str) -> Time {
    text.parse().expect("time")
}

pub(crate) fn now() -> Time {
    time("2026-11-25T09:00:00Z")
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("name")
}

/// Bytes that nobody can compress or guess.
pub(crate) fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new_derive_key(seed).finalize_xof().fill(&mut bytes);
    bytes
}

/// What is said of a release.
pub(crate) struct Release {
    pub(crate) stream: &'static str,
    pub(crate) serial: u64,
    pub(crate) scope: &'static str,
    pub(crate) more: &'static str,
    /// Artifacts: path, mode, bytes.
    pub(crate) files: Vec<(&'static str, &'static str, Vec<u8>)>,
    /// One tree, `models`: its files.
    pub(crate) tree: Vec<(&'static str, Vec<u8>)>,
}

impl Release {
    /// A release of one program.
    pub(crate) fn of(serial: u64, agent: Vec<u8>) -> Self {
        Self {
            stream: "harbor",
            serial,
            scope: "fleet: harbor",
            more: "",
            files: vec![("agent", "0755", agent)],
            tree: Vec::new(),
        }
    }
}

/// A set as it travels.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) fingerprint: Blake3,
    /// Its documents.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// The segments of every artifact.
    pub(crate) segments: BTreeMap<String, Vec<Segment>>,
}

impl Sent {
    pub(crate) fn tar(&self) -> Vec<u8> {
        tar(self.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())))
    }

    /// Every segment, in the order of the set.
    pub(crate) fn all(&self) -> Vec<Segment> {
        self.segments.values().flatten().cloned().collect()
    }
}

pub(crate) fn tar<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        builder.append_data(&mut header, name, bytes).expect("appends");
    }
    builder.into_inner().expect("ends")
}

/// Who signs.
pub(crate) struct Fleet {
    pub(crate) signer: Signer,
    root: Vec<u8>,
    root_signatures: Vec<u8>,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let pair = autonomy_signing::generate(PASSWORD).expect("key");
        let signer = Signer::from_encrypted_pem(&pair.private_pem, PASSWORD).expect("signer");
        let all = RoleKeys { keys: [signer.key_id()].into(), threshold: 1 };
        let root = TrustRoot {
            api_version: ApiVersion::default(),
            kind: Kind::TrustRoot,
            version: 1,
            expires_at: time("2030-01-01T00:00:00Z"),
            keys: BTreeMap::from([(signer.key_id(), signer.public_pem().to_owned())]),
            roles: [Role::Root, Role::Manifest, Role::Artifact].into_iter().map(|role| (role, all.clone())).collect(),
            max_serial_step: 100,
            max_time_step: Duration::from_millis(365 * 86_400_000),
            reset_time_mark: None,
        };
        let root = root.to_canonical().expect("canonical");
        let root_signatures = lines(&signer, &root);
        Self { signer, root, root_signatures }
    }

    /// A node on an empty simulated disk.
    pub(crate) fn node(&self) -> SimDisk {
        let disk = SimDisk::new();
        self.init(Arc::new(disk.clone()));
        disk
    }

    pub(crate) fn init(&self, disk: Arc<dyn StateDisk>) -> StateRoot {
        let node = Node {
            api_version: ApiVersion::default(),
            kind: Kind::Node,
            node_id: name("node-b"),
            fleet: name("harbor"),
            hardware: name("x86_64"),
            labels: BTreeMap::new(),
            destinations: Vec::new(),
        };
        let pair = autonomy_signing::generate_attest().expect("attest");
        let attest = AttestFiles { key_pem: &pair.private_pem, pub_pem: &pair.public_pem };
        init_on(disk, &node, &self.root, &self.root_signatures, &attest).expect("init")
    }

    pub(crate) fn set(&self, release: &Release) -> Sent {
        self.build(release, None, false)
    }

    /// A set whose payloads are cut into single bytes.
    pub(crate) fn shredded(&self, release: &Release) -> Sent {
        self.build(release, None, true)
    }

    /// A set whose agent has the segments of other bytes, of the same length.
    pub(crate) fn wrong_index(&self, release: &Release, other: &[u8]) -> Sent {
        self.build(release, Some(other), false)
    }

    fn build(&self, release: &Release, other: Option<&[u8]>, is_shredded: bool) -> Sent {
        let mut authored = String::new();
        let (mut measured, mut trees) = (BTreeMap::new(), BTreeMap::new());
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut cut = BTreeMap::new();
        let mut add = |name: &str, payload: &[u8], files: &mut BTreeMap<String, Vec<u8>>| {
            let mut found = segments::measure(payload, u64::MAX - 1).expect("measures");
            let payload = other.filter(|_| name == "agent").unwrap_or(payload);
            found.index = segments::measure(payload, u64::MAX - 1).expect("measures").index;
            if is_shredded {
                let entry = |byte| [Blake3::of(&[byte]).as_bytes().as_slice(), &1_u64.to_le_bytes()].concat();
                found.index = payload.iter().copied().flat_map(entry).collect();
            }
            files.insert(format!("segments/{name}.idx"), found.index.clone());
            cut.insert(name.to_owned(), split(payload, &found));
            measured.insert(self::name(name), found);
        };
        for (path, mode, bytes) in &release.files {
            let called = path.replace('/', "-");
            write!(authored, "\n    - {{ name: {called}, path: {path}, mode: \"{mode}\", source: x }}").expect("text");
            add(&called, bytes, &mut files);
        }
        if !release.tree.is_empty() {
            authored.push_str("\n    - { name: models, type: tree, path: models, source: x }");
            let (mut index, mut payload) = (Vec::new(), Vec::new());
            for (path, bytes) in &release.tree {
                let entry = TreeEntry {
                    blake3: Blake3::of(bytes),
                    mode: Mode::FILE,
                    path: RelPath::fixed(path),
                    size: bytes.len() as u64,
                };
                index.extend(tree::line(&entry).expect("line"));
                payload.extend(bytes);
            }
            files.insert("trees/models.jsonl".to_owned(), index.clone());
            add("models", &payload, &mut files);
            trees.insert(name("models"), index);
        }
        let text = format!(
            "apiVersion: autonomy/v1\nkind: StateManifest\nmetadata: {{ name: {}, serial: {}, channel: stable, issuedAt: \
             2026-11-20T09:00:00Z, expiresAt: 2027-02-20T09:00:00Z }}\nspec:\n  scope: {{ {} }}\n  release: {{ version: \
             1.0.{} }}\n  artifacts:{authored}\n  policy: {{ source: policy }}\n{}\n",
            release.stream, release.serial, release.scope, release.serial, release.more
        );
        let located = Located::parse("manifest.yaml", &text).expect("YAML");
        let authored = located.decode::<AuthoredManifest>(Kind::StateManifest).expect("manifest");
        let options = autonomy_policy::BuildOptions {
            name: name("harbor"),
            version: "1.0.0".parse().expect("version"),
            required_runtime_version: None,
            created_at: time("2026-11-20T09:00:00Z"),
        };
        let rego = BTreeMap::from([(RelPath::fixed("update.rego"), POLICY.as_bytes().to_vec())]);
        let policy = autonomy_policy::build(&rego, &options).expect("policy");
        let built = BuiltPolicy { size: policy.len() as u64, digest: Sha256::of(&policy) };
        let locked = LockedPolicy { digest: built.digest, semver: "1.0.0".parse().expect("version") };
        let agent = measured.get(&name("agent")).map(|file: &Measured| file.sha256).expect("an agent");
        let nothing = LockedInputs { prompt_hash: Sha256::of(b""), tool_inputs_hash: Sha256::of(b"") };
        let lock = Lock::new(agent, locked, nothing).expect("lock");
        let bytes = lock.to_canonical().expect("canonical");
        let inputs =
            Inputs { artifacts: measured, trees, policy: built, lock: BuiltLock { lock, bytes: bytes.clone() } };
        let manifest = resolve(&authored, &inputs).expect("resolves").to_canonical().expect("canonical");
        files.insert(set::POLICY.to_owned(), policy);
        files.insert(set::LOCK_SIGNATURES.to_owned(), lines(&self.signer, &bytes));
        files.insert(set::LOCK.to_owned(), bytes);
        files.insert(set::MANIFEST_SIGNATURES.to_owned(), lines(&self.signer, &manifest));
        let fingerprint = document::fingerprint(&manifest);
        files.insert(set::MANIFEST.to_owned(), manifest);
        Sent { fingerprint, files, segments: cut }
    }
}

pub(crate) fn lines(signer: &Signer, bytes: &[u8]) -> Vec<u8> {
    (signer.sign_line(bytes).expect("signs") + "\n").into_bytes()
}

fn split(payload: &[u8], measured: &Measured) -> Vec<Segment> {
    let mut at = 0;
    let entries = segments::parse_index(&measured.index, measured.size).expect("index");
    let cut = entries.into_iter().map(|entry| {
        let begin = at;
        at += usize::try_from(entry.length).expect("fits");
        Segment { id: entry.id, bytes: payload[begin..at].to_vec() }
    });
    cut.collect()
}

pub(crate) const UNLIMITED: Limits = Limits { ceiling_bytes: 0, eviction_percent: 90 };

pub(crate) fn state_root(disk: &SimDisk) -> StateRoot {
    StateRoot::on(Arc::new(disk.clone()))
}

pub(crate) fn open(disk: &SimDisk) -> Store {
    Store::open(state_root(disk), UNLIMITED).expect("opens")
}

pub(crate) fn send(store: &mut Store, fingerprint: Blake3, body: &[u8]) -> Result<Accepted, StoreError> {
    let mut incoming = store.begin_set()?;
    for chunk in body.chunks(32 << 10) {
        store.write_set(&mut incoming, chunk)?;
    }
    store.accept_set(incoming, fingerprint, &name("node-a"), now())
}

pub(crate) fn offer(store: &mut Store, sent: &Sent) -> Result<Accepted, StoreError> {
    send(store, sent.fingerprint, &sent.tar())
}

pub(crate) fn progress(store: &mut Store, sent: &Sent) -> Progress {
    store.progress(sent.fingerprint, now()).expect("progress").expect("known")
}

/// The segments that a node says it lacks.
pub(crate) fn missing(progress: &Progress, sent: &Sent) -> Vec<Segment> {
    let mut found = Vec::new();
    for lacking in &progress.missing {
        let all = &sent.segments[lacking.artifact.as_str()];
        for (first, end) in &lacking.segments {
            let range = usize::try_from(*first).expect("fits")..usize::try_from(*end).expect("fits");
            found.extend(all[range].iter().cloned());
        }
    }
    found
}

pub(crate) fn push(store: &mut Store, batch: Vec<Segment>) -> Result<Vec<Put>, StoreError> {
    let put = store.put(batch, &name("node-a"))?;
    commit(store, put.ticket, now())?;
    Ok(put.results)
}

/// What a sender does: asks, sends what lacks, until the set is whole. Gives the bytes that it sent.
pub(crate) fn deliver(store: &mut Store, sent: &Sent) -> Result<u64, StoreError> {
    if store.progress(sent.fingerprint, now())?.is_none() {
        offer(store, sent)?;
    }
    let mut bytes = 0;
    for _ in 0..1000 {
        let progress = store.progress(sent.fingerprint, now())?.expect("known");
        if progress.state == SetState::Stored {
            return Ok(bytes);
        }
        let lacking = missing(&progress, sent);
        assert!(!lacking.is_empty(), "it lacks nothing and is not stored");
        for pack in lacking.chunks(32) {
            bytes += pack.iter().map(|segment| segment.bytes.len() as u64).sum::<u64>();
            push(store, pack.to_vec())?;
        }
    }
    panic!("it never became whole");
}

/// Makes durable what was put, as the daemon does.
pub(crate) fn commit(store: &mut Store, ticket: Ticket, clock: Time) -> Result<Vec<Blake3>, StoreError> {
    let synced = store.unsynced().sync();
    store.commit(synced, ticket, clock)
}
