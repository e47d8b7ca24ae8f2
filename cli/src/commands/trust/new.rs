//! `autonomy trust new`: the first trust root, which operators hand to nodes.

use autonomy_schema::root::{DEFAULT_SERIAL_STEP, DEFAULT_TIME_STEP, TrustRoot};
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_trust::PinnedRoot;

use super::make::{self, Make, RoleSpec};
use crate::failure::{Failure, exit};
use crate::ui;

/// Make and sign a trust root.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Who may sign what: `ROLE=a.pub,b.pub:THRESHOLD`, once a role. Roles: root, manifest, policy, artifact, offline.
    #[arg(long = "role", required = true, value_name = "ROLE=KEYS:N", value_parser = make::parse_role)]
    roles: Vec<RoleSpec>,
    /// Its version; a node that knows a root takes only the next one.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=make::MAX_NUMBER))]
    version: u64,
    #[command(flatten)]
    make: Make,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let (keys, roles) = make::read_roles(&args.roles)?;
    let root = TrustRoot {
        api_version: ApiVersion::default(),
        kind: Kind::TrustRoot,
        version: args.version,
        expires_at: make::expiry(&args.make.expires, jiff::Timestamp::now())?,
        keys,
        roles,
        max_serial_step: args.make.max_serial_step.unwrap_or(DEFAULT_SERIAL_STEP),
        max_time_step: args.make.max_time_step.unwrap_or(DEFAULT_TIME_STEP),
        reset_time_mark: None,
    };
    ui::out(&make::finish(&args.make, &root, PinnedRoot::first)?);
    Ok(exit::DONE)
}
