//! Makes libgit2 know our transport. The one place with `unsafe` in the workspace (ADR 5).

use std::sync::OnceLock;

use crate::{exchange, transport};

/// Registers the transport, once in a process.
pub(crate) fn transports() -> Result<(), git2::Error> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    let done = DONE.get_or_init(|| {
        // libgit2's default, said again because the proof of every read rests on it: an object whose bytes do not
        // hash to its id is an error, not data. The switch is the process's.
        git2::opts::strict_hash_verification(true);
        #[expect(
            unsafe_code,
            reason = "`register` must not run beside the creation of another transport: this crate creates none \
                      before `DONE` is set, `OnceLock` lets one thread in and the others wait, and no other crate of \
                      the workspace uses git2 (ci/scan keeps `unsafe` out of every other file)"
        )]
        // SAFETY: see the reason above.
        unsafe { git2::transport::register(exchange::SCHEME, transport::create) }.map_err(|error| error.to_string())
    });
    done.as_ref().map(|_done| ()).map_err(|message| git2::Error::from_str(message))
}
