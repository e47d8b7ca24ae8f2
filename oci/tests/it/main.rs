//! A real registry, and servers that misbehave.
#![allow(missing_docs, reason = "tests")]
