//! A set onto a medium: into an OCI image layout that other tools read as well.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use autonomy_oci::{
    Layout, LayoutSet, LayoutWriter, Limits, SetPlan, Split, WriteError, Written, plan_set, plan_trust, write_volumes,
};
use autonomy_schema::{Blake3, Code, Reason, Reasons, Sha256, StateManifest, set};
use autonomy_stateroot::{Folded, SetSource, SourceFile, StateRoot, unverified};

use crate::parts::{Base, Receiver, parts};
use crate::trust;
use autonomy_sets::kept;
use autonomy_sets::{Draft, read_draft};

/// What an export wrote.
#[derive(Debug, Clone)]
pub struct Exported {
    /// The manifest of the set.
    pub manifest: StateManifest,
    /// Its fingerprint.
    pub fingerprint: Blake3,
    /// The tag in the layout.
    pub tag: String,
    /// The digest of the OCI manifest.
    pub digest: Sha256,
    /// Files of the set that the medium holds.
    pub files: usize,
    /// Artifacts that are left out: receivers put them together.
    pub left_out: usize,
    /// Packs of segments.
    pub packs: usize,
    /// Bytes of the packs.
    pub packed: u64,
    /// Bytes on the medium, packs and OCI manifest included.
    pub bytes: u64,
    /// Bytes of the set.
    pub set_bytes: u64,
    /// Manifests whose artifacts the receivers must have.
    pub bases: BTreeSet<Blake3>,
    /// The volumes, where it was split.
    pub volumes: Option<Written>,
    /// Whether trust roots, or a revocation list, went along by themselves.
    pub trust: bool,
}

/// For whom a set is written; without receivers, for everybody.
#[derive(Default)]
pub struct Audience<'a> {
    /// Each of them can build the set from what it has and what is written.
    pub receivers: Vec<Receiver>,
    /// The state root where sets are looked for that receivers have.
    pub root: Option<&'a StateRoot>,
    /// More such sets.
    pub bases: Vec<&'a dyn SetSource>,
}

/// Where and how a set is written.
#[derive(Default)]
pub struct Shipment<'a> {
    /// The tag in the layout; by default `<stream>-<serial>`.
    pub tag: Option<&'a str>,
    /// For whom.
    pub audience: Audience<'a>,
    /// How large files may be.
    pub limits: Limits,
    /// In volumes, which replace what lies at the target.
    pub split: Option<Split>,
    /// What goes along of whom nodes trust.
    pub trust: Option<&'a dyn SetSource>,
}

/// Writes a set into the layout at `to`, which is made when it is absent, beside the sets that it holds already. Who
/// signed the set is the receiver's question; that it is signed, complete and as its manifest pins it, is asked here.
/// `progress` is told bytes done and bytes in all.
pub fn export(
    source: Arc<dyn SetSource>,
    to: &Path,
    shipment: &Shipment<'_>,
    progress: &dyn Fn(u64, u64),
) -> Result<Exported, Reasons> {
    let Draft { manifest, fingerprint, policy: _ } = read_draft(&*source)?;
    // On a medium, a tree is one blob.
    let source = Folded::new(source, &manifest)?;
    let listed = source.list().map_err(|error| error.to_reason())?;
    signed(&listed)?;
    let at_hand = AtHand::look(&shipment.audience, to)?;
    // A volume takes a part of a file, so no file is too large for volumes.
    let file = if shipment.split.is_some() { u64::MAX } else { shipment.limits.file };
    let limits = Limits { file, ..shipment.limits };
    let bases = at_hand.bases(&shipment.audience);
    let parts = parts(&source, &manifest, &listed, &shipment.audience.receivers, &bases, limits)?;
    let (files, bases) = (parts.files.len(), parts.bases.clone());
    let tag = || format!("{}-{}", manifest.metadata.name, manifest.metadata.serial);
    let tag = shipment.tag.map_or_else(tag, str::to_owned);
    let plan = plan_set(&source, parts, limits, &tag)?;
    let (digest, packs, packed) = (plan.entry.digest, plan.packs, plan.packed);
    let trust =
        shipment.trust.map(|files| plan_trust(files, trust::files(files)?).map_err(Reasons::from)).transpose()?;
    let plans: Vec<SetPlan<'_>> = std::iter::once(plan).chain(trust).collect();
    let bytes = plans.iter().map(SetPlan::bytes).sum();
    let volumes = write(to, &plans, shipment.split, bytes, progress).map_err(|error| error.to_reason())?;
    let set_bytes = listed.iter().map(|file| file.size).sum();
    let left_out = listed.len() - files;
    Ok(Exported {
        volumes,
        trust: plans.len() > 1,
        manifest,
        fingerprint,
        tag,
        digest,
        files,
        left_out,
        packs,
        packed,
        bytes,
        set_bytes,
        bases,
    })
}

/// Writes what was planned.
fn write(
    to: &Path,
    plans: &[SetPlan<'_>],
    split: Option<Split>,
    bytes: u64,
    progress: &dyn Fn(u64, u64),
) -> Result<Option<Written>, WriteError> {
    if let Some(split) = split {
        return write_volumes(to, plans, split, progress).map(Some);
    }
    let mut writer = LayoutWriter::open(to)?;
    let mut before = 0;
    for plan in plans {
        writer.add(plan, &|done| progress(before + done, bytes))?;
        before += plan.bytes();
    }
    writer.finish()?;
    Ok(None)
}

/// A set that nobody signed is of no use on a medium.
pub(crate) fn signed(listed: &[SourceFile]) -> Result<(), Reasons> {
    let signatures = [set::MANIFEST_SIGNATURES, set::LOCK_SIGNATURES];
    let lacks = signatures.into_iter().filter(|name| !listed.iter().any(|file| file.path == *name && file.size > 0));
    let reasons = lacks.map(|name| {
        Reason::new(Code::MissingFile, format!("the set lacks `{name}`")).with_remedy("sign it first: `autonomy sign`")
    });
    Reasons::check(reasons.collect())
}

/// Sets that receivers may have, where their segment indices can be read.
struct AtHand {
    sets: Vec<Box<dyn SetSource>>,
}

impl AtHand {
    /// Those in the state root, and those at the target already. Nothing is looked for when nobody has anything.
    fn look(audience: &Audience<'_>, to: &Path) -> Result<Self, Reasons> {
        let mut sets: Vec<Box<dyn SetSource>> = Vec::new();
        if audience.receivers.iter().all(|receiver| receiver.has.is_empty()) {
            return Ok(Self { sets });
        }
        if let Some(root) = audience.root {
            sets.extend(kept(root)?.into_iter().map(|kept| Box::new(kept.set) as Box<dyn SetSource>));
        }
        // What is wrong with the target is told when it is written to. A set that leaves artifacts out will do: its
        // indices are there.
        let boxed = |set: LayoutSet| Box::new(set) as Box<dyn SetSource>;
        if let Ok(layout) = Layout::open(to).map(Arc::new) {
            sets.extend(layout.sets().into_iter().filter_map(|(_, set)| set.ok()).map(boxed));
        }
        Ok(Self { sets })
    }

    /// All that are at hand, by the fingerprint of their manifest.
    fn bases<'s>(&'s self, audience: &Audience<'s>) -> BTreeMap<Blake3, Base<'s>> {
        let own = self.sets.iter().map(|set| &**set);
        let mut found = BTreeMap::new();
        for set in audience.bases.iter().copied().chain(own) {
            if let Some((manifest, fingerprint)) = unverified(set) {
                found.entry(fingerprint).or_insert(Base { manifest, set });
            }
        }
        found
    }
}
