//! `autonomy cert show`: what certificates or revocation lists say.

use std::path::PathBuf;

use autonomy_trust::{Card, CrlCard, MAX_CRL_BYTES, describe_certificates, describe_crls};
use serde_json::{Value, json};

use crate::commands::cert::renew::refused;
use crate::failure::{Failure, exit};
use crate::node::Output;
use crate::{files, ui};

/// `autonomy cert show`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A file of certificates, or of revocation lists (PEM).
    file: PathBuf,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Args {
    pub(super) fn json(&self) -> bool {
        self.output == Output::Json
    }
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let pem = files::read(&args.file, MAX_CRL_BYTES)?;
    let is_crl = pem.windows(CRL_LABEL.len()).any(|window| window == CRL_LABEL);
    let (certificates, lists) = if is_crl {
        (Vec::new(), describe_crls(&pem).map_err(refused)?)
    } else {
        (describe_certificates(&pem).map_err(refused)?, Vec::new())
    };
    if args.json() {
        let certificates: Vec<Value> = certificates.iter().map(certificate_json).collect();
        let lists: Vec<Value> = lists.iter().map(list_json).collect();
        ui::out(&format!("{}\n", json!({ "certificates": certificates, "revocationLists": lists })));
        return Ok(exit::DONE);
    }
    let texts: Vec<String> = certificates.iter().map(certificate_text).chain(lists.iter().map(list_text)).collect();
    ui::out(&ui::printable(&texts.join("\n")));
    Ok(exit::DONE)
}

const CRL_LABEL: &[u8] = b"-----BEGIN X509 CRL-----";

fn certificate_text(card: &Card) -> String {
    let kind = if card.ca { "CA certificate" } else { "certificate" };
    let mut lines = vec![format!("{kind} {}", card.subject)];
    lines.extend(card.uris.iter().map(|uri| format!("  name     {uri}")));
    lines.extend([
        format!("  serial   {}", card.serial),
        format!("  issuer   {}", card.issuer),
        format!("  valid    {} to {}", card.not_before, card.expires),
        format!("  key      {}, {}", card.algorithm, card.key_id),
        format!("  digest   {}\n", card.digest),
    ]);
    lines.join("\n")
}

fn certificate_json(card: &Card) -> Value {
    json!({
        "subject": card.subject, "issuer": card.issuer, "serial": card.serial, "uris": card.uris,
        "notBefore": card.not_before, "expires": card.expires, "ca": card.ca, "algorithm": card.algorithm,
        "keyId": card.key_id, "digest": card.digest,
    })
}

fn list_text(card: &CrlCard) -> String {
    let number = card.number.map_or_else(|| "without a number".to_owned(), |number| number.to_string());
    let due = card.next_update.map_or_else(|| "?".to_owned(), |due| due.to_string());
    let mut lines = vec![format!("revocation list {number}"), format!("  issuer   {}", card.issuer)];
    lines.extend(card.revoked.iter().map(|serial| format!("  revoked  {serial}")));
    lines.push(format!("  valid    {} to {due}\n", card.this_update));
    lines.join("\n")
}

fn list_json(card: &CrlCard) -> Value {
    json!({
        "issuer": card.issuer, "number": card.number, "thisUpdate": card.this_update, "nextUpdate": card.next_update,
        "revoked": card.revoked,
    })
}
