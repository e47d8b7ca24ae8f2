//! One look at a state root: which generation is active, whether its lock binds what lies there, and its policy.

use autonomy_policy::Bundle;
use autonomy_policy::slots::{self, Active, Marks, Origin, Slots};
use autonomy_schema::lock::Lock;
use autonomy_schema::{Blake3, Code, Name, Reason, Reasons, RelPath, StateManifest, Time, document, set};
use autonomy_sets::load;
use autonomy_stateroot::{Identity, StateRoot, digests, layout, read_capped};
use autonomy_trust::{Purpose, Signed, Verified, verify_lock, verify_lock_alone};

/// The artifact that a lock speaks of.
const AGENT: &str = "agent";

/// What must be there for calls to be decided.
#[derive(Debug, Clone)]
pub struct Demand {
    /// A lock that verifies and binds agent and policy. Without it every call is denied.
    pub require_lock: bool,
    /// A policy when the runtime starts. Without it the runtime starts all the same, and denies every call.
    pub require_policy: bool,
    /// The lock of a node without generations.
    pub lock: Option<LockFile>,
}

/// The lock of a node without generations, as it was read when the runtime started.
#[derive(Clone)]
pub struct LockFile {
    /// The lock.
    pub bytes: Vec<u8>,
    /// Its signatures.
    pub signatures: Vec<u8>,
}

impl std::fmt::Debug for LockFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockFile").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// What was found.
#[derive(Debug)]
pub(super) struct Looked {
    /// The fingerprint of the lock that holds.
    pub(super) lock: Result<Blake3, Reason>,
    pub(super) policy: Result<Bundle, Reason>,
    pub(super) generation: Option<Name>,
    /// Why an older policy serves than the node's newest, where one does.
    pub(super) fallback: Option<Reasons>,
    /// Where the agent lies that the lock binds.
    pub(super) agent: Option<RelPath>,
}

/// What tells whether something moved: what the links name, and which files lie there and beside them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mark(Marks, Vec<Option<Identity>>);

impl Mark {
    /// `None` when it cannot be told: then it is looked again.
    pub(super) fn of(root: &StateRoot, agent: Option<&RelPath>) -> Option<Self> {
        let marks = Slots::new(root).marks().ok()?;
        let mut files = vec![layout::trust_root(), layout::floors(), layout::revocation(), layout::node_yaml()];
        files.extend(agent.cloned());
        if let Some(name) = &marks.generation {
            let documents = [set::MANIFEST, set::MANIFEST_SIGNATURES, set::LOCK, set::LOCK_SIGNATURES, set::POLICY];
            files.extend(documents.map(|file| layout::in_generation(name, &RelPath::fixed(file))));
        }
        for digest in [marks.current, marks.lkg].into_iter().flatten() {
            files.extend(slots::files(&layout::policy_bundle(digest)));
        }
        let seen = files.iter().map(|file| root.disk().stat(file).map(|stat| stat.map(|stat| stat.identity)));
        Some(Self(marks, seen.collect::<Result<_, _>>().ok()?))
    }
}

/// Looks once.
pub(super) fn look(root: &StateRoot, demand: &Demand, clock: Time) -> Looked {
    let active = match Slots::new(root).active() {
        Ok(active) => active,
        Err(reasons) => {
            let why = reasons.one_line();
            let generation = root.current().ok().flatten();
            // On a node without generations the lock is known by itself.
            let lock = match (&generation, &demand.lock) {
                (None, Some(file)) => alone(root, file, clock).map(|lock| lock.document().behavioral_fingerprint),
                (Some(_), _) | (_, None) => Err(Reason::new(Code::LockInvalid, why.clone()).into()),
            };
            let lock = lock.map_err(|reasons| no_lock(&reasons));
            return Looked {
                lock,
                policy: Err(Reason::new(Code::NoPolicy, why)),
                generation,
                fallback: None,
                agent: None,
            };
        }
    };
    let Active { bundle, origin, fallback, manifest } = active;
    let (lock, generation, agent) = match (origin, manifest) {
        (Origin::Generation(name), Some(manifest)) => {
            let lock = managed(root, &name, &manifest, clock);
            let agent = agent_of(&name, manifest.document()).map(|(path, _)| path);
            (lock, Some(name), agent)
        }
        (Origin::Generation(_) | Origin::Current | Origin::Lkg, _) => {
            (unmanaged(root, demand, &bundle, clock), None, None)
        }
    };
    Looked { lock: lock.map_err(|reasons| no_lock(&reasons)), policy: Ok(bundle), generation, fallback, agent }
}

fn no_lock(reasons: &Reasons) -> Reason {
    match reasons.as_slice() {
        [one] if one.code == Code::LockInvalid => one.clone(),
        _ => Reason::new(Code::LockInvalid, reasons.one_line()),
    }
}

/// A generation: lock, manifest and agent must be one another's. Judged as what the node runs: that it is past its end does
/// not stop it, a revocation does.
fn managed(root: &StateRoot, name: &Name, manifest: &Verified<StateManifest>, clock: Time) -> Result<Blake3, Reasons> {
    let loaded = load(root)?;
    let bytes = read(root, name, set::LOCK, document::MAX_DOCUMENT_BYTES as u64)?;
    let signatures = read(root, name, set::LOCK_SIGNATURES, set::MAX_SIGNATURES_BYTES)?;
    let signed = Signed { bytes: &bytes, signatures: &signatures };
    let lock = verify_lock(signed, manifest, &loaded.context(clock, Purpose::Rollback))?;
    agent(root, name, manifest.document(), lock.document())?;
    Ok(lock.document().behavioral_fingerprint)
}

/// A node without generations: the operator's lock must bind the policy that is asked.
fn unmanaged(root: &StateRoot, demand: &Demand, bundle: &Bundle, clock: Time) -> Result<Blake3, Reasons> {
    let Some(file) = &demand.lock else {
        let why = "no generation is active, and no `--lock FILE` was given";
        return Err(Reason::new(Code::LockInvalid, why).into());
    };
    let lock = alone(root, file, clock)?;
    let bound = &lock.document().policy_bundle;
    if bound.digest != bundle.digest() {
        let message = format!("the policy is {}; the lock binds {}", bundle.digest(), bound.digest);
        return Err(Reason::new(Code::LockInvalid, message).into());
    }
    Ok(lock.document().behavioral_fingerprint)
}

fn alone(root: &StateRoot, file: &LockFile, clock: Time) -> Result<Verified<Lock>, Reasons> {
    let signed = Signed { bytes: &file.bytes, signatures: &file.signatures };
    verify_lock_alone(signed, &load(root)?.context(clock, Purpose::Rollback))
}

/// A file of a generation, within its cap.
fn read(root: &StateRoot, name: &Name, file: &'static str, cap: u64) -> Result<Vec<u8>, Reasons> {
    let path = layout::in_generation(name, &RelPath::fixed(file));
    let bytes = read_capped(root.disk(), &path, cap).map_err(|error| error.to_reason())?;
    bytes.ok_or_else(|| Reason::new(Code::CorruptState, format!("`{path}` is missing")).into())
}

/// Where the agent of a generation lies, and how long it is.
fn agent_of(name: &Name, manifest: &StateManifest) -> Option<(RelPath, u64)> {
    let artifact = manifest.spec.artifacts.iter().find(|artifact| artifact.name.as_str() == AGENT)?;
    let path = set::artifact(&artifact.path).parse::<RelPath>().ok()?;
    Some((layout::in_generation(name, &path), artifact.file()?.size))
}

/// The agent that lies there must be the one of the lock, byte for byte.
fn agent(root: &StateRoot, name: &Name, manifest: &StateManifest, lock: &Lock) -> Result<(), Reasons> {
    // `verify_lock` demands it.
    let Some((path, size)) = agent_of(name, manifest) else {
        return Err(Reason::new(Code::MissingFile, format!("no file artifact is named `{AGENT}`")).into());
    };
    let (_, found) = digests(root.disk(), &path, size).map_err(|error| Reasons::from(error.to_reason()))?;
    if found == lock.agent_artifact.digest {
        return Ok(());
    }
    let message = format!("`{path}` hashes to {found}; the lock binds {}", lock.agent_artifact.digest);
    Err(Reason::new(Code::DigestMismatch, message).into())
}
