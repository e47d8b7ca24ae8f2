//! `autonomy oci attach-lock`: a lock as a referrer.

use std::path::PathBuf;

use autonomy_oci::{Attached, LOCK_TYPE, SIGNATURES_TYPE};
use autonomy_schema::set;

use super::{Common, attach, other};
use crate::commands::lock::read_lock;
use crate::commands::sign::signatures_of;
use crate::failure::Failure;
use crate::files;

/// Attach a lock to an artifact or a set, with the signatures that lie beside it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The artifact: `oci://HOST[:PORT]/REPOSITORY:TAG` or `…@sha256:DIGEST`.
    reference: String,
    /// The lock; `FILE.sigstore.jsonl` comes along where it exists.
    file: PathBuf,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(args: &Args) -> Result<u8, Failure> {
    let (lock, bytes) = read_lock(&args.file)?;
    let signatures = files::read_if_there(&signatures_of(&args.file), set::MAX_SIGNATURES_BYTES)?;
    let mut attached = vec![Attached { media_type: LOCK_TYPE, title: set::LOCK, bytes: &bytes }];
    attached.extend(signatures.as_ref().map(|bytes| Attached {
        media_type: SIGNATURES_TYPE,
        title: set::LOCK_SIGNATURES,
        bytes,
    }));
    let locked = lock.agent_artifact.digest;
    attach(&args.common, &args.reference, LOCK_TYPE, &attached, &|subject| {
        if subject == locked { Ok(()) } else { Err(other("the lock is for the agent", locked, subject)) }
    })
}
