//! How a repository is reached, and how much of it is taken.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Most bytes received in one exchange: a set's files in git, packed. Hosts refuse files over 100 MiB anyway, and a
/// node's disk is small; larger artifacts belong into a registry.
pub const MAX_BYTES: u64 = 1024 * 1024 * 1024;
/// Most objects in one pack: ten times what a set may list, as other folders of the tree come along.
pub const MAX_OBJECTS: usize = 10 * autonomy_stateroot::source::MAX_ENTRIES;
/// Largest file that is read: libgit2 inflates a blob as a whole, so this much memory must be there.
pub const MAX_BLOB_BYTES: u64 = 256 * 1024 * 1024;
/// Largest tree object: [`MAX_OBJECTS`] entries with short names fit.
pub const MAX_TREE_BYTES: u64 = 64 * 1024 * 1024;
/// How long the other side may be silent: a server that counts objects says so every five seconds; a satellite link
/// that lost its sky is back within a minute or not soon.
pub const SILENCE: Duration = Duration::from_secs(60);

/// What of the process's environment matters to git. Read once, by [`Environment::of_process`]; tests give their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub xdg_config_home: Option<PathBuf>,
    /// `GIT_SSH_COMMAND`: a command line for ssh, split as a shell would, run without one.
    pub ssh_command: Option<String>,
    /// `GIT_SSH`: the program in the place of `ssh`.
    pub ssh: Option<PathBuf>,
    /// `GIT_SSL_CAINFO`: the file of trusted certificates.
    pub ca_info: Option<PathBuf>,
}

impl Environment {
    /// What the process was started with.
    pub fn of_process() -> Self {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            home: path("HOME"),
            xdg_config_home: path("XDG_CONFIG_HOME"),
            ssh_command: std::env::var("GIT_SSH_COMMAND").ok().filter(|value| !value.is_empty()),
            ssh: path("GIT_SSH"),
            ca_info: path("GIT_SSL_CAINFO"),
        }
    }
}

/// How a repository is reached, and how much of it is taken.
#[derive(Clone)]
pub struct GitOptions<'a> {
    /// Certificates (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// A file in the format of git-credential-store, instead of the user's own.
    pub credentials: Option<PathBuf>,
    /// Most bytes received in one exchange.
    pub max_bytes: u64,
    /// Most objects in one pack.
    pub max_objects: usize,
    /// Largest file that is read.
    pub max_blob_bytes: u64,
    /// How long the other side may be silent.
    pub silence: Duration,
    /// What of the environment matters.
    pub environment: Environment,
    /// Told how many bytes of the pack have come.
    pub progress: Option<&'a dyn Fn(u64)>,
    /// Set to true from another thread to stop; noticed within a quarter of a second.
    pub cancel: Option<Arc<AtomicBool>>,
}

impl Default for GitOptions<'_> {
    fn default() -> Self {
        Self {
            ca_file: None,
            credentials: None,
            max_bytes: MAX_BYTES,
            max_objects: MAX_OBJECTS,
            max_blob_bytes: MAX_BLOB_BYTES,
            silence: SILENCE,
            environment: Environment::of_process(),
            progress: None,
            cancel: None,
        }
    }
}

impl fmt::Debug for GitOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitOptions")
            .field("ca_file", &self.ca_file)
            .field("credentials", &self.credentials)
            .field("max_bytes", &self.max_bytes)
            .field("max_objects", &self.max_objects)
            .field("max_blob_bytes", &self.max_blob_bytes)
            .field("silence", &self.silence)
            .finish_non_exhaustive()
    }
}
