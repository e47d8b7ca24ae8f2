//! One exchange with a remote: its limits, what was received, and what went wrong first.

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::credentials::Places;
use crate::error::GitError;
use crate::options::{Environment, GitOptions};
use crate::roots::Roots;
use crate::url::GitUrl;

/// What libgit2 is told to connect to. The real URL never reaches it, so no setting of a git configuration (as
/// `url.*.insteadOf`) can bend it, and libgit2's own transports are never used.
pub(crate) const ADDRESS: &str = "autonomy-exchange://remote";
/// The scheme of [`ADDRESS`].
pub(crate) const SCHEME: &str = "autonomy-exchange";

thread_local! {
    /// The exchange that this thread is about to open: libgit2 hands a transport nothing but the remote's URL.
    static CURRENT: RefCell<Option<Arc<Exchange>>> = const { RefCell::new(None) };
}

/// Shared by the caller, libgit2's transport, and the threads that wait for the network.
pub(crate) struct Exchange {
    pub(crate) url: GitUrl,
    pub(crate) silence: Duration,
    pub(crate) environment: Environment,
    pub(crate) roots: Roots,
    pub(crate) places: Places,
    max_bytes: u64,
    received: AtomicU64,
    cancel: Option<Arc<AtomicBool>>,
    failure: Mutex<Option<GitError>>,
}

impl Exchange {
    pub(crate) fn new(url: &GitUrl, options: &GitOptions<'_>) -> Arc<Self> {
        Arc::new(Self {
            url: url.clone(),
            silence: options.silence,
            environment: options.environment.clone(),
            roots: Roots::of(options),
            places: Places::of(options),
            max_bytes: options.max_bytes,
            received: AtomicU64::new(0),
            cancel: options.cancel.clone(),
            failure: Mutex::new(None),
        })
    }

    /// Runs `connect` with this exchange as the one that the transport finds.
    pub(crate) fn while_current<T>(self: &Arc<Self>, connect: impl FnOnce() -> T) -> T {
        CURRENT.with(|current| *current.borrow_mut() = Some(Arc::clone(self)));
        let result = connect();
        CURRENT.with(|current| *current.borrow_mut() = None);
        result
    }

    /// The exchange that this thread opens.
    pub(crate) fn current() -> Option<Arc<Self>> {
        CURRENT.with(|current| current.borrow().clone())
    }

    /// Keeps the first failure, and gives what libgit2 is told.
    pub(crate) fn fail(&self, error: GitError) -> io::Error {
        let told = io::Error::other(error.to_string().replace('\0', " "));
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        told
    }

    /// What really went wrong when libgit2 said `source`.
    pub(crate) fn error(&self, action: &'static str, source: git2::Error) -> GitError {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.unwrap_or_else(|| GitError::Git { url: self.url.to_string(), action, source })
    }

    /// Counts what came; refuses what is beyond the cap.
    pub(crate) fn count(&self, bytes: usize) -> io::Result<()> {
        let bytes = bytes as u64;
        let before = self.received.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.max_bytes {
            return Err(self.fail(GitError::TooLarge {
                url: self.url.to_string(),
                what: "what the server sends".to_owned(),
                cap: format!("{} bytes", self.max_bytes),
            }));
        }
        Ok(())
    }

    /// Stops when the caller asked for it.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.cancel.as_ref().is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            return Err(self.fail(GitError::Cancelled { url: self.url.to_string() }));
        }
        Ok(())
    }
}
