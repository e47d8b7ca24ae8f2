//! Where sets come from (DESIGN §12): what a source is called, what it points to now, and the set itself.

use std::path::{Path, PathBuf};

use autonomy_schema::{Blake3, Reasons, document, set};
use autonomy_stateroot::{DirSet, SetSource};

use crate::judge::peek;

/// A source that can be looked at again and again.
#[derive(Debug, Clone)]
pub enum Source {
    /// A folder.
    Folder(PathBuf),
}

impl Source {
    /// Reads what the operator wrote. Nothing is opened.
    pub fn parse(text: &str) -> Result<Self, Reasons> {
        Ok(Self::Folder(PathBuf::from(text)))
    }

    /// Whether something must be fetched before the set can be read.
    pub fn fetches(&self) -> bool {
        match self {
            Self::Folder(_) => false,
        }
    }

    /// What the source points to now, without reading the set: it changes when the set does.
    pub fn tip(&self) -> Result<String, Reasons> {
        match self {
            Self::Folder(path) => {
                let set = folder(path)?;
                let mut seen = peek(&set, set::MANIFEST, document::MAX_DOCUMENT_BYTES as u64);
                seen.extend(peek(&set, set::MANIFEST_SIGNATURES, set::MAX_SIGNATURES_BYTES));
                Ok(Blake3::of(&seen).to_string())
            }
        }
    }

    /// Opens the set. `workspace` is a folder of the caller's for what must be fetched first.
    pub fn open(&self, _workspace: &Path) -> Result<Box<dyn SetSource>, Reasons> {
        match self {
            Self::Folder(path) => Ok(Box::new(folder(path)?)),
        }
    }
}

fn folder(path: &Path) -> Result<DirSet, Reasons> {
    DirSet::open(path).map_err(|error| error.to_reason().into())
}
