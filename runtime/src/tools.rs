//! The tools. Each runs a call that was allowed, within limits of its own; none looks at the policy again.

mod address;
mod echo;
mod file;
mod http_get;
mod shell;

use std::path::PathBuf;

use autonomy_schema::{Code, Reason};
use serde::Deserialize;
use serde_json::Value;

pub use address::Network;
pub use http_get::Domain;
pub use shell::{NOT_STARTED, OVER, TIMED_OUT, TOO_MUCH};

use crate::call::Permit;
use file::Files;
use http_get::HttpGet;
use shell::Shell;

const ECHO: &str = "tool.echo";
const FILE_READ: &str = "tool.file_read";
const FILE_WRITE: &str = "tool.file_write";
const HTTP_GET: &str = "tool.http_get";
const SHELL: &str = "tool.shell";

/// The tools that there are.
pub const KINDS: [&str; 5] = [ECHO, FILE_READ, FILE_WRITE, HTTP_GET, SHELL];

/// How the tools may be used. What is not configured fails, whatever the policy says.
#[derive(Debug, Default)]
pub struct Config {
    /// Hosts that `tool.http_get` may ask.
    pub domains: Vec<Domain>,
    /// Networks that it may reach although they are not public.
    pub networks: Vec<Network>,
    /// Certificates (PEM) that it trusts, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The folder of `tool.file_read` and `tool.file_write`.
    pub files: Option<PathBuf>,
    /// The folder that `tool.shell` runs commands in.
    pub shell: Option<PathBuf>,
}

/// The tools of this runtime, as they were configured.
#[derive(Debug)]
pub struct Tools {
    http_get: Option<HttpGet>,
    files: Option<Files>,
    shell: Option<Shell>,
}

impl Tools {
    /// Sets them up.
    pub fn new(config: Config) -> Result<Self, Reason> {
        let Config { domains, networks, ca_file, files, shell } = config;
        let http_get =
            if domains.is_empty() { None } else { Some(HttpGet::new(domains, networks, ca_file.as_deref())?) };
        Ok(Self { http_get, files: files.map(Files::new).transpose()?, shell: shell.map(Shell::new).transpose()? })
    }

    /// Whether there is a tool of this name.
    pub fn knows(kind: &str) -> bool {
        KINDS.contains(&kind)
    }

    /// The name of a tool as metrics have it, and whether it is over at once.
    pub(crate) fn named(kind: &str) -> (&'static str, bool) {
        let name = KINDS.into_iter().find(|name| *name == kind).unwrap_or("unknown");
        (name, name == ECHO)
    }

    /// Runs what was allowed, on the thread that calls. An error says why the tool could not do it.
    pub fn run(&self, permit: &Permit) -> Result<Value, Reason> {
        match permit.kind() {
            ECHO => Ok(echo::run(params(permit)?)),
            FILE_READ => configured(self.files.as_ref(), permit, "--files DIR")?.read(&params(permit)?),
            FILE_WRITE => configured(self.files.as_ref(), permit, "--files DIR")?.write(params(permit)?),
            HTTP_GET => configured(self.http_get.as_ref(), permit, "--allow-domain HOST")?.run(&params(permit)?),
            SHELL => configured(self.shell.as_ref(), permit, "--shell DIR")?.run(&params(permit)?),
            other => Err(Reason::new(Code::UnknownTool, format!("there is no tool `{}`", other.escape_debug()))),
        }
    }
}

fn configured<'a, T>(tool: Option<&'a T>, permit: &Permit, flag: &str) -> Result<&'a T, Reason> {
    tool.ok_or_else(|| {
        let message = format!("`{}` is not configured: start the runtime with `{flag}`", permit.kind());
        Reason::new(Code::ToolUnconfigured, message)
    })
}

/// Parameters as the tool's own type: nothing is missing, of another type, or unknown.
fn params<'a, T: Deserialize<'a>>(permit: &'a Permit) -> Result<T, Reason> {
    T::deserialize(permit.params()).map_err(|error| {
        Reason::new(Code::BadRequest, format!("the parameters of `{}` are not right: {error}", permit.kind()))
            .with_remedy("`docs/formats/runtime.md` lists each tool's parameters")
    })
}

/// Why a tool could not do what was allowed.
fn failed(message: String) -> Reason {
    Reason::new(Code::ToolFailed, message)
}
