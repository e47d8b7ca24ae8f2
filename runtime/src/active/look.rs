//! One look at a state root: which generation is active, whether its lock binds what lies there, and its policy.

use std::path::PathBuf;

use autonomy_policy::Bundle;
use autonomy_schema::lock::Lock;
use autonomy_schema::{Blake3, Code, Name, Reason, Reasons, RelPath, Sha256, StateManifest, Time, document, generation, set};
use autonomy_sets::{Loaded, load};
use autonomy_stateroot::{Identity, StateRoot, digests, layout, read_capped};
use autonomy_trust::{Purpose, Signed, Verified, verify_lock, verify_manifest};

/// The artifact that a lock speaks of.
const AGENT: &str = "agent";

/// What must be there for calls to be decided.
#[derive(Debug, Clone)]
pub struct Demand {
    /// A lock that verifies and binds agent and policy. Without it every call is denied.
    pub require_lock: bool,
    /// A policy when the runtime starts. Without it the runtime starts all the same, and denies every call.
    pub require_policy: bool,
    /// The lock of a node without generations; its signatures lie beside it.
    pub lock: Option<PathBuf>,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Looked {
    /// The fingerprint of the lock that holds; `None` where nobody asked for one and none is there.
    pub(super) lock: Result<Option<Blake3>, Reason>,
    pub(super) policy: Result<Bundle, Reason>,
    pub(super) generation: Option<Name>,
    /// Where the agent lies that the lock binds.
    pub(super) agent: Option<RelPath>,
}

/// What tells whether something moved: the active generation, and which files lie there and beside it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mark(Option<Name>, Vec<Option<Identity>>);

impl Mark {
    /// `None` when it cannot be told: then it is looked again.
    pub(super) fn of(root: &StateRoot, agent: Option<&RelPath>) -> Option<Self> {
        let current = root.current().ok()?;
        let mut files = vec![layout::trust_root(), layout::floors(), layout::revocation(), layout::node_yaml()];
        files.extend(agent.cloned());
        if let Some(name) = &current {
            let documents = [set::MANIFEST, set::MANIFEST_SIGNATURES, set::LOCK, set::LOCK_SIGNATURES, set::POLICY];
            files.extend(documents.map(|file| layout::in_generation(name, &RelPath::fixed(file))));
        }
        let seen = files.iter().map(|file| root.disk().stat(file).map(|stat| stat.map(|stat| stat.identity)));
        Some(Self(current.clone(), seen.collect::<Result<_, _>>().ok()?))
    }
}

/// Looks once.
pub(super) fn look(root: &StateRoot, demand: &Demand, clock: Time) -> Looked {
    match root.current() {
        Ok(Some(name)) => managed(root, &name, clock),
        Ok(None) => unmanaged(demand),
        Err(reasons) => {
            let why = reasons.one_line();
            Looked { lock: Err(no_lock(&why)), policy: Err(no_policy(&why)), generation: None, agent: None }
        }
    }
}

fn no_lock(why: &str) -> Reason {
    Reason::new(Code::LockInvalid, why)
}

fn no_policy(why: &str) -> Reason {
    Reason::new(Code::NoPolicy, why)
}

fn unmanaged(_demand: &Demand) -> Looked {
    let why = "nothing is active on this node";
    Looked { lock: Err(no_lock(why)), policy: Err(no_policy(why)), generation: None, agent: None }
}

/// A generation: manifest, lock, agent and policy must be one another's.
fn managed(root: &StateRoot, name: &Name, clock: Time) -> Looked {
    let generation = Some(name.clone());
    let verified = load(root).and_then(|loaded| {
        let manifest = manifest_of(root, name, &loaded, clock)?;
        Ok((loaded, manifest))
    });
    let (loaded, manifest) = match verified {
        Ok(verified) => verified,
        Err(reasons) => {
            let why = format!("generation {name}: {}", reasons.one_line());
            return Looked { lock: Err(no_lock(&why)), policy: Err(no_policy(&why)), generation, agent: None };
        }
    };
    let lock = lock_of(root, name, &loaded, &manifest, clock)
        .and_then(|lock| agent(root, name, manifest.document(), lock.document()).map(|()| lock))
        .map(|lock| Some(lock.document().behavioral_fingerprint))
        .map_err(|reasons| no_lock(&format!("generation {name}: {}", reasons.one_line())));
    let policy = policy_of(root, name, manifest.document())
        .map_err(|reasons| no_policy(&format!("generation {name}: {}", reasons.one_line())));
    Looked { lock, policy, generation, agent: agent_of(name, manifest.document()).map(|(path, _)| path) }
}

/// A file of a generation, within its cap.
fn read(root: &StateRoot, name: &Name, file: &'static str, cap: u64) -> Result<Vec<u8>, Reasons> {
    let path = layout::in_generation(name, &RelPath::fixed(file));
    let bytes = read_capped(root.disk(), &path, cap).map_err(|error| error.to_reason())?;
    bytes.ok_or_else(|| Reason::new(Code::CorruptState, format!("`{path}` is missing")).into())
}

/// Judged as what the node runs: that it is past its end does not stop it, a revocation does.
fn manifest_of(root: &StateRoot, name: &Name, loaded: &Loaded, clock: Time) -> Result<Verified<StateManifest>, Reasons> {
    let bytes = read(root, name, set::MANIFEST, document::MAX_DOCUMENT_BYTES as u64)?;
    let signatures = read(root, name, set::MANIFEST_SIGNATURES, set::MAX_SIGNATURES_BYTES)?;
    let signed = Signed { bytes: &bytes, signatures: &signatures };
    let manifest = verify_manifest(signed, &loaded.context(clock, Purpose::Rollback))?;
    if generation::is_of(name, manifest.document().metadata.serial, manifest.fingerprint()) {
        return Ok(manifest);
    }
    Err(Reason::new(Code::CorruptState, "it holds the manifest of another generation").into())
}

fn lock_of(
    root: &StateRoot,
    name: &Name,
    loaded: &Loaded,
    manifest: &Verified<StateManifest>,
    clock: Time,
) -> Result<Verified<Lock>, Reasons> {
    let bytes = read(root, name, set::LOCK, document::MAX_DOCUMENT_BYTES as u64)?;
    let signatures = read(root, name, set::LOCK_SIGNATURES, set::MAX_SIGNATURES_BYTES)?;
    let signed = Signed { bytes: &bytes, signatures: &signatures };
    verify_lock(signed, manifest, &loaded.context(clock, Purpose::Rollback))
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
    let found = digests(root.disk(), &path, size).map_err(|error| Reasons::from(error.to_reason()))?;
    let found = found.map(|(_, sha256)| sha256);
    if found == Some(lock.agent_artifact.digest) {
        return Ok(());
    }
    let message = format!("`{path}` hashes to {}; the lock binds {}", found.map_or_else(String::new, |found| found.to_string()), lock.agent_artifact.digest);
    Err(Reason::new(Code::DigestMismatch, message).into())
}

fn policy_of(root: &StateRoot, name: &Name, manifest: &StateManifest) -> Result<Bundle, Reasons> {
    let bytes = read(root, name, set::POLICY, set::MAX_POLICY_BYTES)?;
    let (found, pinned) = (Sha256::of(&bytes), manifest.spec.policy.digest);
    if found != pinned {
        let message = format!("`{}` hashes to {found}; the manifest pins {pinned}", set::POLICY);
        return Err(Reason::new(Code::DigestMismatch, message).into());
    }
    Bundle::load(&bytes).map_err(|error| error.to_reason().into())
}
