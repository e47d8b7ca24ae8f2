//! The pinned trust root, and the one way to a newer one.

use std::collections::{BTreeMap, BTreeSet};

use autonomy_schema::document::parse;
use autonomy_schema::root::{Role, TrustRoot};
use autonomy_schema::version::Kind;
use autonomy_schema::{Blake3, Code, Reason, Reasons, Sha256};

use crate::bundle;
use crate::key::PublicKey;
use crate::threshold::Demand;
use crate::verified::Signed;

/// A trust root that may judge others: an operator pinned it, or a threshold of its predecessor's keys signed it.
#[derive(Debug, Clone)]
pub struct PinnedRoot {
    document: TrustRoot,
    keys: BTreeMap<Sha256, PublicKey>,
    bytes: Vec<u8>,
    signatures: Vec<u8>,
    fingerprint: Blake3,
    earlier: Vec<PinnedRoot>,
}

impl PinnedRoot {
    /// Pins the root that an operator hands over. It is its own authority, so it is parsed before its signatures
    /// can be checked: these prove only that a threshold of its own root keys exists and agrees.
    pub fn first(signed: Signed<'_>) -> Result<Self, Reasons> {
        let root = Self::read(signed)?;
        root.root_threshold(signed)?;
        Ok(root)
    }

    /// Reads back the root that was pinned before: the same check, as a damaged file must not judge anything.
    pub fn pinned(signed: Signed<'_>) -> Result<Self, Reasons> {
        Self::first(signed)
    }

    /// The root after this one: exactly one version higher, signed by a threshold of this root's root keys, checked
    /// before anything is parsed, and of its own. An expired root can be succeeded. The pinned bytes themselves give
    /// the pinned root again, so that an import can be repeated.
    pub fn successor(&self, signed: Signed<'_>) -> Result<Self, Reasons> {
        if signed.bytes == self.bytes {
            return Ok(self.clone());
        }
        let mut counted = self.root_threshold(signed)?;
        let next = Self::read(signed)?;
        let mut reasons = Vec::new();
        reasons.extend(self.version_problem(&next));
        match next.root_threshold(signed) {
            Ok(lines) => counted.extend(lines),
            Err(refusal) => reasons.extend(refusal.into_vec()),
        }
        Reasons::check(reasons)?;
        let own = Self { earlier: Vec::new(), ..self.clone() };
        let earlier = std::iter::once(own).chain(self.earlier.iter().cloned()).collect();
        // What somebody added on the way would be judged again at every start, for as long as the root is kept.
        let signatures = bundle::only(signed.signatures, &counted);
        Ok(Self { signatures, earlier, ..next })
    }

    /// Adds the root before the oldest one that is known here: one version lower, signed by a threshold of its own root
    /// keys, and a threshold of these signed the one after it. What is admitted under an earlier root is made whole, and
    /// returned to, under that root.
    pub fn preceded_by(&mut self, signed: Signed<'_>) -> Result<(), Reasons> {
        let oldest = self.earlier.last().unwrap_or(self);
        let before = Self::first(signed)?;
        let (version, after) = (before.document.version, oldest.document.version);
        if version.checked_add(1) != Some(after) {
            let message = format!("trust root version {version} is not the one before version {after}");
            return Err(Reason::new(Code::RootGap, message).into());
        }
        before.successor(Signed { bytes: &oldest.bytes, signatures: &oldest.signatures })?;
        self.earlier.push(before);
        Ok(())
    }

    /// The earlier roots that are known, newest first.
    pub fn earlier(&self) -> &[PinnedRoot] {
        &self.earlier
    }

    /// This root, or the earlier one of that version.
    pub fn of_version(&self, version: u64) -> Option<&PinnedRoot> {
        std::iter::once(self).chain(&self.earlier).find(|root| root.document.version == version)
    }

    /// Whether `other` is this root or one of the earlier ones, byte for byte.
    pub fn continues(&self, other: &PinnedRoot) -> bool {
        self.of_version(other.document.version).is_some_and(|own| own.fingerprint == other.fingerprint)
    }

    /// What the root says.
    pub fn document(&self) -> &TrustRoot {
        &self.document
    }

    /// The root's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The signature lines: of a successor those that counted, else as they came.
    pub fn signatures(&self) -> &[u8] {
        &self.signatures
    }

    /// BLAKE3 over the bytes.
    pub fn fingerprint(&self) -> Blake3 {
        self.fingerprint
    }

    pub(crate) fn keys(&self) -> &BTreeMap<Sha256, PublicKey> {
        &self.keys
    }

    /// Parses without judging signatures; keys must be what their ids say, so that no key has two.
    fn read(signed: Signed<'_>) -> Result<Self, Reasons> {
        let document: TrustRoot = parse(signed.bytes)?;
        let mut keys = BTreeMap::new();
        let mut reasons = Vec::new();
        for (id, pem) in &document.keys {
            match PublicKey::parse_pem(pem) {
                Ok(key) if key.id() == *id => {
                    keys.insert(*id, key);
                }
                Ok(key) => {
                    let message = format!("`keys` lists a key under {id}; its id is {}", key.id());
                    reasons
                        .push(Reason::new(Code::BadValue, message).with_remedy("list each key once, under its own id"));
                }
                Err(error) => reasons.push(Reason::new(Code::BadValue, format!("key {id}: {error}"))),
            }
        }
        Reasons::check(reasons)?;
        Ok(Self {
            document,
            keys,
            bytes: signed.bytes.to_vec(),
            signatures: signed.signatures.to_vec(),
            fingerprint: Blake3::of(signed.bytes),
            earlier: Vec::new(),
        })
    }

    /// The lines of a threshold of this root's root keys.
    fn root_threshold(&self, signed: Signed<'_>) -> Result<BTreeSet<usize>, Reasons> {
        let demand = Demand {
            what: Kind::TrustRoot.as_str(),
            code: Code::RootSignature,
            root: self,
            any_of: &[Role::Root],
            revoked: &BTreeSet::new(),
        };
        demand.judge(signed).map(|signers| signers.lines)
    }

    fn version_problem(&self, next: &Self) -> Option<Reason> {
        let (pinned, found) = (self.document.version, next.document.version);
        if found == pinned {
            let message = format!(
                "trust root version {pinned} is pinned as {} and was found as {}",
                self.fingerprint, next.fingerprint
            );
            return Some(Reason::new(Code::RootForked, message));
        }
        if found == pinned.saturating_add(1) {
            return None;
        }
        let message = format!(
            "trust root version {found} does not follow the pinned version {pinned}; expected {}",
            pinned.saturating_add(1)
        );
        let reason = Reason::new(Code::RootGap, message);
        Some(if found < pinned { reason.with_remedy("leave it out: the node has a newer one") } else { reason })
    }
}
