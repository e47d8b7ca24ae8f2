//! What a node says of itself before anything is judged: who it is, whom it trusts, what it has seen.

use autonomy_schema::facts::Facts;
use autonomy_schema::floors::Floors;
use autonomy_schema::node::Node;
use autonomy_schema::root::Rotation;
use autonomy_schema::version::released_at;
use autonomy_schema::{Code, Reason, Reasons, StateManifest, Time};
use autonomy_stateroot::{SetSource, StateRoot, layout};
use autonomy_trust::{Context, PinnedRoot, Purpose, Verified};

use crate::roots;

/// What a state root says of itself before anything is judged.
pub struct Loaded {
    /// Who the node is; `None` away from any node.
    pub node: Option<Node>,
    /// The trust root that judges: the pinned one, or a newer one that a set brings.
    pub root: PinnedRoot,
    /// The floors.
    pub floors: Floors,
    /// Set when `root` is newer than the pinned one.
    pub rotates: Option<Rotation>,
}

impl Loaded {
    /// Judges by a trust root alone, away from any node: nothing was seen, and nobody is meant.
    pub fn away(root: PinnedRoot) -> Self {
        let floors = Floors { root_version: root.document().version, ..Floors::default() };
        Self { node: None, root, floors, rotates: None }
    }

    /// The same for a node of which only facts are at hand.
    #[must_use]
    pub fn of_node(self, node: Node, floors: Floors) -> Self {
        Self { node: Some(node), floors, ..self }
    }

    /// Judges by `newest`, to which the pinned root leads, as if it were pinned already.
    pub fn adopt(&mut self, newest: PinnedRoot) {
        if newest.document().version <= self.root.document().version {
            return;
        }
        self.floors = roots::floors_under(&self.floors, &newest);
        self.rotates = Some(Rotation { version: newest.document().version, root: newest.fingerprint() });
        self.root = newest;
    }

    /// Judges by the newest root that the set brings.
    pub fn adopt_from(&mut self, set: &dyn SetSource) -> Result<(), Reasons> {
        let (known, judge) = (self.floors.root_version, self.root.document().version);
        roots::bridge(set, known, judge)?;
        self.adopt(roots::newest(set, &self.root)?);
        if known < judge {
            self.rotates = Some(Rotation { version: self.root.document().version, root: self.root.fingerprint() });
        }
        Ok(())
    }

    /// Role `offline` alone does not change whom the node trusts, not even by what lies beside its manifest.
    pub fn check_offline(&self, manifest: &Verified<StateManifest>) -> Result<(), Reasons> {
        let Some(rotation) = self.rotates.filter(|_| manifest.is_offline()) else { return Ok(()) };
        let message = format!(
            "role `offline` alone signed the manifest, and its set brings trust root version {}, which is not pinned here",
            rotation.version
        );
        let reason = Reason::new(Code::RoleMismatch, message);
        Err(reason.with_remedy("import the roots by themselves first: `autonomy trust import SET`").into())
    }

    /// Floors that somebody lowered beside apply admit nothing that is older than what runs.
    pub fn prove(&mut self, facts: &Facts) {
        if let Some(current) = &facts.bound.current {
            self.floors = self.floors.proven_by(&current.stream, current.serial, current.manifest);
        }
    }

    /// The context to verify in.
    pub fn context(&self, clock: Time, purpose: Purpose) -> Context<'_> {
        Context {
            root: &self.root,
            floors: &self.floors,
            clock,
            released: released_at(),
            node: self.node.as_ref(),
            purpose,
        }
    }
}

/// Reads who the node is, whom it trusts and what it has seen.
pub fn load(root: &StateRoot) -> Result<Loaded, Reasons> {
    let node = root.node()?;
    let pinned = roots::pinned_root(root).map_err(|reasons| damaged_root(&reasons))?;
    // A power cut may have come between a newer root and the floors that follow it.
    let floors = roots::floors_under(&root.floors()?.unwrap_or_default(), &pinned);
    Ok(Loaded { node: Some(node), root: pinned, floors, rotates: None })
}

/// What is pinned here was verified when it came, so anything wrong with it is damage.
fn damaged_root(reasons: &Reasons) -> Reasons {
    let why = reasons.one_line();
    Reason::new(Code::CorruptState, format!("`{}`: {why}", layout::trust_root()))
        .with_remedy("run `autonomy fsck --repair`, or restore it from a backup with `autonomy restore`")
        .into()
}
