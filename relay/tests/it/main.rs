//! The state machine: tables, recordings, properties, and a fleet of machines.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failed helper fails its test")]
#![expect(clippy::disallowed_methods, reason = "recordings are files; the seed of a fleet is told and can be given")]
#![expect(clippy::print_stdout, reason = "the seed of a fleet is told")]
#![expect(clippy::similar_names, reason = "`set` and `sent` are what they are")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at the outputs that it is about")]

mod bucket;
mod evict;
mod exhaustion;
mod fleet;
mod law;
mod machine;
mod pack;
mod properties;
mod replay;
mod world;
