//! `autonomy oci referrers`: what refers to a manifest.

use serde_json::json;

use super::{Common, named};
use crate::failure::{Failure, exit};

/// List what refers to a manifest: locks, policies, signatures. Writes nothing.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The manifest: `oci://HOST[:PORT]/REPOSITORY:TAG` or `…@sha256:DIGEST`.
    reference: String,
    /// Of this artifact type alone.
    #[arg(long, value_name = "TYPE")]
    artifact_type: Option<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(args: &Args) -> Result<u8, Failure> {
    let registry = args.common.connect(&args.reference)?;
    let (subject, _) = named(&registry)?;
    let found = registry.referrers(subject.digest, args.artifact_type.as_deref());
    let found = found.map_err(|error| Failure::refused(error.to_reason(), false))?;
    let value = json!({ "subject": subject.digest, "referrers": found });
    let lines = found.iter().map(|entry| {
        let kind = entry.artifact_type.as_deref().unwrap_or("of no type");
        format!("  {} {kind}, {} bytes\n", entry.digest, entry.size)
    });
    let lines: String = lines.collect();
    let none = if found.is_empty() { "  nothing refers to it\n" } else { "" };
    args.common.show(&value, &format!("{}\n{lines}{none}", subject.digest));
    Ok(exit::DONE)
}
