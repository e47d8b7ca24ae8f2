//! Tests of the state root: on the real file system, on the simulated disk, and of the one against the other.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers outside test functions fail the test that calls them")]

mod cache;
mod certificates;
mod crash;
mod equivalence;
mod facts;
mod fixture;
mod init;
mod lock;
mod objects;
mod place;
mod real;
mod root;
mod source;
