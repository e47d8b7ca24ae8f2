//! Formats, documents and the corpus of invalid documents.
#![expect(clippy::expect_used, clippy::panic, reason = "a failed helper fails its test")]

mod documents;
mod formats;
mod invalid;
