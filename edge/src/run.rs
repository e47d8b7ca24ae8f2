//! `edged run`.

use std::path::PathBuf;

use autonomy_edge::daemon::{self, Start};
use autonomy_schema::{Code, Reasons};

use crate::{USAGE, show};

/// INV-05 is a matter of configuration for `edged` (DESIGN §6).
const CONFIG: u8 = 1;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The node's state root
    #[arg(long, env = "AUTONOMY_STATE_ROOT", value_name = "DIR", hide_env_values = true)]
    state_root: Option<PathBuf>,
    /// The root of the operating system, where memory limits are read
    #[arg(long, env = "AUTONOMY_OS_ROOT", value_name = "DIR", default_value = "/", hide_env_values = true)]
    os_root: PathBuf,
    /// Where cgroup v2 is mounted [default: sys/fs/cgroup below the root of the operating system]
    #[arg(long, value_name = "DIR")]
    cgroup_root: Option<PathBuf>,
    /// Take no new work near this use of memory, besides what its cgroup allows; 0 is unlimited
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    memory_limit: u64,
}

pub(crate) fn run(args: &Args) -> u8 {
    let Some(state_root) = &args.state_root else {
        show::message("no state root: give --state-root DIR, or set AUTONOMY_STATE_ROOT\n");
        return USAGE;
    };
    tracing_subscriber::fmt().json().flatten_event(true).with_target(false).with_writer(std::io::stderr).init();
    let start = Start {
        state_root: state_root.clone(),
        os_root: args.os_root.clone(),
        cgroup_root: args.cgroup_root.clone().unwrap_or_else(|| args.os_root.join("sys/fs/cgroup")),
        memory_limit: args.memory_limit,
    };
    match daemon::run(&start) {
        Ok(()) => 0,
        Err(reasons) => {
            for reason in reasons.as_slice() {
                tracing::error!(
                    event = "edge.refused",
                    code = %reason.code,
                    reason = reason.message,
                    remedy = reason.remedy,
                    "the daemon does not run"
                );
            }
            exit(&reasons)
        }
    }
}

fn exit(reasons: &Reasons) -> u8 {
    if reasons.has(Code::AssuranceReduced) { CONFIG } else { reasons.exit() }
}
