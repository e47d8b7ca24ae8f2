//! Revocation lists: whose they are, whether they are fresh, and whom they revoke.

use autonomy_schema::{Code, Time};
use x509_parser::certificate::X509Certificate;
use x509_parser::revocation_list::CertificateRevocationList;

use super::{Demand, Findings, Identity, Key, card, shown};

/// Judges the node's certificate and its intermediates against the lists. The issuer of the node's certificate must
/// have a list here; the issuers of intermediates may.
pub(super) fn judge(
    leaf: &X509Certificate<'_>,
    path: &[&X509Certificate<'_>],
    lists: &[CertificateRevocationList<'_>],
    demand: &Demand<'_>,
    identity: &mut Identity,
    findings: &mut Findings,
) {
    if lists.is_empty() {
        return; // What could not be read is a finding already.
    }
    let mut subject = leaf;
    for (at, issuer) in path.iter().enumerate() {
        let own = lists_of(issuer, lists);
        if at == 0 {
            let newest = own.iter().copied().max_by_key(|list| list.last_update().timestamp());
            match newest {
                Some(newest) => {
                    record(Some(newest), identity);
                    fresh(newest, demand, findings);
                }
                None => foreign(issuer, findings),
            }
        }
        let serial = &subject.tbs_certificate.serial;
        let mut entries = own.iter().flat_map(|list| list.iter_revoked_certificates());
        if let Some(entry) = entries.find(|entry| entry.user_certificate == *serial) {
            let what = if at == 0 { "the node's certificate" } else { "a CA certificate of the node's chain" };
            findings.error(
                Code::CertificateRevoked,
                format!(
                    "{what}, serial {}, was revoked at {}",
                    card::serial(subject.raw_serial()),
                    Time::from_unix(entry.revocation_date.timestamp()),
                ),
            );
        }
        subject = issuer;
    }
}

/// Writes down what a list says.
pub(super) fn record(list: Option<&CertificateRevocationList<'_>>, identity: &mut Identity) {
    let Some(list) = list else { return };
    let card = card::crl(list);
    identity.crl_number = card.number;
    identity.crl_this_update = Some(card.this_update);
    identity.crl_next_update = card.next_update;
}

/// The lists that `issuer` signed and may sign.
fn lists_of<'c, 'a>(
    issuer: &X509Certificate<'_>,
    lists: &'c [CertificateRevocationList<'a>],
) -> Vec<&'c CertificateRevocationList<'a>> {
    let may = issuer.key_usage().ok().flatten().is_none_or(|usage| usage.value.crl_sign());
    let Some(key) = may.then(|| Key::of(issuer.public_key()).ok()).flatten() else { return Vec::new() };
    let signed = |list: &CertificateRevocationList<'_>| {
        list.issuer().as_raw() == issuer.subject().as_raw()
            && key
                .verifies(&list.signature_algorithm, list.tbs_cert_list.as_ref(), &list.signature_value.data)
                .unwrap_or_default()
    };
    lists.iter().filter(|list| signed(list)).collect()
}

fn fresh(list: &CertificateRevocationList<'_>, demand: &Demand<'_>, findings: &mut Findings) {
    let from = Time::from_unix(list.last_update().timestamp());
    if demand.now < from {
        findings
            .error(Code::CrlNotYetValid, format!("the revocation list is valid from {from}; it is {} now", demand.now));
    }
    let Some(due) = list.next_update().map(|due| Time::from_unix(due.timestamp())) else { return };
    if demand.now > due {
        findings.error(Code::CrlExpired, format!("the revocation list expired at {due}; it is {} now", demand.now));
    } else if demand.now.plus(demand.window) >= due {
        findings.warning(Code::CrlExpiring, format!("the revocation list expires at {due}, within {}", demand.window));
    }
}

fn foreign(issuer: &X509Certificate<'_>, findings: &mut Findings) {
    findings.error(
        Code::CrlUntrusted,
        format!(
            "no revocation list in `crl.pem` is signed by the issuer of the node's certificate, `{}`",
            shown(&issuer.subject().to_string())
        ),
    );
}
