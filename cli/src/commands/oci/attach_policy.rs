//! `autonomy oci attach-policy`: a policy bundle as a referrer.

use std::path::PathBuf;

use autonomy_oci::Attached;
use autonomy_schema::oci::POLICY_TYPE;
use autonomy_schema::{Code, set};

use super::{Common, attach};
use crate::failure::Failure;
use crate::files;

/// Attach a policy bundle to an artifact or a set.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The artifact: `oci://HOST[:PORT]/REPOSITORY:TAG` or `…@sha256:DIGEST`.
    reference: String,
    /// The bundle, as `autonomy render` builds it: `policy.tar.gz`.
    file: PathBuf,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(args: &Args) -> Result<u8, Failure> {
    let bytes = files::read(&args.file, set::MAX_POLICY_BYTES)?;
    let unfit = |error| Failure::because(Code::BadValue, format!("{}: {error}", args.file.display()));
    autonomy_policy::Bundle::load(&bytes).map_err(unfit)?;
    let attached = [Attached { media_type: POLICY_TYPE, title: set::POLICY, bytes: &bytes }];
    attach(&args.common, &args.reference, POLICY_TYPE, &attached, &|_any| Ok(()))
}
