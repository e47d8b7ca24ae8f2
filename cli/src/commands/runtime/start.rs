//! `autonomy runtime start`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use autonomy_runtime::tools::{Config, Domain, Network, Tools};
use autonomy_runtime::{Demand, Listen, LockFile, Start, TlsFiles, Token};
use autonomy_schema::Code;
use autonomy_schema::document::MAX_DOCUMENT_BYTES;
use clap::ArgAction;
use serde_json::json;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{Output, SignedFile};
use crate::{files, node, ui};

/// Largest token file.
const MAX_TOKEN_BYTES: u64 = 4 << 10;
/// Largest file of certificates or keys.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// Serve tools over HTTP; the policy of the active generation decides every call.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to listen. Beyond loopback a token, or certificates of clients, are demanded.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7777")]
    listen: SocketAddr,
    /// Listen on a Unix socket instead, which is for the user alone that runs this.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["listen", "tls_cert"])]
    unix_socket: Option<PathBuf>,
    /// A file (mode 0600) with the token that callers must show: `Authorization: Bearer …`.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The server's certificate (PEM), then its intermediates.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM, mode 0600).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Certificates (PEM) of the CAs whose clients are let in; nobody else is.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    client_ca: Option<PathBuf>,
    /// Serve only when a signed lock binds agent and policy.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    require_lock: bool,
    /// Start only when there is a policy; without one every call is denied.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    require_policy: bool,
    /// The signed lock that binds agent and policy on a node without generations; its `.sigstore.jsonl` lies beside it.
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
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
    guarded(args)?;
    let tools = tools(args, &path)?;
    let demand = Demand { require_lock: args.require_lock, require_policy: args.require_policy, lock: lock(args)? };
    let start = Start {
        root,
        demand,
        listen: args.unix_socket.clone().map_or(Listen::Tcp(args.listen), Listen::Unix),
        tls: tls(args)?,
        token: token(args)?,
        tools,
        redact: args.redact.clone(),
        rate: args.rate,
    };
    let json = args.output == Output::Json;
    let ready = |at: &str| {
        let line = if json {
            json!({ "listen": at, "pid": std::process::id() }).to_string()
        } else {
            format!("serving tools on {at}")
        };
        ui::out(&format!("{line}\n"));
    };
    autonomy_runtime::start(start, &ready).map_err(|reasons| Failure::refused(reasons, json))?;
    Ok(exit::DONE)
}

/// Beyond loopback everybody can ask, so callers must prove who they are.
fn guarded(args: &Args) -> Result<(), Failure> {
    if args.unix_socket.is_some() || args.listen.ip().is_loopback() || args.client_ca.is_some() {
        return Ok(());
    }
    if args.token_file.is_none() {
        let what = "give --token-file, or --tls-cert, --tls-key and --client-ca";
        return Err(Failure::Usage(format!("{} is beyond loopback: {what}", args.listen)));
    }
    if args.tls_cert.is_none() {
        ui::warn(Some("the token travels unencrypted beyond loopback; --tls-cert and --tls-key hide it"));
    }
    Ok(())
}

fn lock(args: &Args) -> Result<Option<LockFile>, Failure> {
    let Some(path) = &args.lock else { return Ok(None) };
    let SignedFile { bytes, signatures } = node::signed_file(path, MAX_DOCUMENT_BYTES as u64)?;
    Ok(Some(LockFile { bytes, signatures }))
}

fn token(args: &Args) -> Result<Option<Token>, Failure> {
    let Some(path) = &args.token_file else { return Ok(None) };
    let bytes = files::read_private(path, MAX_TOKEN_BYTES, Code::KeyExposed)?;
    let token = std::str::from_utf8(&bytes).ok().and_then(Token::new);
    let wrong = || {
        Failure::because(
            Code::WrongKey,
            format!("{}: a token has 16 printable ASCII characters or more", path.display()),
        )
    };
    token.map(Some).ok_or_else(wrong)
}

fn tls(args: &Args) -> Result<Option<TlsFiles>, Failure> {
    let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) else { return Ok(None) };
    let client_ca = args.client_ca.as_deref().map(|path| files::read(path, MAX_PEM_BYTES)).transpose()?;
    let key = files::read_private(key, MAX_PEM_BYTES, Code::KeyExposed)?;
    Ok(Some(TlsFiles { certificate: files::read(certificate, MAX_PEM_BYTES)?, key, client_ca }))
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
        let message =
            format!("{}: tools would reach the state root; give them a folder of their own", folder.display());
        return Err(Failure::Usage(message));
    }
    Ok(absolute)
}
