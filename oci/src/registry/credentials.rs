//! User names and passwords, from docker's config file and the helpers that it names.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::error::RegistryError;

const MAX_CONFIG_BYTES: usize = 1 << 20;
const MAX_HELPER_BYTES: usize = 64 << 10;
const HELPER_PATIENCE: Duration = Duration::from_secs(15);

/// What opens the registry. There is no `Debug`: it would end up in a log.
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) secret: Zeroizing<String>,
    /// The secret is a refresh token.
    pub(crate) identity: bool,
    pub(crate) from: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: std::collections::BTreeMap<String, Entry>,
    cred_helpers: std::collections::BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Zeroizing<String>,
    identitytoken: Zeroizing<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: Zeroizing<String>,
}

/// The file that docker reads.
pub(crate) fn default_file() -> Option<PathBuf> {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker")));
    folder.map(|folder| folder.join("config.json"))
}

/// The credentials for `host`; helpers are looked for in `helpers` first, then on the PATH.
pub(crate) fn find(file: &Path, helpers: Option<&Path>, host: &str) -> Result<Option<Credentials>, RegistryError> {
    let problem = |problem: String| RegistryError::File { path: file.to_path_buf(), problem };
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(problem(format!("cannot be read: {error}"))),
    };
    let mode = opened.metadata().map_err(|error| problem(error.to_string()))?.permissions().mode();
    // As large as it may get, so that no copy of a secret is left behind where it grew.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_CONFIG_BYTES + 1));
    opened.take(MAX_CONFIG_BYTES as u64 + 1).read_to_end(&mut text).map_err(|error| problem(error.to_string()))?;
    if text.len() > MAX_CONFIG_BYTES {
        return Err(problem(format!("is larger than {MAX_CONFIG_BYTES} bytes")));
    }
    // The parser's own message could show a secret.
    let config: Config = serde_json::from_slice(&text)
        .map_err(|error| problem(format!("is not docker's config, line {}", error.line())))?;
    if let Some(name) = config.cred_helpers.get(host).or(config.creds_store.as_ref())
        && let Some(found) = ask(name, helpers, host)?
    {
        return Ok(Some(found));
    }
    let Some((_, entry)) = config.auths.iter().find(|(key, _)| place(key) == host) else { return Ok(None) };
    if entry.auth.is_empty() && entry.identitytoken.is_empty() {
        return Ok(None);
    }
    if mode & 0o077 != 0 {
        return Err(problem(format!("holds a password and is open to others (mode {:04o}); chmod 600", mode & 0o7777)));
    }
    let from = format!("`{}`", file.display());
    if !entry.identitytoken.is_empty() {
        let secret = entry.identitytoken.clone();
        return Ok(Some(Credentials { user: "<token>".to_owned(), secret, identity: true, from }));
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(entry.auth.as_bytes()).ok().map(Zeroizing::new);
    let login =
        bytes.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()).and_then(|text| text.split_once(':'));
    let Some((user, secret)) = login else {
        return Err(problem(format!("has an `auth` for {host} that is not base64 of USER:PASSWORD")));
    };
    let secret = Zeroizing::new(secret.trim_end_matches('\0').to_owned());
    Ok(Some(Credentials { user: user.to_owned(), secret, identity: false, from }))
}

/// `HOST[:PORT]` of a key, which may be a whole address.
fn place(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

/// Runs a helper. One that knows nothing says so with a status and is no error.
fn ask(name: &str, folder: Option<&Path>, host: &str) -> Result<Option<Credentials>, RegistryError> {
    let problem = |problem: String| RegistryError::Helper { name: super::error::shown(name), problem };
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err(problem("has a name with other characters than a-z, 0-9 and `-`".to_owned()));
    }
    let program = format!("docker-credential-{name}");
    let program = folder.map(|folder| folder.join(&program)).filter(|path| path.exists()).unwrap_or(program.into());
    let mut command = Command::new(program);
    let command = command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| problem(format!("does not start: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read it fails by its status.
        let _written = stdin.write_all(host.as_bytes());
    }
    let (sender, receiver) = mpsc::channel();
    let stdout = child.stdout.take();
    std::thread::spawn(move || {
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_HELPER_BYTES + 1));
        let read = stdout.map_or(Ok(0), |stdout| stdout.take(MAX_HELPER_BYTES as u64 + 1).read_to_end(&mut text));
        let _gone = sender.send(read.map(|_| text));
    });
    let since = Instant::now();
    let answer = receiver.recv_timeout(HELPER_PATIENCE);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if answer.is_ok() && since.elapsed() < HELPER_PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(None) | Err(_) => break None,
        }
    };
    let (Some(status), Ok(Ok(text))) = (status, answer) else {
        let _killed = child.kill();
        let _reaped = child.wait();
        return Err(problem(format!("did not answer within {} seconds", HELPER_PATIENCE.as_secs())));
    };
    if !status.success() {
        return Ok(None);
    }
    let answer = (text.len() <= MAX_HELPER_BYTES).then(|| serde_json::from_slice::<Answer>(&text).ok()).flatten();
    let answer =
        answer.ok_or_else(|| problem("answered with something else than a user name and a secret".to_owned()))?;
    let identity = answer.username == "<token>";
    let from = format!("the credential helper `docker-credential-{name}`");
    Ok(Some(Credentials { user: answer.username, secret: answer.secret, identity, from }))
}
