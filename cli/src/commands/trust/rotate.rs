//! `autonomy trust rotate`: the root after this one.

use std::path::PathBuf;

use autonomy_schema::root::{Role, TrustRoot};
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Sha256, Time};

use super::make::{self, Make, RoleSpec};
use crate::commands::init;
use crate::failure::{Failure, exit};
use crate::ui;

/// Make and sign the trust root after another one: a threshold of the old root's keys signs it, and of its own. What is not
/// said is taken over from the old one.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The trust root before it, with its signatures beside it.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Who may sign what from now on: `ROLE=a.pub,b.pub:THRESHOLD`, once a role. Other roles stay as they were.
    #[arg(long = "role", value_name = "ROLE=KEYS:N", value_parser = make::parse_role)]
    roles: Vec<RoleSpec>,
    /// A role that nobody has any more.
    #[arg(long = "without-role", value_name = "ROLE", value_parser = make::parse_role_name)]
    without: Vec<Role>,
    /// Brings a time mark that is too far ahead down to this time, once, on every node that takes this root.
    #[arg(long, value_name = "TIME")]
    reset_time_mark: Option<Time>,
    #[command(flatten)]
    make: Make,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let (old, ..) = init::trust_root(&args.from)?;
    let before = old.document();
    let (given, named) = make::read_roles(&args.roles)?;
    if let Some(role) = args.without.iter().find(|role| named.contains_key(role)) {
        return Err(Failure::Usage(format!("--role {role} and --without-role {role} contradict each other")));
    }
    let mut roles = before.roles.clone();
    roles.extend(named);
    roles.retain(|role, _| !args.without.contains(role));
    let is_used = |id: &Sha256| roles.values().any(|role| role.keys.contains(id));
    let keys = before.keys.clone().into_iter().chain(given).filter(|(id, _)| is_used(id)).collect();
    let root = TrustRoot {
        api_version: ApiVersion::default(),
        kind: Kind::TrustRoot,
        version: before.version.saturating_add(1),
        expires_at: make::expiry(&args.make.expires, jiff::Timestamp::now())?,
        keys,
        roles,
        max_serial_step: args.make.max_serial_step.unwrap_or(before.max_serial_step),
        max_time_step: args.make.max_time_step.unwrap_or(before.max_time_step),
        reset_time_mark: args.reset_time_mark,
    };
    ui::out(&make::finish(&args.make, &root, |signed| old.successor(signed))?);
    Ok(exit::DONE)
}
