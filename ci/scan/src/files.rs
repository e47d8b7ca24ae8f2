//! Which files are scanned: what git tracks or would track; without git, everything but build output.

use std::path::{Path, PathBuf};

use crate::finding::{ScanError, run};

/// Larger files are data, not source; the caps of the product's own documents are below this.
const MAX_BYTES: u64 = 8 << 20;

/// A text file below the root.
pub(crate) struct SourceFile {
    /// Relative path with `/`.
    pub(crate) path: String,
    /// The content.
    pub(crate) text: String,
}

impl SourceFile {
    /// Whether this is Rust.
    pub(crate) fn is_rust(&self) -> bool {
        self.has_extension(&["rs"])
    }

    /// Whether this is code in any language, scripts without an extension included.
    pub(crate) fn is_code(&self) -> bool {
        self.has_extension(&["rs", "sh", "py", "js", "ts", "css", "html", "rego", "sql"])
            || self.path == "Makefile"
            || self.text.starts_with("#!")
    }

    fn has_extension(&self, extensions: &[&str]) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.rsplit_once('.').is_some_and(|(_, found)| extensions.contains(&found))
    }

    /// The text after `folder/`, if the file lies below it.
    pub(crate) fn below(&self, folder: &str) -> Option<&str> {
        self.path.strip_prefix(folder)?.strip_prefix('/')
    }
}

/// All text files below `root`, sorted.
pub(crate) fn collect(root: &Path) -> Result<Vec<SourceFile>, ScanError> {
    let mut paths = if root.join(".git").exists() { tracked(root)? } else { walked(root)? };
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let whole = root.join(&path);
        // Deleted but still in the index, or a link that leads elsewhere.
        let Ok(meta) = whole.symlink_metadata() else { continue };
        if !meta.is_file() || meta.len() > MAX_BYTES {
            continue;
        }
        let bytes = std::fs::read(&whole).map_err(|source| ScanError::Read { path: whole, source })?;
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(SourceFile { path, text });
        }
    }
    Ok(files)
}

fn tracked(root: &Path) -> Result<Vec<String>, ScanError> {
    let answer = run("git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"], root)?;
    let answer = String::from_utf8_lossy(&answer);
    Ok(answer.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

fn walked(root: &Path) -> Result<Vec<String>, ScanError> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        let read = |source| ScanError::Read { path: folder.clone(), source };
        for entry in std::fs::read_dir(&folder).map_err(read)? {
            let entry = entry.map_err(read)?;
            let path = entry.path();
            if entry.file_type().map_err(read)?.is_dir() {
                if !["target", ".git", "build"].iter().any(|skipped| path.ends_with(skipped)) {
                    open.push(path);
                }
            } else if let Ok(relative) = path.strip_prefix(root) {
                found.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    Ok(found)
}
