//! `autonomy runtime start`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use autonomy_runtime::tools::{Config, Domain, Network, Tools};
use autonomy_runtime::{Demand, Listen, Start};
use clap::ArgAction;
use serde_json::json;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::Output;
use crate::{node, ui};

/// Serve tools over HTTP; the policy of the active generation decides every call.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7777")]
    listen: SocketAddr,
    /// Serve only when a signed lock binds agent and policy.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    require_lock: bool,
    /// Start only when there is a policy; without one every call is denied.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    require_policy: bool,
    /// A host that `tool.http_get` may ask: `example.org`, `.example.org` for those below it, `example.org:8443`; may be
    /// repeated.
    #[arg(long, value_name = "HOST")]
    allow_domain: Vec<Domain>,
    /// A network that it may reach although it is not public, such as `10.1.0.0/16`; may be repeated.
    #[arg(long, value_name = "CIDR")]
    allow_address: Vec<Network>,
    /// Certificates (PEM) that it trusts, instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The folder of `tool.file_read` and `tool.file_write`.
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// The folder that `tool.shell` runs commands in, as its owner.
    #[arg(long, value_name = "DIR")]
    shell: Option<PathBuf>,
    /// Do not record this parameter of calls, besides those that never are, such as `password`; may be repeated.
    #[arg(long, value_name = "NAME")]
    redact: Vec<String>,
    /// Calls per second.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// How to say where it listens.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, path) = node::state_root(global)?;
    let tools = tools(args, &path)?;
    let demand = Demand { require_lock: args.require_lock, require_policy: args.require_policy, lock: None };
    let start = Start {
        root,
        demand,
        listen: Listen::Tcp(args.listen),
        token: None,
        tools,
        redact: args.redact.clone(),
        rate: args.rate,
    };
    let json = args.output == Output::Json;
    let ready = |at: &str| {
        let line = if json { json!({ "listen": at, "pid": std::process::id() }).to_string() } else { format!("serving tools on {at}") };
        ui::out(&format!("{line}\n"));
    };
    autonomy_runtime::start(start, &ready).map_err(|reasons| Failure::refused(reasons, json))?;
    Ok(exit::DONE)
}

fn tools(args: &Args, state_root: &Path) -> Result<Tools, Failure> {
    let config = Config {
        domains: args.allow_domain.clone(),
        networks: args.allow_address.clone(),
        ca_file: args.ca_file.clone(),
        files: args.files.as_deref().map(|folder| outside(folder, state_root)).transpose()?,
        shell: args.shell.as_deref().map(|folder| outside(folder, state_root)).transpose()?,
    };
    Ok(Tools::new(config)?)
}

/// A folder for tools: it holds no part of the state root, and is none.
fn outside(folder: &Path, state_root: &Path) -> Result<PathBuf, Failure> {
    let absolute = folder.canonicalize().map_err(|error| Failure::io("use", folder, &error))?;
    if absolute.starts_with(state_root) || state_root.starts_with(&absolute) {
        let message = format!("{}: tools would reach the state root; give them a folder of their own", folder.display());
        return Err(Failure::Usage(message));
    }
    Ok(absolute)
}
