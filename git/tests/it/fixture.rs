//! Repositories made by the git command line.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use autonomy_git::{Environment, GitError, GitOptions, GitSet, GitUrl, fetch};
use autonomy_stateroot::{SetSource, SourceError, SourceKind};
use tempfile::TempDir;

/// A repository with a work tree, in a folder of its own.
pub(crate) struct Repo {
    pub(crate) dir: TempDir,
}

impl Repo {
    /// On branch `main`, without a commit.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let repo = Self { dir };
        std::fs::create_dir(repo.path()).expect("mkdir");
        repo.git(&["init", "--quiet", "--initial-branch=main"]);
        repo
    }

    /// With one commit that holds [`FILES`].
    pub(crate) fn with_set() -> Self {
        let repo = Self::empty();
        for (path, content) in FILES {
            repo.write(path, content.as_bytes());
        }
        repo.commit("first");
        repo
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("fleet")
    }

    pub(crate) fn write(&self, path: &str, content: &[u8]) {
        let whole = self.path().join(path);
        std::fs::create_dir_all(whole.parent().expect("a parent")).expect("mkdir");
        std::fs::write(whole, content).expect("write");
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(&self.path(), args, b"")
    }

    /// Commits all; gives the id.
    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.head()
    }

    pub(crate) fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    pub(crate) fn url(&self, query: &str) -> GitUrl {
        url(&format!("git+file://{}{query}", self.path().display()))
    }

    /// Writes an object of any form; gives its id.
    pub(crate) fn object(&self, kind: &str, bytes: &[u8]) -> String {
        git(&self.path(), &["hash-object", "-t", kind, "--literally", "-w", "--stdin"], bytes)
    }

    /// Commits a tree on `main`.
    pub(crate) fn commit_tree(&self, tree: &str) {
        let commit = self.git(&["commit-tree", "-m", "raw", tree]);
        self.git(&["update-ref", "refs/heads/main", &commit]);
    }

    pub(crate) fn loose(&self, id: &str) -> PathBuf {
        self.path().join(".git/objects").join(&id[..2]).join(&id[2..])
    }
}

/// What [`Repo::with_set`] holds.
pub(crate) const FILES: &[(&str, &str)] = &[
    ("README", "a fleet\n"),
    ("dist/pier-7/artifacts/bin/agent", "#!/bin/sh\necho agent\n"),
    ("dist/pier-7/manifest.json", "{}"),
];

/// A line of a raw tree object.
pub(crate) fn entry(mode: &str, name: &[u8], id: &str) -> Vec<u8> {
    let id: Vec<u8> = (0..20).map(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).expect("hex")).collect();
    [mode.as_bytes(), b" ", name, b"\0", &id].concat()
}

/// Runs git without any configuration of the machine; gives its output without the last newline.
pub(crate) fn git(folder: &Path, args: &[&str], input: &[u8]) -> String {
    let (ok, output) = try_git(folder, args, input);
    assert!(ok, "git {args:?}: {output}");
    output
}

pub(crate) fn try_git(folder: &Path, args: &[&str], input: &[u8]) -> (bool, String) {
    let mut child = Command::new("git")
        .args(["-c", "protocol.file.allow=always"])
        .args(args)
        .current_dir(folder)
        .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_SYSTEM", "/dev/null")])
        .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@b"), ("GIT_COMMITTER_NAME", "a")])
        .envs([("GIT_COMMITTER_EMAIL", "a@b"), ("LC_ALL", "C")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("git starts");
    child.stdin.take().expect("a pipe").write_all(input).expect("git reads");
    let output = child.wait_with_output().expect("git ends");
    let text = if output.status.success() { &output.stdout } else { &output.stderr };
    (output.status.success(), String::from_utf8_lossy(text).trim_end().to_owned())
}

pub(crate) fn url(text: &str) -> GitUrl {
    text.parse().expect(text)
}

/// Options that see nothing of the machine's user.
pub(crate) fn options() -> GitOptions<'static> {
    GitOptions { environment: Environment::default(), silence: Duration::from_secs(60), ..GitOptions::default() }
}

/// Opens a local set.
pub(crate) fn open(url: &GitUrl) -> Result<GitSet, GitError> {
    fetch(url, Path::new("/nonexistent/workspace"), &options())
}

/// The set as text, one line for each entry.
pub(crate) fn listed(set: &GitSet) -> Vec<String> {
    let kind = |kind| match kind {
        SourceKind::File => "file",
        SourceKind::Symlink => "link",
        SourceKind::Other => "other",
        SourceKind::BadName => "bad",
    };
    let entries = set.list().expect("lists");
    assert!(entries.is_sorted_by(|a, b| a.path <= b.path) && entries.iter().all(|entry| entry.identity.is_none()));
    entries.into_iter().map(|entry| format!("{} {} {}", kind(entry.kind), entry.path, entry.size)).collect()
}

pub(crate) fn content(set: &GitSet, path: &str) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    set.open(&path.parse().expect("a path"))?.read_to_end(&mut bytes).expect("in memory");
    Ok(bytes)
}

/// Bytes that do not compress; the same each time.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        bytes.extend(next());
    }
    bytes.truncate(count);
    bytes
}
