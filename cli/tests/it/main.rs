//! The verbs, through the binary, as scripts meet them.
#![expect(clippy::expect_used, reason = "a failed helper fails its test")]

mod authoring;
mod world;
