//! `autonomy oci probe`: what a registry is.

use serde_json::json;

use super::Common;
use crate::failure::{Failure, exit};

/// Ask a registry what it is and how it lists referrers. Writes nothing.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Any reference into the repository: `oci://HOST[:PORT]/REPOSITORY:TAG`.
    reference: String,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(args: &Args) -> Result<u8, Failure> {
    let registry = args.common.connect(&args.reference)?;
    let probe = registry.probe().map_err(|error| Failure::refused(error.to_reason(), false))?;
    let value = json!({ "apiVersion": probe.api_version, "auth": probe.auth, "referrersApi": probe.referrers_api });
    let text = format!(
        "{}\n  api       {}\n  asks for  {}\n  referrers {}\n",
        registry.reference().authority(),
        probe.api_version.as_deref().unwrap_or("it does not say"),
        probe.auth.as_deref().unwrap_or("nobody"),
        if probe.referrers_api { "by its own list" } else { "under the fallback tag `sha256-<hex>`" },
    );
    args.common.show(&value, &text);
    Ok(exit::DONE)
}
