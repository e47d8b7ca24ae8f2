//! A set under way as a source: its documents in `edge/sets/`, its payloads wherever they are by now.

use std::collections::BTreeMap;
use std::io::Read;

use autonomy_schema::RelPath;
use autonomy_stateroot::{FileKind, SetSource, SourceError, SourceFile, SourceKind, StateRoot, durable};

/// The documents in a folder of the state root, and more files elsewhere in it.
pub(super) struct Received {
    root: StateRoot,
    base: RelPath,
    /// Names in the set, and where they lie in the state root.
    payloads: BTreeMap<String, RelPath>,
}

impl Received {
    pub(super) fn new(root: &StateRoot, base: RelPath, payloads: BTreeMap<String, RelPath>) -> Self {
        Self { root: root.clone(), base, payloads }
    }

    fn place(&self, path: &RelPath) -> RelPath {
        self.payloads.get(path.as_str()).cloned().unwrap_or_else(|| self.base.join(path))
    }

    fn file(&self, name: String, at: &RelPath) -> Result<Option<SourceFile>, SourceError> {
        let stat = self.root.disk().stat(at).map_err(|error| SourceError::stored(&name, error))?;
        Ok(stat.map(|stat| {
            let kind = match stat.kind {
                FileKind::File => SourceKind::File,
                FileKind::Symlink => SourceKind::Symlink,
                FileKind::Dir | FileKind::Other => SourceKind::Other,
            };
            SourceFile { path: name, kind, size: stat.size, identity: Some(stat.identity) }
        }))
    }
}

impl SetSource for Received {
    fn list(&self) -> Result<Vec<SourceFile>, SourceError> {
        let mut found = Vec::new();
        let mut todo = vec![self.base.clone()];
        while let Some(folder) = todo.pop() {
            let listed = self.root.disk().list(Some(&folder));
            for entry in listed.map_err(|error| SourceError::stored(folder.as_str(), error))? {
                let at = durable::child(&folder, &entry.name);
                let at = at.map_err(|error| SourceError::stored(folder.as_str(), error))?;
                if entry.kind == FileKind::Dir {
                    todo.push(at);
                    continue;
                }
                let name = at.as_str()[self.base.as_str().len() + 1..].to_owned();
                found.extend(self.file(name, &at)?);
            }
        }
        for (name, at) in &self.payloads {
            found.extend(self.file(name.clone(), at)?);
        }
        found.sort();
        Ok(found)
    }

    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, SourceError> {
        self.open_at(path, 0)
    }

    fn open_at(&self, path: &RelPath, offset: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        let opened = self.root.disk().open_at(&self.place(path), offset);
        opened.map_err(|error| SourceError::stored(path.as_str(), error))
    }

    fn describe(&self) -> String {
        format!("`{}`", self.base)
    }
}
