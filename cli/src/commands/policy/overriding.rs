//! `autonomy policy override`: lets one manifest pass a policy that denies it.

use std::path::PathBuf;

use autonomy_schema::policy_override::PolicyOverride;
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Time};

use crate::commands::sign::write_unsigned;
use crate::commands::trust::{Named, expiry, fingerprint, parse_manifest};
use crate::failure::{Failure, exit};
use crate::{node, ui};

/// Make a policy override for one manifest. A threshold of the root keys signs it (`autonomy sign`); `autonomy apply SET
/// --override FILE` uses it, and the records keep who signed it and why.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The manifest: its fingerprint, its file, or the set.
    #[arg(value_name = "FINGERPRINT|FILE|SET", value_parser = parse_manifest)]
    manifest: Named<Blake3>,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// When it ends: a duration such as `7d`, or a time.
    #[arg(long, value_name = "SPAN|TIME", default_value = "7d")]
    expires: String,
    /// When it is issued; the clock's time when absent.
    #[arg(long, value_name = "TIME")]
    issued_at: Option<Time>,
    /// Where to write it.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let found = PolicyOverride {
        api_version: ApiVersion::default(),
        kind: Kind::PolicyOverride,
        manifest: fingerprint(&args.manifest)?,
        reason: args.reason.clone(),
        issued_at: args.issued_at.unwrap_or_else(node::clock),
        expires_at: expiry(&args.expires, jiff::Timestamp::now())?,
    };
    write_unsigned(&args.out, "write the override to another file", &found)?;
    ui::out(&format!(
        "policy override for {} until {} in {}; it counts once a threshold of the root keys signed it\n",
        found.manifest,
        found.expires_at,
        ui::printable(&args.out.display().to_string()),
    ));
    Ok(exit::DONE)
}
