//! A real registry, and servers that misbehave.
#![expect(clippy::expect_used, reason = "a failed helper fails its test")]

mod real;
mod rogue;
