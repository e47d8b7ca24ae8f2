//! Which policy a node asks about its tools: that of the active generation, or, on a node without one, that of its slots.
//!
//! `policy/current` decides; `policy/lkg` does while the former cannot be believed. Everything is verified again whenever it
//! is read, so that nobody gets a policy in by writing into the state root. `docs/formats/policy-bundle.md` draws the folder.

use autonomy_schema::time::Time;
use autonomy_schema::version::released_at;
use autonomy_schema::{Code, Name, Reason, Reasons, RelPath, Sha256, StateManifest, document, generation, set};
use autonomy_sets::roots;
use autonomy_stateroot::{StateRoot, layout, read_capped};
use autonomy_trust::{Context, PinnedRoot, Purpose, Signed, Verified, verify_manifest, verify_policy_bundle};

use crate::bundle::Bundle;
use crate::decide::check_version;

mod promote;

pub use promote::{Promotable, Promoted, TOOL_ENTRY, judge, judge_tests};

/// One of the two places of a node's own policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The one that decides.
    Current,
    /// The last known good one.
    Lkg,
}

impl Slot {
    /// Its link in the state root.
    pub fn link(self) -> RelPath {
        match self {
            Self::Current => layout::policy_current(),
            Self::Lkg => layout::policy_lkg(),
        }
    }

    /// `current` or `lkg`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Lkg => "lkg",
        }
    }
}

/// Where a policy came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The active generation.
    Generation(Name),
    /// `policy/current`.
    Current,
    /// `policy/lkg`.
    Lkg,
}

/// The policy that decides.
#[derive(Debug, Clone)]
pub struct Active {
    /// The bundle.
    pub bundle: Bundle,
    /// Where it came from.
    pub origin: Origin,
    /// Why it is not `policy/current`, where it should be.
    pub fallback: Option<Reasons>,
    /// The manifest of the generation that it came from.
    pub manifest: Option<Verified<StateManifest>>,
}

/// A bundle of a slot, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The bundle.
    pub bundle: Bundle,
    /// The keys of role `policy` that counted.
    pub signers: Vec<Sha256>,
}

/// Which policy is meant, unverified and cheap: three links. As long as they say the same, so does [`Slots::active`], save
/// for damage and for a changed trust root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    /// The active generation.
    pub generation: Option<Name>,
    /// What `policy/current` names.
    pub current: Option<Sha256>,
    /// What `policy/lkg` names.
    pub lkg: Option<Sha256>,
}

/// The policies of a state root.
#[derive(Debug, Clone)]
pub struct Slots {
    root: StateRoot,
}

impl Slots {
    /// Those of this state root.
    pub fn new(root: &StateRoot) -> Self {
        Self { root: root.clone() }
    }

    /// What the links say.
    pub fn marks(&self) -> Result<Marks, Reasons> {
        Ok(Marks {
            generation: self.root.current()?,
            current: self.target(Slot::Current)?,
            lkg: self.target(Slot::Lkg)?,
        })
    }

    /// The policy that decides now. `no_policy` when there is none; any other reason when there is one that cannot be believed,
    /// and no other that can.
    pub fn active(&self) -> Result<Active, Reasons> {
        let trust = roots::pinned_root(&self.root)?;
        if let Some(name) = self.root.current()? {
            let (bundle, manifest) = self.of_generation(&name, &trust)?;
            return Ok(Active { bundle, origin: Origin::Generation(name), fallback: None, manifest: Some(manifest) });
        }
        let slot = |bundle, origin, fallback| Active { bundle, origin, fallback, manifest: None };
        let refusal = match self.held(Slot::Current) {
            Ok(Some(held)) => return Ok(slot(held.bundle, Origin::Current, None)),
            Ok(None) => Reasons::from(Reason::new(Code::NoPolicy, "`policy/current` names no bundle")),
            Err(reasons) => reasons,
        };
        match self.held(Slot::Lkg) {
            Ok(Some(held)) => Ok(slot(held.bundle, Origin::Lkg, Some(refusal))),
            Ok(None) => Err(refusal),
            Err(reasons) => {
                let both = refusal.as_slice().iter().chain(reasons.as_slice()).cloned().collect();
                Err(Reasons::new(both).unwrap_or(reasons))
            }
        }
    }

    /// The bundle of a slot, if it names one: its bytes are those of its name, and a threshold of role `policy` signed them.
    pub fn held(&self, slot: Slot) -> Result<Option<Held>, Reasons> {
        match self.target(slot)? {
            Some(digest) => self.verified(digest).map(Some).map_err(|reasons| of(slot, &reasons)),
            None => Ok(None),
        }
    }

    /// The same for the bundle of this digest.
    fn verified(&self, digest: Sha256) -> Result<Held, Reasons> {
        let (bytes, signatures) = self.stored(digest)?;
        let floors = self.root.floors()?.unwrap_or_default();
        let trust = roots::pinned_root(&self.root)?;
        // The node had it: an earlier root may vouch for it, and no clock binds; revoked keys do.
        let context = context(&trust, &floors, Purpose::Rollback);
        let signers = verify_policy_bundle(Signed { bytes: &bytes, signatures: &signatures }, &context)?;
        let bundle = Bundle::load(&bytes).map_err(|error| error.to_reason())?;
        check_version(&bundle).map_err(|error| error.to_reason())?;
        Ok(Held { bundle, signers })
    }

    fn stored(&self, digest: Sha256) -> Result<(Vec<u8>, Vec<u8>), Reasons> {
        let [bundle, signatures] = files(&layout::policy_bundle(digest));
        let bytes = self.read(&bundle, set::MAX_POLICY_BYTES)?;
        let found = Sha256::of(&bytes);
        if found != digest {
            return Err(corrupt(&bundle, &format!("it hashes to {found}")));
        }
        // Without its signatures it is signed by nobody, which is what the verifier then says.
        let read = read_capped(self.root.disk(), &signatures, set::MAX_SIGNATURES_BYTES);
        Ok((bytes, read.map_err(|error| error.to_reason())?.unwrap_or_default()))
    }

    /// The policy that the manifest of a generation pins.
    fn of_generation(&self, name: &Name, trust: &PinnedRoot) -> Result<(Bundle, Verified<StateManifest>), Reasons> {
        let file = |name: &Name, file| layout::in_generation(name, &RelPath::fixed(file));
        let bytes = self.read(&file(name, set::MANIFEST), document::MAX_DOCUMENT_BYTES as u64)?;
        let signatures = self.read(&file(name, set::MANIFEST_SIGNATURES), set::MAX_SIGNATURES_BYTES)?;
        let floors = self.root.floors()?.unwrap_or_default();
        let context = context(trust, &floors, Purpose::Recover);
        let manifest = verify_manifest(Signed { bytes: &bytes, signatures: &signatures }, &context)?;
        if !generation::is_of(name, manifest.document().metadata.serial, manifest.fingerprint()) {
            return Err(corrupt(&layout::generation(name), "it holds the manifest of another generation"));
        }
        let path = file(name, set::POLICY);
        let bytes = self.read(&path, set::MAX_POLICY_BYTES)?;
        let (found, pinned) = (Sha256::of(&bytes), manifest.document().spec.policy.digest);
        if found != pinned {
            return Err(corrupt(&path, &format!("it hashes to {found}; the manifest pins {pinned}")));
        }
        let bundle = Bundle::load(&bytes).map_err(|error| error.to_reason())?;
        Ok((bundle, manifest))
    }

    fn read(&self, path: &RelPath, cap: u64) -> Result<Vec<u8>, Reasons> {
        let bytes = read_capped(self.root.disk(), path, cap).map_err(|error| error.to_reason())?;
        bytes.ok_or_else(|| corrupt(path, "it is missing"))
    }

    /// The bundle that a slot's link names.
    pub fn target(&self, slot: Slot) -> Result<Option<Sha256>, Reasons> {
        let link = slot.link();
        let text = self.root.disk().read_link(&link).map_err(|error| {
            let no_link = error.source.kind() == std::io::ErrorKind::InvalidInput;
            if no_link { corrupt(&link, "it is not a symbolic link") } else { error.to_reason().into() }
        })?;
        let Some(text) = text else { return Ok(None) };
        let wrong = || corrupt(&link, &format!("it points to `{}`, which is no bundle", text.escape_default()));
        layout::policy_target(&text).map(Some).ok_or_else(wrong)
    }
}

/// The bundle and its signatures in a folder of a bundle.
pub fn files(folder: &RelPath) -> [RelPath; 2] {
    [set::POLICY, POLICY_SIGNATURES].map(|name| folder.join(&RelPath::fixed(name)))
}

/// The signatures of a bundle that comes by itself.
const POLICY_SIGNATURES: &str = "policy.tar.gz.sigstore.jsonl";

fn context<'a>(trust: &'a PinnedRoot, floors: &'a autonomy_schema::floors::Floors, purpose: Purpose) -> Context<'a> {
    Context { root: trust, floors, clock: Time::EPOCH, released: released_at(), node: None, purpose }
}

fn corrupt(path: &RelPath, why: &str) -> Reasons {
    Reason::new(Code::CorruptState, format!("`{path}`: {why}")).into()
}

/// The reasons, saying which slot they are about.
fn of(slot: Slot, reasons: &Reasons) -> Reasons {
    let named =
        |reason: &Reason| Reason { message: format!("`{}`: {}", slot.link(), reason.message), ..reason.clone() };
    Reasons::new(reasons.as_slice().iter().map(named).collect()).unwrap_or_else(|| reasons.clone())
}
