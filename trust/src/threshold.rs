//! Who signed, and whether that is enough. The one body for every threshold.

use std::collections::BTreeSet;

use autonomy_schema::document::MAX_DOCUMENT_BYTES;
use autonomy_schema::root::Role;
use autonomy_schema::{Code, Reason, Reasons, Sha256};

use crate::bundle::{self, SignatureLine};
use crate::key::Message;
use crate::root::PinnedRoot;
use crate::verified::Signed;

/// Most signature checks for one document. With right hints a line takes one; without hints 44 signers fit. The cap
/// bounds what a file of well-formed junk costs a slow node.
const MAX_CHECKS: usize = 1024;

/// Which keys count, and for what.
pub(crate) struct Demand<'a> {
    /// What is being verified, for messages.
    pub(crate) what: &'a str,
    /// The code of a threshold that is not reached.
    pub(crate) code: Code,
    /// Whose keys and thresholds.
    pub(crate) root: &'a PinnedRoot,
    /// One of these must reach its own threshold; keys of different roles never add up.
    pub(crate) any_of: &'a [Role],
    /// Keys that count for nothing any more, in every role but `root`.
    pub(crate) revoked: &'a BTreeSet<Sha256>,
}

/// Who signed enough.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signers {
    /// The keys that counted.
    pub(crate) keys: BTreeSet<Sha256>,
    /// The roles whose threshold they reached.
    pub(crate) roles: BTreeSet<Role>,
    /// The lines by which they signed, by their number among those that are not empty, from 0.
    pub(crate) lines: BTreeSet<usize>,
}

impl Demand<'_> {
    /// The keys that signed in roles that reached their threshold, or every reason against it.
    pub(crate) fn judge(&self, signed: Signed<'_>) -> Result<Signers, Reasons> {
        self.judge_within(signed, MAX_DOCUMENT_BYTES as u64)
    }

    /// The same for what may be larger than a document.
    pub(crate) fn judge_within(&self, signed: Signed<'_>, cap: u64) -> Result<Signers, Reasons> {
        if signed.bytes.len() as u64 > cap {
            let message = format!("the {} has {} bytes; the cap is {cap}", self.what, signed.bytes.len());
            return Err(Reason::new(Code::DocumentTooLarge, message).into());
        }
        let message = Message::new(signed.bytes);
        let (lines, mut reasons) = bundle::parse(signed.signatures, message.digest());
        let found = self.signers(&message, &lines);
        match self.count(&found.signers) {
            Ok(counted) => Reasons::check(reasons).map(|()| Signers { lines: found.lines, ..counted }),
            Err(reason) => {
                if found.exhausted {
                    let message = format!("gave up after {MAX_CHECKS} signature checks without key hints");
                    reasons
                        .push(Reason::new(Code::LimitExceeded, message).with_remedy("keep one line for each signer"));
                }
                Err(with(reason, reasons))
            }
        }
    }

    /// The keys that may count.
    pub(crate) fn allowed(&self) -> BTreeSet<Sha256> {
        let roles = self.any_of.iter().filter_map(|role| self.root.document().roles.get(role));
        roles.flat_map(|role| role.keys.iter().copied()).collect()
    }

    /// Finds the distinct keys whose signature is among `lines`. A hint only decides which key is tried first.
    fn signers(&self, message: &Message<'_>, lines: &[SignatureLine]) -> Found {
        let allowed = self.allowed();
        let mut found = Found { signers: BTreeSet::new(), lines: BTreeSet::new(), exhausted: false };
        let mut checks = 0_usize;
        for (at, line) in lines.iter().enumerate() {
            let hinted = line.hint().filter(|id| allowed.contains(id));
            let others = allowed.iter().copied().filter(|id| Some(*id) != hinted);
            for id in hinted.into_iter().chain(others) {
                let Some(key) = self.root.keys().get(&id).filter(|key| !found.signers.contains(&key.id())) else {
                    continue;
                };
                if checks == MAX_CHECKS {
                    found.exhausted = true;
                    return found;
                }
                checks += 1;
                if key.verifies(message, line) {
                    found.signers.insert(key.id());
                    found.lines.insert(at);
                    break;
                }
            }
        }
        found
    }

    /// Counts `signers` against each role by itself.
    pub(crate) fn count(&self, signers: &BTreeSet<Sha256>) -> Result<Signers, Reason> {
        let mut counted = Signers::default();
        let mut enough_if_not_revoked = BTreeSet::new();
        let mut shortfalls = Vec::new();
        for role in self.any_of {
            let Some(keys) = self.root.document().roles.get(role) else { continue };
            let signed: BTreeSet<Sha256> = keys.keys.intersection(signers).copied().collect();
            // Root keys are revoked by a newer root alone: else manifest keys could lock the root keys out.
            let bound = |id: &Sha256| *role != Role::Root && self.revoked.contains(id);
            let valid: BTreeSet<Sha256> = signed.iter().copied().filter(|id| !bound(id)).collect();
            if valid.len() as u64 >= keys.threshold {
                counted.roles.insert(*role);
                counted.keys.extend(valid);
                continue;
            }
            if signed.len() as u64 >= keys.threshold {
                enough_if_not_revoked.extend(signed.intersection(self.revoked).copied());
            }
            shortfalls.push(format!(
                "{} of the {} keys that role `{role}` demands{}",
                valid.len(),
                keys.threshold,
                listed(&valid)
            ));
        }
        if !counted.roles.is_empty() {
            return Ok(counted);
        }
        if !enough_if_not_revoked.is_empty() {
            let message = format!("the {} is signed by revoked keys{}", self.what, listed(&enough_if_not_revoked));
            return Err(Reason::new(Code::Revoked, message));
        }
        if shortfalls.is_empty() {
            let roles: Vec<&str> = self.any_of.iter().map(|role| role.as_str()).collect();
            let message =
                format!("the trust root lets nobody sign a {}: it has no role {}", self.what, roles.join(", "));
            return Err(Reason::new(self.code, message));
        }
        let version = self.root.document().version;
        let shortfalls = shortfalls.join(", ");
        let message = format!("by trust root version {version}, the {} is signed by {shortfalls}", self.what);
        Err(Reason::new(self.code, message))
    }
}

/// A refusal of `first` and `others`, sorted.
fn with(first: Reason, mut others: Vec<Reason>) -> Reasons {
    others.push(first.clone());
    Reasons::new(others).unwrap_or_else(|| first.into())
}

struct Found {
    signers: BTreeSet<Sha256>,
    lines: BTreeSet<usize>,
    exhausted: bool,
}

fn listed(keys: &BTreeSet<Sha256>) -> String {
    if keys.is_empty() {
        return String::new();
    }
    let ids: Vec<String> = keys.iter().map(|id| format!("sha256:{}…", id.short())).collect();
    format!(" ({})", ids.join(", "))
}
