//! `autonomy cert crl`: a fresh revocation list.

use std::path::PathBuf;

use autonomy_authority::Authority;
use autonomy_schema::{Duration, Mode};
use serde_json::json;

use crate::commands::cert::files::replace_durably;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// `autonomy cert crl`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The CA's folder.
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// Where the list is written, besides the CA's folder.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// When the next one is due.
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
    let now = node::clock();
    let (list, number) = Authority::open(&args.ca)?.list(args.valid_for, now)?;
    replace_durably(&args.out, list.as_bytes(), Mode::FILE)?;
    let due = now.plus(args.valid_for);
    if args.json() {
        ui::out(&format!("{}\n", json!({ "crlNumber": number, "nextUpdate": due })));
    } else {
        let out = args.out.display().to_string();
        ui::out(&ui::printable(&format!("revocation list {number} in {out}; the next one is due at {due}\n")));
    }
    Ok(exit::DONE)
}
