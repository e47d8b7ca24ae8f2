//! Formats, documents and the corpus of invalid documents.

mod formats;
