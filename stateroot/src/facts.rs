//! Collecting what a node knows of itself. Writes nothing.

use std::path::Path;

use autonomy_schema::document::{self, MAX_DOCUMENT_BYTES};
use autonomy_schema::facts::{
    ArtifactFact, BootFacts, BoundFacts, DriftKind, Facts, FloorFacts, GenerationFacts, IdentityFacts, NodeFacts,
    ObservedFacts, RebuildFact, TrustFacts,
};
use autonomy_schema::journal::{Journal, Phase};
use autonomy_schema::path::UnitName;
use autonomy_schema::root::TrustRoot;
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Name, Reasons, StateManifest, Time};

use crate::cache::StatCache;
use crate::disk::{DiskError, read_capped};
use crate::layout;
use crate::root::{StateRoot, corrupt};

mod drift;
mod learn;
mod node;
mod os;
mod rebuilt;
mod walk;

pub use drift::drift_of;
pub use learn::learn;
pub use os::os_facts;
pub use rebuilt::against as os_difference;

/// How facts are collected.
#[derive(Clone, Copy)]
pub struct FactOptions<'a> {
    /// The clock.
    pub clock: Time,
    /// Reads every file of the active generation, whatever the stat cache knows.
    pub verify_content: bool,
    /// The root of the operating system; `/` on a running node.
    pub os_root: &'a Path,
    /// What is known of files whose identity did not change.
    pub cache: &'a StatCache,
    /// Asked about each unit that the active manifest starts.
    pub units: UnitProbe<'a>,
}

/// How a unit differs from running, and what it is; `None` when it runs, or when nobody can say.
pub type UnitProbe<'a> = &'a dyn Fn(&UnitName) -> Option<(DriftKind, String)>;

/// Collects the facts of `root`. Its manifest is taken as it lies there: whether it is signed is asked elsewhere.
pub fn collect(root: &StateRoot, options: &FactOptions<'_>) -> Result<Facts, Reasons> {
    let failed = |error: DiskError| Reasons::from(error.to_reason());
    let node = root.node()?;
    let floors = root.floors()?.unwrap_or_default();
    let pinned = root.trust_root_bytes()?;
    let root_bytes = pinned.first().map(|root| root.bytes.as_slice()).unwrap_or_default();
    let trust_root: TrustRoot =
        document::parse(root_bytes).map_err(|reasons| corrupt(&layout::trust_root(), &reasons.one_line()))?;
    let (current, lkg) = (root.current()?, root.lkg()?);
    // Before the switch the old generation is the truth, and a repeated apply goes on from what is staged.
    let journal = root.journal()?;
    let unfinished = journal.as_ref().is_some_and(|journal| journal.phase == Phase::Switched);
    let awaiting = journal.as_ref().and_then(Journal::waiting).map(|waits| waits.generation.clone());
    let walked = walk::walk(root.disk(), current.as_ref()).map_err(failed)?;
    let (current, mut drift) = match current {
        None => (None, Vec::new()),
        Some(name) => {
            let (manifest, fingerprint) = active_manifest(root, &name)?;
            let known = drift::Known { cache: options.cache, verify_content: options.verify_content };
            let drift = drift::find(root.disk(), &name, &manifest, &walked.generation, known);
            let mut drift = drift.map_err(failed)?;
            // Between the switch and its promotion floors and services are on their way.
            if !unfinished {
                let reset = root.earliest_reset()?;
                drift.extend(node::floors(&floors, (&manifest, fingerprint), reset, lkg.is_some()));
                drift.extend(node::services(&manifest, options.units));
                drift.extend(rebuilt::find(options.os_root, &manifest));
            }
            (Some(generation_facts(name, &manifest, fingerprint)), drift)
        }
    };
    drift.extend(node::local_settings(root.disk())?);
    drift.sort();
    let bound = BoundFacts {
        node: NodeFacts {
            id: node.node_id,
            fleet: node.fleet,
            hardware: node.hardware,
            labels: node.labels,
            destinations: node.destinations,
        },
        os: os::os_facts(options.os_root),
        trust: TrustFacts { root_version: trust_root.version, root: Blake3::of(root_bytes) },
        floors: FloorFacts {
            promoted: floors.promoted,
            stream: floors.stream,
            streams: floors.streams,
            revocation_number: floors.revoked.number,
        },
        current,
        lkg,
        boot: boot_facts(root),
        identity: IdentityFacts::default(),
        drift,
        outbox: root.outbox().map_err(failed)?,
        pinned: root.pinned()?,
        unfinished,
        awaiting,
    };
    let observed = ObservedFacts {
        clock: options.clock,
        time_mark: floors.time_mark,
        free_bytes: root.disk().space().map_err(failed)?.free,
        used_bytes: walked.used_bytes,
        suspended: root.is_suspended().map_err(failed)?,
        kept: std::collections::BTreeSet::new(),
        certificate_expires: None,
        crl_due: None,
        durability: None,
        findings: Vec::new(),
    };
    Ok(Facts { api_version: ApiVersion::default(), kind: Kind::Facts, bound, observed })
}

/// Bytes that the state root takes on its disk, hard links counted once.
pub fn used_bytes(root: &StateRoot) -> Result<u64, DiskError> {
    walk::walk(root.disk(), None).map(|walked| walked.used_bytes)
}

/// A record that cannot be read is told of by those who look at it for its own sake.
fn boot_facts(root: &StateRoot) -> Option<BootFacts> {
    let os = root.os_fingerprint().ok().flatten()?;
    Some(BootFacts { epoch: os.boot_epoch, fingerprint: os.composite })
}

fn active_manifest(root: &StateRoot, generation: &Name) -> Result<(StateManifest, Blake3), Reasons> {
    let path = layout::generation_manifest(generation);
    let bytes = read_capped(root.disk(), &path, MAX_DOCUMENT_BYTES as u64).map_err(|error| error.to_reason())?;
    let bytes = bytes.ok_or_else(|| corrupt(&path, "it is missing, and `current` points to its generation"))?;
    let manifest = document::parse(&bytes).map_err(|reasons| corrupt(&path, &reasons.one_line()))?;
    Ok((manifest, Blake3::of(&bytes)))
}

fn generation_facts(generation: Name, manifest: &StateManifest, fingerprint: Blake3) -> GenerationFacts {
    let spec = &manifest.spec;
    let mut artifacts: Vec<_> = spec.artifacts.iter().filter_map(ArtifactFact::of).collect();
    artifacts.sort_by(|a, b| a.path.cmp(&b.path));
    GenerationFacts {
        generation,
        manifest: fingerprint,
        stream: manifest.metadata.name.clone(),
        serial: manifest.metadata.serial,
        release: spec.release.version.to_string(),
        lock: spec.lock.fingerprint,
        policy: spec.policy.digest,
        // Who signed it is judged by those who may import the verifier.
        revoked: None,
        edge: Blake3::of(spec.relay.edge_toml().as_bytes()),
        artifacts,
        reconstruction: RebuildFact::all_of(spec),
    }
}
