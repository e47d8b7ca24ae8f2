//! Sets from real repositories: made by git, damaged by hand, served by nginx with git's own backend and by sshd.

#![expect(clippy::expect_used, reason = "the helpers of tests may panic, as tests do")]

mod damage;
mod fixture;
mod https;
mod limits;
mod local;
mod servers;
mod ssh;
mod workspace;
