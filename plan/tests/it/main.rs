//! The plan from outside: tables, laws, recorded text.
#![expect(clippy::unwrap_used, reason = "a failed helper fails its test")]

mod binding;
mod fixture;
mod laws;
mod prechecks;
mod rebuild;
mod recorded;
mod steps;
