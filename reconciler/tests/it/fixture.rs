//! Keys, signed sets and a node on a simulated disk.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use autonomy_apply::{Observer, ServiceRunner, Silent};
use autonomy_precheck::{Installed, Platform};
use autonomy_reconciler::{Actor, ApplyFailure, Approval, Options, Outcome, Prepared};
use autonomy_schema::author::{AuthoredManifest, BuiltLock, BuiltPolicy, Inputs, Located, resolve};
use autonomy_schema::journal::Moment;
use autonomy_schema::lock::{Lock, LockedInputs, LockedPolicy};
use autonomy_schema::manifest::{Health, Service};
use autonomy_schema::node::Node;
use autonomy_schema::path::UnitName;
use autonomy_schema::root::{Role, RoleKeys, TrustRoot};
use autonomy_schema::segments::{self, Measured};
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Code, Document as _, Duration, Name, Reason, RelPath, Sha256, Time, set};
use autonomy_signing::Signer;
use autonomy_stateroot::{AttestFiles, DirSet, SimDisk, StateDisk, StateRoot, init_on};

const PASSWORD: &[u8] = b"harbor";

/// The policy of every set: everything goes, save what calls itself forbidden.
const POLICY: &str = r#"package autonomy.update
import rego.v1
default allow := false
allow if input.manifest.metadata.name == "harbor"
deny contains "this channel is forbidden here" if input.manifest.metadata.channel == "forbidden"
"#;

/// Who signs, and the root that says so.
pub(crate) struct Fleet {
    pub(crate) signers: Vec<Signer>,
    pub(crate) root: Vec<u8>,
    pub(crate) root_signatures: Vec<u8>,
}

/// What a set is made of.
pub(crate) struct Release<'a> {
    pub(crate) serial: u64,
    pub(crate) files: &'a [(&'a str, &'a str)],
    pub(crate) extra: &'a str,
    pub(crate) channel: &'a str,
}

pub(crate) fn lines(signers: &[Signer], bytes: &[u8]) -> Vec<u8> {
    signers.iter().map(|signer| signer.sign_line(bytes).expect("signs") + "\n").collect::<String>().into_bytes()
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let signers: Vec<Signer> = (0..2)
            .map(|_| {
                let pair = autonomy_signing::generate(PASSWORD).expect("key");
                Signer::from_encrypted_pem(&pair.private_pem, PASSWORD).expect("signer")
            })
            .collect();
        let keys = signers.iter().map(|signer| (signer.key_id(), signer.public_pem().to_owned())).collect();
        let all = RoleKeys { keys: signers.iter().map(Signer::key_id).collect(), threshold: 2 };
        let root = TrustRoot {
            api_version: ApiVersion::default(),
            kind: Kind::TrustRoot,
            version: 1,
            expires_at: time("2030-01-01T00:00:00Z"),
            keys,
            roles: BTreeMap::from([
                (Role::Root, all.clone()),
                (Role::Manifest, all.clone()),
                (Role::Artifact, RoleKeys { threshold: 1, ..all }),
            ]),
            max_serial_step: 100,
            max_time_step: Duration::from_millis(365 * 86_400_000),
            reset_time_mark: None,
        };
        let root = root.to_canonical().expect("canonical");
        let root_signatures = lines(&signers, &root);
        Self { signers, root, root_signatures }
    }

    /// Writes a signed set into `folder`.
    pub(crate) fn release(&self, folder: &Path, release: &Release<'_>) -> DirSet {
        let mut artifacts = String::new();
        for (path, _) in release.files {
            let name = path.replace('/', "-");
            write!(artifacts, "\n    - {{ name: {name}, path: {path}, mode: \"0755\", source: x }}").expect("text");
        }
        let text = format!(
            "apiVersion: autonomy/v1\nkind: StateManifest\nmetadata: {{ name: harbor, serial: {}, channel: {}, issuedAt: \
             2026-11-20T09:00:00Z, expiresAt: 2027-02-20T09:00:00Z }}\nspec:\n  scope: {{ fleet: harbor }}\n  release: {{ \
             version: 1.0.{} }}\n  artifacts:{artifacts}\n  policy: {{ source: policy }}\n{}\n",
            release.serial, release.channel, release.serial, release.extra
        );
        let located = Located::parse("manifest.yaml", &text).expect("YAML");
        let authored = located.decode::<AuthoredManifest>(Kind::StateManifest).expect("manifest");
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            std::fs::write(path, bytes).expect("file");
        };
        let options = autonomy_policy::BuildOptions {
            name: "harbor".parse().expect("name"),
            version: "1.0.0".parse().expect("version"),
            required_runtime_version: None,
            created_at: time("2026-11-20T09:00:00Z"),
        };
        let rego = BTreeMap::from([(RelPath::fixed("update.rego"), POLICY.as_bytes().to_vec())]);
        let policy = autonomy_policy::build(&rego, &options).expect("policy");
        let mut measured: BTreeMap<Name, Measured> = BTreeMap::new();
        for (path, content) in release.files {
            let file = segments::measure(content.as_bytes(), 4 << 20).expect("measures");
            write(&format!("segments/{}.idx", path.replace('/', "-")), &file.index);
            write(&format!("artifacts/{path}"), content.as_bytes());
            measured.insert(path.replace('/', "-").parse().expect("name"), file);
        }
        let built = BuiltPolicy { size: policy.len() as u64, digest: Sha256::of(&policy) };
        let locked = LockedPolicy { digest: built.digest, semver: "1.0.0".parse().expect("version") };
        let agent = measured.iter().find(|(name, _)| name.as_str() == "agent").map(|(_, file)| file.sha256);
        let nothing = LockedInputs { prompt_hash: Sha256::of(b""), tool_inputs_hash: Sha256::of(b"") };
        let lock = Lock::new(agent.expect("an artifact named agent"), locked, nothing).expect("lock");
        let bytes = lock.to_canonical().expect("canonical");
        let inputs = Inputs {
            artifacts: measured,
            trees: BTreeMap::new(),
            policy: built,
            lock: BuiltLock { lock, bytes: bytes.clone() },
        };
        let manifest = resolve(&authored, &inputs).expect("resolves").to_canonical().expect("canonical");
        write(set::POLICY, &policy);
        write(set::LOCK, &bytes);
        write(set::LOCK_SIGNATURES, &lines(&self.signers[..1], &bytes));
        write(set::MANIFEST, &manifest);
        write(set::MANIFEST_SIGNATURES, &lines(&self.signers, &manifest));
        DirSet::open(folder).expect("set")
    }

    /// An initialized node on an empty simulated disk.
    pub(crate) fn node(&self) -> SimDisk {
        let disk = SimDisk::new();
        self.init(&disk).expect("init");
        disk
    }

    /// Initializes a node on a disk.
    pub(crate) fn init(&self, disk: &SimDisk) -> Result<StateRoot, autonomy_schema::Reasons> {
        let node = Node {
            api_version: ApiVersion::default(),
            kind: Kind::Node,
            node_id: "node-a".parse().expect("name"),
            fleet: "harbor".parse().expect("name"),
            hardware: "x86_64".parse().expect("name"),
            labels: BTreeMap::new(),
            destinations: Vec::new(),
        };
        let pair = autonomy_signing::generate_attest().expect("attest");
        let attest = AttestFiles { key_pem: &pair.private_pem, pub_pem: &pair.public_pem };
        init_on(Arc::new(disk.clone()), &node, &self.root, &self.root_signatures, &attest)
    }
}

pub(crate) fn time(text: &str) -> Time {
    text.parse().expect("time")
}

pub(crate) fn state_root(disk: &SimDisk) -> StateRoot {
    StateRoot::on(Arc::new(disk.clone()))
}

pub(crate) fn actor() -> Actor {
    Actor { who: "uid:0".to_owned(), verb: "apply".to_owned(), clock: time("2026-11-25T09:00:00Z") }
}

/// Reads every byte, so that damage cannot hide behind the stat cache.
pub(crate) fn options() -> Options<'static> {
    Options {
        clock: time("2026-11-25T09:00:00Z"),
        verify_content: true,
        os_root: Path::new("/nonexistent"),
        progress: &|_, _| {},
        units: &|_| None,
    }
}

/// Records services and health commands instead of running them; fails those named `bad`. Its clock stands where the
/// test puts it.
pub(crate) struct Recorder(
    pub(crate) RefCell<Vec<String>>,
    pub(crate) RefCell<Moment>,
    pub(crate) RefCell<Option<StateRoot>>,
);

impl Default for Recorder {
    fn default() -> Self {
        let moment = Moment { boot_id: "first".to_owned(), elapsed_ms: 1000 };
        Self(RefCell::default(), RefCell::new(moment), RefCell::default())
    }
}

/// An operating system on the same disk as the state root, beside its folders: so every verb of both is counted and cut by
/// one disk.
pub(crate) struct SameDisk(pub(crate) StateRoot);

impl Platform for SameDisk {
    fn os(&self) -> &dyn StateDisk {
        self.0.disk()
    }

    fn check(&self, command: &[String]) -> Result<(), String> {
        if command[0].ends_with("bad") { Err("it is bad".to_owned()) } else { Ok(()) }
    }

    fn verify_unit(&self, _path: &RelPath) -> Result<(), String> {
        Ok(())
    }

    fn take_up(&self, _changed: &[Installed]) -> Result<(), String> {
        Ok(())
    }

    fn let_go(&self, _units: &[UnitName]) -> Result<(), String> {
        Ok(())
    }
}

impl Recorder {
    /// One whose machine is at this moment.
    pub(crate) fn at(boot_id: &str, elapsed_ms: u64) -> Self {
        let recorder = Self::default();
        recorder.1.replace(Moment { boot_id: boot_id.to_owned(), elapsed_ms });
        recorder
    }
}

impl ServiceRunner for Recorder {
    fn run(&self, service: &Service) -> Result<(), String> {
        self.0.borrow_mut().push(service.label().to_owned());
        if service.label().ends_with("bad") { Err("it is bad".to_owned()) } else { Ok(()) }
    }

    fn check(&self, health: &Health) -> Result<(), String> {
        self.0.borrow_mut().push(format!("health {}", health.command[0]));
        if health.command[0].ends_with("bad") { Err("it is bad".to_owned()) } else { Ok(()) }
    }

    fn moment(&self) -> Moment {
        self.1.borrow().clone()
    }

    fn platform(&self) -> Result<Box<dyn Platform + '_>, Reason> {
        let root = self.2.borrow().clone();
        let root = root.ok_or_else(|| Reason::new(Code::IoError, "the test gave no operating system"))?;
        Ok(Box::new(SameDisk(root)))
    }
}

pub(crate) fn prepare(root: &StateRoot, source: &DirSet) -> Result<Prepared, autonomy_schema::Reasons> {
    autonomy_reconciler::prepare(root, source, &options())
}

/// What `autonomy apply --auto-approve` does: recover, prepare, apply.
pub(crate) fn apply(root: &StateRoot, source: &DirSet, runner: &Recorder) -> Result<Outcome, ApplyFailure> {
    apply_watched(root, source, runner, &mut Silent)
}

pub(crate) fn apply_watched(
    root: &StateRoot,
    source: &DirSet,
    runner: &Recorder,
    observer: &mut dyn Observer,
) -> Result<Outcome, ApplyFailure> {
    let actor = actor();
    runner.2.replace(Some(root.clone()));
    autonomy_reconciler::recover_unfinished(root, &actor, runner, observer)?;
    let prepared = prepare(root, source)?;
    let approval =
        Approval { prepared, saved: None, stage_only: false, now_anyway: false, actor: &actor, runner, observer };
    autonomy_reconciler::apply(root, source, approval, &options())
}

/// What `autonomy rollback NAME --auto-approve` does.
pub(crate) fn roll_back(root: &StateRoot, to: &Name, runner: &Recorder) -> Result<(), ApplyFailure> {
    let (actor, mut silent) = (actor(), Silent);
    runner.2.replace(Some(root.clone()));
    autonomy_reconciler::recover_unfinished(root, &actor, runner, &mut silent)?;
    let prepared = autonomy_reconciler::prepare_return(root, Some(to), &options())?;
    let hands = (runner as &dyn ServiceRunner, &mut silent as &mut dyn Observer);
    autonomy_reconciler::roll_back(root, &prepared, false, &actor, hands, &options()).map(|_| ())
}
