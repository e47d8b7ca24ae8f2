//! `edged precheck`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use autonomy_precheck::{Area, Ask, Report, SystemPlatform, precheck};
use autonomy_schema::Time;
use autonomy_schema::finding::Severity;
use autonomy_stateroot::{StateRoot, os_facts};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

use crate::rotate::rotate;
use crate::{USAGE, show};

/// How the report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// For scripts.
    Json,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The node's state root
    #[arg(long, env = "AUTONOMY_STATE_ROOT", value_name = "DIR", hide_env_values = true)]
    state_root: Option<PathBuf>,
    /// The root of the operating system: what the node runs on is read there, and reconstruction writes there
    #[arg(long, env = "AUTONOMY_OS_ROOT", value_name = "DIR", default_value = "/", hide_env_values = true)]
    os_root: PathBuf,
    /// Where cgroup v2 is mounted [default: sys/fs/cgroup below the root of the operating system]
    #[arg(long, value_name = "DIR")]
    cgroup_root: Option<PathBuf>,
    /// Before looking: where a certificate or a list is missing, has ended or ends within the window, make new ones
    #[arg(long)]
    rotate_certs: bool,
    /// The folder of the CA on this node, as `autonomy cert ca init` makes it [default: identity/ca in the state root]
    #[arg(long, value_name = "DIR", requires = "rotate_certs")]
    ca: Option<PathBuf>,
    /// Look and tell, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// How the report is printed
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Judge as if it were this time [default: the clock]
    #[arg(long, value_name = "TIME")]
    now: Option<Time>,
}

pub(crate) fn run(args: &Args) -> u8 {
    let Some(state_root) = &args.state_root else {
        show::message("no state root: give --state-root DIR, or set AUTONOMY_STATE_ROOT\n");
        return USAGE;
    };
    let report = report(args, state_root);
    show::report(&report, args.output);
    report.exit
}

fn report(args: &Args, state_root: &Path) -> Report {
    let mut report = Report { dry_run: args.dry_run, ..Report::default() };
    let root = match StateRoot::open(state_root) {
        Ok(root) => root,
        Err(reasons) => {
            report.refuse(Area::StateRoot, &reasons);
            return report;
        }
    };
    let state_root = state_root.canonicalize().unwrap_or_else(|_gone| state_root.to_owned());
    let platform = match SystemPlatform::open(&args.os_root, &state_root) {
        Ok(platform) => platform,
        Err(reason) => {
            report.add(
                Area::Config,
                Severity::Error,
                reason.with_remedy("name the root of an operating system: `--os-root DIR`"),
            );
            return report;
        }
    };
    let cgroup_root = args.cgroup_root.clone().unwrap_or_else(|| args.os_root.join("sys/fs/cgroup"));
    let bar = spinner();
    let clock = args.now.unwrap_or_else(clock);
    let actor = format!("uid:{}", nix::unistd::getuid());
    let ca = args.ca.clone().unwrap_or_else(|| state_root.join("identity/ca"));
    let rotated = (args.rotate_certs && !args.dry_run).then(|| rotate(&root, &ca, clock, &actor));
    let ask = Ask {
        os: os_facts(&args.os_root),
        platform: &platform,
        cgroup_root: &cgroup_root,
        clock,
        dry_run: args.dry_run,
        actor: &actor,
        each_step: &|label| bar.set_message(label.to_owned()),
    };
    let mut report = precheck(&root, &ask);
    match rotated {
        Some(Ok(serial)) => report.rotated = serial,
        Some(Err(reasons)) => report.refuse(Area::Certificates, &reasons),
        None => {}
    }
    bar.finish_and_clear();
    report
}

fn clock() -> Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Time::from_unix(now.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)))
}

/// Turns on a terminal alone.
fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
