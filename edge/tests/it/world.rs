//! A fleet with its CA and its signers, nodes with certificates, and signed sets.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use autonomy_schema::author::{AuthoredManifest, BuiltLock, BuiltPolicy, Inputs, Located, resolve};
use autonomy_schema::lock::{Lock, LockedInputs, LockedPolicy};
use autonomy_schema::node::Node;
use autonomy_schema::root::{Role, RoleKeys, TrustRoot};
use autonomy_schema::segments::{self, Measured};
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Document as _, Duration, Name, RelPath, Sha256, Time, set};
use autonomy_signing::{Ca, CaPair, Issued, Revoked, Signer};
use autonomy_stateroot::{AttestFiles, StateRoot};

const PASSWORD: &[u8] = b"harbor";
const DAY: u64 = 86_400_000;

const POLICY: &str = "package autonomy.update\nimport rego.v1\ndefault allow := true\n";

pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock");
    Time::from_unix(i64::try_from(since.as_secs()).expect("seconds"))
}

pub(crate) fn ago(days: i64) -> Time {
    Time::from_unix(now().unix() - days * 86_400)
}

pub(crate) fn days(days: u64) -> Duration {
    Duration::from_millis(days * DAY)
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("name")
}

/// A fleet.
pub(crate) struct World {
    dir: tempfile::TempDir,
    pub(crate) pair: CaPair,
    pub(crate) ca: Ca,
    revoked: RefCell<Vec<Revoked>>,
    number: Cell<u64>,
    signers: Vec<Signer>,
    root: Vec<u8>,
    root_signatures: Vec<u8>,
}

/// A node of it.
pub(crate) struct Machine {
    pub(crate) path: PathBuf,
    pub(crate) serial: String,
}

impl Machine {
    pub(crate) fn root(&self) -> StateRoot {
        StateRoot::open(&self.path).expect("state root")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join("identity").join(name)
    }
}

/// A signed set: what goes over the wire first, and the bytes that its segments are cut from.
pub(crate) struct Signed {
    pub(crate) fingerprint: Blake3,
    pub(crate) tar: Vec<u8>,
    pub(crate) segments: Vec<Vec<u8>>,
}

fn lines(signers: &[Signer], bytes: &[u8]) -> Vec<u8> {
    signers.iter().map(|signer| signer.sign_line(bytes).expect("signs") + "\n").collect::<String>().into_bytes()
}

impl World {
    pub(crate) fn new() -> Self {
        let fleet = name("harbor");
        let pair = autonomy_signing::create_ca(&fleet, ago(9), days(3650)).expect("CA");
        let ca = Ca::open(&pair.certificate_pem, &pair.private_pem).expect("CA");
        let key = autonomy_signing::generate(PASSWORD).expect("key");
        let signers = vec![Signer::from_encrypted_pem(&key.private_pem, PASSWORD).expect("signer")];
        let keys = signers.iter().map(|signer| (signer.key_id(), signer.public_pem().to_owned())).collect();
        let all = RoleKeys { keys: signers.iter().map(Signer::key_id).collect(), threshold: 1 };
        let root = TrustRoot {
            api_version: ApiVersion::default(),
            kind: Kind::TrustRoot,
            version: 1,
            expires_at: now().plus(days(365)),
            keys,
            roles: BTreeMap::from([(Role::Root, all.clone()), (Role::Manifest, all.clone()), (Role::Artifact, all)]),
            max_serial_step: 100,
            max_time_step: days(365),
            reset_time_mark: None,
        };
        let root = root.to_canonical().expect("canonical");
        let root_signatures = lines(&signers, &root);
        let dir = tempfile::tempdir().expect("folder");
        Self { dir, pair, ca, revoked: RefCell::default(), number: Cell::new(0), signers, root, root_signatures }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A node with a good certificate.
    pub(crate) fn machine(&self, id: &str) -> Machine {
        let issued = self.ca.issue(&name("harbor"), &name(id), ago(1), days(90)).expect("certificate");
        self.machine_with(id, &issued)
    }

    /// A node with this certificate.
    pub(crate) fn machine_with(&self, id: &str, issued: &Issued) -> Machine {
        let path = self.path(id);
        let node = Node {
            api_version: ApiVersion::default(),
            kind: Kind::Node,
            node_id: name(id),
            fleet: name("harbor"),
            hardware: name("x86_64"),
            labels: BTreeMap::new(),
            destinations: Vec::new(),
        };
        let pair = autonomy_signing::generate_attest().expect("attest");
        let attest = AttestFiles { key_pem: &pair.private_pem, pub_pem: &pair.public_pem };
        autonomy_stateroot::init(&path, &node, &self.root, &self.root_signatures, &attest).expect("init");
        let machine = Machine { path, serial: issued.serial.clone() };
        write(&machine.file("node.crt"), issued.certificate_pem.as_bytes());
        write(&machine.file("node.key"), issued.private_pem.as_bytes());
        write(&machine.file("ca.crt"), self.pair.certificate_pem.as_bytes());
        self.renew_list(&machine);
        machine
    }

    /// Puts the newest revocation list onto a node.
    pub(crate) fn renew_list(&self, machine: &Machine) {
        self.list(machine, now().plus(Duration::from_millis(0)), days(30));
    }

    /// Puts a list onto a node that is good from a time on, for a while.
    pub(crate) fn list(&self, machine: &Machine, from: Time, valid_for: Duration) {
        self.number.set(self.number.get() + 1);
        let list = self.ca.revocation_list(self.number.get(), &self.revoked.borrow(), from, valid_for).expect("list");
        write(&machine.file("crl.pem"), list.as_bytes());
    }

    pub(crate) fn revoke(&self, serial: &str) {
        self.revoked.borrow_mut().push(Revoked { serial: serial.to_owned(), at: now() });
    }

    /// A signed set with one artifact of pseudo-random bytes, which differ by serial.
    pub(crate) fn set(&self, serial: u64, bytes: usize) -> Signed {
        let content = content(serial, bytes);
        let text = format!(
            "apiVersion: autonomy/v1\nkind: StateManifest\nmetadata: {{ name: harbor, serial: {serial}, channel: stable, \
             issuedAt: {}, expiresAt: {} }}\nspec:\n  scope: {{ fleet: harbor }}\n  release: {{ version: 1.0.{serial} }}\n  \
             artifacts:\n    - {{ name: agent, path: bin/agent, mode: \"0755\", source: x }}\n  policy: {{ source: policy }}\n",
            ago(1),
            now().plus(days(90)),
        );
        let located = Located::parse("manifest.yaml", &text).expect("YAML");
        let authored = located.decode::<AuthoredManifest>(Kind::StateManifest).expect("manifest");
        let options = autonomy_policy::BuildOptions {
            name: name("harbor"),
            version: "1.0.0".parse().expect("version"),
            required_runtime_version: None,
            created_at: ago(1),
        };
        let rego = BTreeMap::from([(RelPath::fixed("update.rego"), POLICY.as_bytes().to_vec())]);
        let policy = autonomy_policy::build(&rego, &options).expect("policy");
        let file = segments::measure(&content[..], 1 << 30).expect("measures");
        let index = file.index.clone();
        let built = BuiltPolicy { size: policy.len() as u64, digest: Sha256::of(&policy) };
        let locked = LockedPolicy { digest: built.digest, semver: "1.0.0".parse().expect("version") };
        let nothing = LockedInputs { prompt_hash: Sha256::of(b""), tool_inputs_hash: Sha256::of(b"") };
        let lock = Lock::new(file.sha256, locked, nothing).expect("lock");
        let lock_bytes = lock.to_canonical().expect("canonical");
        let measured: BTreeMap<Name, Measured> = BTreeMap::from([(name("agent"), file)]);
        let built_lock = BuiltLock { lock, bytes: lock_bytes.clone() };
        let inputs = Inputs { artifacts: measured, trees: BTreeMap::new(), policy: built, lock: built_lock };
        let manifest = resolve(&authored, &inputs).expect("resolves").to_canonical().expect("canonical");
        let tar = tar(&[
            (set::MANIFEST, &manifest),
            (set::MANIFEST_SIGNATURES, &lines(&self.signers, &manifest)),
            (set::LOCK, &lock_bytes),
            (set::LOCK_SIGNATURES, &lines(&self.signers, &lock_bytes)),
            (set::POLICY, &policy),
            ("segments/agent.idx", &index),
        ]);
        let mut rest = &content[..];
        let segments = index.chunks(40).map(|entry| {
            let length = u64::from_le_bytes(entry[32..].try_into().expect("length"));
            let (segment, behind) = rest.split_at(usize::try_from(length).expect("length"));
            rest = behind;
            segment.to_vec()
        });
        Signed { fingerprint: Blake3::of(&manifest), segments: segments.collect(), tar }
    }
}

fn content(seed: u64, bytes: usize) -> Vec<u8> {
    let mut content = Vec::with_capacity(bytes + 32);
    let mut at = 0_u64;
    while content.len() < bytes {
        content.extend_from_slice(Blake3::of(format!("{seed} {at}").as_bytes()).as_bytes());
        at += 1;
    }
    content.truncate(bytes);
    content
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *bytes).expect("tar");
    }
    builder.into_inner().expect("tar")
}

pub(crate) fn write(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
    std::fs::write(path, bytes).expect("file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("mode");
}
