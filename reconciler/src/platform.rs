//! What `edged precheck` would find, as facts: certificates, durability, an operating system that was replaced.

use autonomy_precheck::epoch::{self, Verdict};
use autonomy_precheck::{assurance, certificates};
use autonomy_schema::facts::{Facts, IdentityFacts};
use autonomy_schema::finding::{Finding, Severity};
use autonomy_schema::manifest::Precheck;
use autonomy_schema::{Code, Reason};
use autonomy_stateroot::StateRoot;

use crate::judge::Options;
use autonomy_sets::manifest_of;

/// Adds them to the facts. What cannot be looked at is a finding, and stops nobody here.
pub(crate) fn look(root: &StateRoot, facts: &mut Facts, options: &Options<'_>) {
    let active = facts.bound.current.as_ref().and_then(|current| manifest_of(root, &current.generation));
    let demands = active.as_ref().map_or_else(Precheck::default, |(manifest, _)| manifest.spec.precheck.clone());
    let mut findings = Vec::new();
    if let Ok(node) = root.node() {
        let is_needed = autonomy_precheck::takes_part(root, active.as_ref().map(|(manifest, _)| manifest));
        let found = certificates(root, &node, options.clock, demands.cert_expiry_window, is_needed);
        let identity = found.identity;
        facts.bound.identity = IdentityFacts {
            certificate: identity.serial.unwrap_or_default(),
            ca: identity.ca,
            crl: identity.crl_number,
        };
        facts.observed.certificate_expires = identity.expires;
        facts.observed.crl_due = identity.crl_next_update;
        findings.extend(found.findings.into_iter().map(|(severity, reason)| Finding::new(severity, reason)));
    }
    facts.observed.durability = Some(assurance(&options.os_root.join("sys/fs/cgroup")).durability());
    match epoch::look(root, facts.bound.os.clone()) {
        Ok(sight) => {
            if let Verdict::Replaced { changed, .. } = &sight.verdict {
                findings.push(Finding::new(Severity::Warning, epoch::replaced(changed)));
            }
        }
        Err(reasons) => {
            let damaged = |reason: &Reason| Finding::new(Severity::Error, reason.clone());
            findings.extend(reasons.as_slice().iter().map(damaged));
        }
    }
    // On a node without a relay it is no news that it has no certificates.
    findings.retain(|finding| finding.severity != Severity::Info || finding.code == Code::OsChanged);
    findings.sort();
    facts.observed.findings = findings;
}
