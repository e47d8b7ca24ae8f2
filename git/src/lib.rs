//! The address of a git repository in, a set out: the files below a folder of the commit that a ref points to.
//!
//! Floor 2: imports `schema` and `stateroot`. Invariants and the tests that guard them (in `tests/it/` where no other
//! place is named):
//!
//! - what is read hashes to its object id, in loose objects, packs and kept fetches (`damage`);
//! - nothing is received, inflated or listed without a cap, and what went beyond it is not kept (`limits`);
//! - no URL, message or log holds a secret, and credentials go to their own host alone (`url/tests.rs`, `https`);
//! - no part of a URL becomes an option of ssh or a command of the far side (`ssh.rs`, `url/tests.rs`);
//! - a local repository is never written, and nothing is checked out (`local`);
//! - a name that is both branch and tag moves no node (`local`, `https`);
//! - one `unsafe` block in the workspace, in `register.rs` (ADR 5, `ci/scan-prohibited`).
//!
//! Deliberately absent: deciding whether a set is trusted (`trust`, from the set's own signatures: git's transport and
//! its commit signatures are no substitute), pushing, submodules, LFS, credential helpers, history, `git` itself. The
//! exchange blocks: call it from a thread that may block, not from an async task.
//!
//! Start with [`GitUrl`], then [`fetch`] in `remote.rs`, then [`GitSet`]; the transports are below `transport.rs`.

mod credentials;
mod error;
mod exchange;
mod http;
mod local;
mod loose;
pub mod options;
mod pump;
mod register;
mod remote;
mod resolve;
mod roots;
mod set;
mod ssh;
mod transport;
mod url;
mod workspace;

pub use error::GitError;
pub use options::{Environment, GitOptions};
pub use remote::{fetch, tip};
pub use resolve::{BadCommitId, CommitId};
pub use set::GitSet;
pub use url::{GitUrl, MAX_URL_BYTES, UrlError};
