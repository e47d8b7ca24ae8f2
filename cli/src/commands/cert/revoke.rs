//! `autonomy cert revoke`: a certificate that must not be accepted any more.

use std::path::PathBuf;

use autonomy_authority::Authority;
use autonomy_schema::{Code, Duration};
use autonomy_trust::{describe_certificates, issued_by};
use serde_json::json;

use crate::commands::cert::files::MAX_PEM;
use crate::commands::cert::renew::refused;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::{files, ui};

/// `autonomy cert revoke`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The CA's folder.
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// The certificate; the first one in the file.
    #[arg(value_name = "CERT")]
    certificate: PathBuf,
    /// When the list after the one that is made now is due.
    #[arg(long, value_name = "DURATION", default_value_t = autonomy_signing::DEFAULT_CRL_VALIDITY)]
    valid_for: Duration,
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
    let pem = files::read(&args.certificate, MAX_PEM)?;
    let cards = describe_certificates(&pem).map_err(refused)?;
    let mut authority = Authority::open(&args.ca)?;
    let shown = args.certificate.display();
    let Some(card) = cards.first().filter(|_| issued_by(&pem, authority.certificate().as_bytes())) else {
        let message = format!("{shown} was not issued by the CA in {}, which cannot revoke it", args.ca.display());
        return Err(Failure::because(Code::CertificateUntrusted, message));
    };
    let now = node::clock();
    let newly = authority.revoke(&card.serial, now)?;
    let (_, number) = authority.list(args.valid_for, now)?;
    if args.json() {
        let told = json!({ "serial": card.serial, "subject": card.subject, "new": newly, "crlNumber": number });
        ui::out(&format!("{told}\n"));
    } else {
        let word = if newly { "revoked" } else { "was revoked before" };
        let (serial, subject, list) = (&card.serial, &card.subject, args.ca.join("crl.pem"));
        ui::out(&ui::printable(&format!(
            "{word}: serial {serial} ({subject})\nrevocation list {number}: bring {} to every node\n",
            list.display(),
        )));
    }
    Ok(exit::DONE)
}
