//! Git's protocol over the OpenSSH client. The only file of this crate that starts a process.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{GitError, shown};
use crate::exchange::Exchange;
use crate::options::Environment;
use crate::pump::Incoming;
use crate::transport::Way;
use crate::url::GitUrl;

/// How much of what ssh complains about is kept.
const COMPLAINT_BYTES: usize = 8 * 1024;
/// How long ssh may take to end after its output has ended.
const FAREWELL: Duration = Duration::from_secs(5);

/// One connection over ssh.
pub(crate) struct Ssh {
    exchange: Arc<Exchange>,
}

impl Ssh {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Arc<Self> {
        Arc::new(Self { exchange })
    }

    fn start(&self) -> Result<SshStream, GitError> {
        let url = self.exchange.url.to_string();
        let (program, first) = client(&self.exchange.environment)?;
        let failed =
            |source| GitError::Start { url: url.clone(), program: program.to_string_lossy().into_owned(), source };
        let mut child = Command::new(&program)
            .args(first)
            .args(arguments(&self.exchange.url))
            // What the far side says is read below, so it has to say it in English.
            .env("LC_ALL", "C")
            // libgit2 speaks version 0, whatever the caller's git is set to.
            .env_remove("GIT_PROTOCOL")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let child = Running(child);
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(failed(io::Error::other("no pipe to it")));
        };
        let complaint = Complaint::listen(stderr).map_err(failed)?;
        // Ends when ssh does, and `Running` ends that.
        let incoming = Incoming::start(&self.exchange, move || Ok(Box::new(stdout))).map_err(failed)?;
        Ok(SshStream { exchange: Arc::clone(&self.exchange), child, stdin: Some(stdin), incoming, complaint })
    }
}

impl Way for Ssh {
    type Stream = SshStream;

    fn list(self: &Arc<Self>) -> io::Result<SshStream> {
        self.start().map_err(|error| self.exchange.fail(error))
    }

    fn pack(self: &Arc<Self>) -> io::Result<SshStream> {
        Err(io::Error::other("over ssh the pack comes on the first stream"))
    }
}

/// The program and the arguments that the user put before ours.
fn client(environment: &Environment) -> Result<(OsString, Vec<String>), GitError> {
    if let Some(line) = &environment.ssh_command {
        let mut words = shlex::split(line).unwrap_or_default();
        if words.is_empty() {
            return Err(GitError::File {
                path: "GIT_SSH_COMMAND".into(),
                problem: "is not a command line".to_owned(),
                remedy: "check its quotes".to_owned(),
            });
        }
        let program = words.remove(0);
        return Ok((program.into(), words));
    }
    Ok((environment.ssh.clone().map_or_else(|| "ssh".into(), OsString::from), Vec::new()))
}

/// Ours: never a question to a terminal, no forwarding that a configuration may hold, and no host or user that could
/// be an option (`GitUrl` has refused those too).
fn arguments(url: &GitUrl) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["-T", "-o", "BatchMode=yes", "-o", "ClearAllForwardings=yes"].map(str::to_owned).to_vec();
    if let Some(port) = url.port {
        arguments.extend(["-p".to_owned(), port.to_string()]);
    }
    if let Some(user) = &url.user {
        arguments.extend(["-l".to_owned(), user.clone()]);
    }
    let host = url.host.trim_start_matches('[').trim_end_matches(']').to_owned();
    // As git does: `/~ops/x` is below the home of ops.
    let path = if url.repository.starts_with("/~") { &url.repository[1..] } else { url.repository.as_str() };
    arguments.extend(["--".to_owned(), host, format!("git-upload-pack {}", quoted(path))]);
    arguments
}

/// In single quotes for the shell of the far side, as git quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''").replace('!', "'\\!'"))
}

/// A child that does not outlive its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// What ssh writes to its standard error: the beginning is kept, the rest is drained.
struct Complaint {
    text: Arc<Mutex<Vec<u8>>>,
    ended: Receiver<()>,
}

impl Complaint {
    fn listen(mut stderr: ChildStderr) -> io::Result<Self> {
        let text = Arc::new(Mutex::new(Vec::new()));
        let (tell, ended) = sync_channel(1);
        let kept = Arc::clone(&text);
        std::thread::Builder::new().name("git-ssh-stderr".to_owned()).spawn(move || {
            let mut part = [0; 1024];
            while let Ok(count @ 1..) = stderr.read(&mut part) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                let room = COMPLAINT_BYTES.saturating_sub(kept.len());
                kept.extend_from_slice(&part[..count.min(room)]);
            }
            let _unheard = tell.send(());
        })?;
        Ok(Self { text, ended })
    }

    /// All of it, or what there is when a connection that outlives ssh (`ControlPersist`) keeps the pipe open.
    fn text(&self) -> String {
        let _open = self.ended.recv_timeout(Duration::from_secs(1));
        shown(&String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The conversation with `git-upload-pack` on the far side.
pub(crate) struct SshStream {
    exchange: Arc<Exchange>,
    child: Running,
    stdin: Option<ChildStdin>,
    incoming: Incoming,
    complaint: Complaint,
}

impl SshStream {
    /// Why the output ended: the protocol has its own end, so this one is always too early.
    fn ended(&mut self) -> io::Error {
        self.stdin = None;
        let since = Instant::now();
        let status = loop {
            match self.child.0.try_wait() {
                Ok(None) if since.elapsed() < FAREWELL => std::thread::sleep(Duration::from_millis(10)),
                Ok(Some(status)) => break status.to_string(),
                Ok(None) | Err(_) => break "still running".to_owned(),
            }
        };
        self.exchange.fail(judge(&self.exchange.url, &status, self.complaint.text()))
    }
}

/// What ssh or the far side complained about. The words are those of OpenSSH and git, which do not translate them
/// under `LC_ALL=C`; other words are shown as they are.
fn judge(url: &GitUrl, status: &str, complaint: String) -> GitError {
    let says = |words: &[&str]| words.iter().any(|word| complaint.contains(word));
    let url = url.to_string();
    if says(&["Host key verification failed", "HOST IDENTIFICATION HAS CHANGED"]) {
        return GitError::HostKey { url, detail: complaint };
    }
    if says(&["Permission denied (", "Too many authentication failures"]) {
        return GitError::Refused { url, detail: complaint };
    }
    if says(&["not appear to be a git repository", "not a git repository", "epository not found", "does not exist"]) {
        return GitError::NotFound { url, what: format!("there is no such repository: {complaint}") };
    }
    let detail = if complaint.is_empty() { "it said nothing".to_owned() } else { complaint };
    GitError::Unreachable { url, detail: format!("ssh ended ({status}): {detail}") }
}

impl Read for SshStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.incoming.read(into)? {
            0 if !into.is_empty() => Err(self.ended()),
            count => Ok(count),
        }
    }
}

impl Write for SshStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(stdin) = &mut self.stdin else { return Err(io::Error::other("the connection has ended")) };
        match stdin.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(self.ended()),
            other => other,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdin.as_mut().map_or(Ok(()), ChildStdin::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(url: &str) -> Vec<String> {
        arguments(&url.parse().expect("a URL"))
    }

    #[test]
    fn no_part_of_a_url_becomes_an_option_or_a_second_command() {
        let always = ["-T", "-o", "BatchMode=yes", "-o", "ClearAllForwardings=yes"];
        let with = |more: &[&'static str]| [&always[..], more].concat();
        assert_eq!(words("git+ssh://h/srv/x.git"), with(&["--", "h", "git-upload-pack '/srv/x.git'"]));
        assert_eq!(
            words("git+ssh://git@[::1]:2222/~ops/x"),
            with(&["-p", "2222", "-l", "git", "--", "::1", "git-upload-pack '~ops/x'"])
        );
        assert_eq!(
            words("git+ssh://h/a';reboot;'!"),
            with(&["--", "h", "git-upload-pack '/a'\\'';reboot;'\\'''\\!''"])
        );
    }

    #[test]
    fn the_client_is_named_as_git_names_it() {
        let mut environment = Environment::default();
        assert_eq!(client(&environment).ok(), Some(("ssh".into(), vec![])));
        environment.ssh = Some("/opt/my ssh".into());
        assert_eq!(client(&environment).ok(), Some(("/opt/my ssh".into(), vec![])));
        environment.ssh_command = Some("ssh -F '/etc/a b'".to_owned());
        assert_eq!(client(&environment).ok(), Some(("ssh".into(), vec!["-F".to_owned(), "/etc/a b".to_owned()])));
        environment.ssh_command = Some("ssh '".to_owned());
        assert!(client(&environment).is_err());
    }
}
