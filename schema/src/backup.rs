//! The list of what a backup holds (`backup.json`, the last entry of the archive). `docs/formats/backup.md` draws both.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::canonical::{self, CanonicalError};
use crate::digest::Blake3;
use crate::document::{Document, MAX_DERIVED_BYTES};
use crate::manifest::is_default;
use crate::path::{Mode, Name, RelPath};
use crate::reason::{Code, Reason};
use crate::time::Time;
use crate::version::{ApiVersion, Kind};

/// Most entries of a backup: a hundred generations of 10,000 files. The cap on the document binds earlier.
pub const MAX_ENTRIES: usize = 1_000_000;
/// As many reasons against entries are told; a hostile list may be wrong in every line.
const MAX_REASONS: usize = 20;

/// `backup.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// `autonomy/v1`.
    pub api_version: ApiVersion,
    /// `Backup`.
    pub kind: Kind,
    /// The node that was backed up.
    pub node_id: Name,
    /// Its fleet.
    pub fleet: Name,
    /// The tool that made it.
    pub tool_version: String,
    /// When, by the clock of the node.
    pub created_at: Time,
    /// Highest serial per stream that the node had seen; for people, the floors themselves are among the entries.
    #[serde(default, skip_serializing_if = "is_default")]
    pub floors: BTreeMap<Name, u64>,
    /// Everything in the archive, sorted by path, without `backup.json` itself.
    pub entries: Vec<BackupEntry>,
    /// BLAKE3 over the canonical JSON of this document without this field: no byte of it can change unseen.
    pub fingerprint: Blake3,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EntryType {
    /// A regular file, also one that the archive holds as a hard link.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupEntry {
    /// Where it lies below the state root.
    pub path: RelPath,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: EntryType,
    /// Permission bits of a file or folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Bytes of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// BLAKE3 of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<Blake3>,
    /// Text of a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

impl BackupEntry {
    /// What is wrong with the fields of this entry alone.
    fn problem(&self) -> Option<&'static str> {
        let has = (self.mode.is_some(), self.size.is_some(), self.blake3.is_some(), self.target.is_some());
        match (self.kind, has) {
            (EntryType::File, (true, true, true, false))
            | (EntryType::Folder, (true, false, false, false))
            | (EntryType::Symlink, (false, false, false, true)) => None,
            (EntryType::File, _) => Some("a file has `mode`, `size` and `blake3`, and nothing else"),
            (EntryType::Folder, _) => Some("a folder has `mode`, and nothing else"),
            (EntryType::Symlink, _) => Some("a symlink has `target`, and nothing else"),
        }
    }
}

impl Backup {
    /// Puts the fingerprint in.
    pub fn seal(mut self) -> Result<Self, CanonicalError> {
        self.fingerprint = self.computed_fingerprint()?;
        Ok(self)
    }

    /// The fingerprint that the other fields give.
    pub fn computed_fingerprint(&self) -> Result<Blake3, CanonicalError> {
        let mut value = serde_json::to_value(self).unwrap_or(Value::Null);
        if let Value::Object(fields) = &mut value {
            fields.remove("fingerprint");
        }
        canonical::fingerprint(&value)
    }

    fn wrong_entries(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let mut before: Option<&RelPath> = None;
        for entry in &self.entries {
            let unsorted = before.is_some_and(|before| *before >= entry.path);
            before = Some(&entry.path);
            let order = unsorted.then_some("it is not after the entry before it; entries are sorted and occur once");
            if let Some(why) = entry.problem().or(order) {
                reasons.push(Reason::new(Code::BadValue, format!("`entries`: `{}`: {why}", entry.path)));
            }
            if reasons.len() == MAX_REASONS {
                break;
            }
        }
        reasons
    }
}

impl Document for Backup {
    const KIND: Kind = Kind::Backup;
    const MAX_BYTES: usize = MAX_DERIVED_BYTES;

    fn validate(&self) -> Vec<Reason> {
        if self.entries.len() > MAX_ENTRIES {
            let message = format!("`entries` has {} items; at most {MAX_ENTRIES}", self.entries.len());
            return vec![Reason::new(Code::LimitExceeded, message)];
        }
        let mut reasons = self.wrong_entries();
        match self.computed_fingerprint() {
            Ok(computed) if computed == self.fingerprint => {}
            Ok(computed) => {
                let message = format!("the backup's `fingerprint` is {}; its fields give {computed}", self.fingerprint);
                reasons.push(Reason::new(Code::DigestMismatch, message));
            }
            Err(error) => reasons.push(Reason::new(Code::BadValue, error.to_string())),
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: EntryType) -> BackupEntry {
        let file = kind == EntryType::File;
        BackupEntry {
            path: path.parse().expect("path"),
            kind,
            mode: (kind != EntryType::Symlink).then_some(Mode::PRIVATE),
            size: file.then_some(3),
            blake3: file.then(|| Blake3::of(b"one")),
            target: (kind == EntryType::Symlink).then(|| "generations/1-x-1".to_owned()),
        }
    }

    fn backup(entries: Vec<BackupEntry>) -> Backup {
        Backup {
            api_version: ApiVersion::default(),
            kind: Kind::Backup,
            node_id: Name::fixed("node-a"),
            fleet: Name::fixed("harbor"),
            tool_version: "0.1.0".to_owned(),
            created_at: Time::from_unix(0),
            floors: BTreeMap::new(),
            entries,
            fingerprint: Blake3::of(b""),
        }
        .seal()
        .expect("canonical")
    }

    fn codes(backup: &Backup) -> Vec<Code> {
        backup.validate().into_iter().map(|reason| reason.code).collect()
    }

    #[test]
    fn a_backup_list_is_sorted_sealed_and_says_what_each_entry_is() {
        use EntryType::{File, Folder, Symlink};
        let good = vec![entry("current", Symlink), entry("trust", Folder), entry("trust/root.json", File)];
        assert_eq!(codes(&backup(good.clone())), []);
        let mut reversed = good.clone();
        reversed.reverse();
        assert_eq!(codes(&backup(reversed)), [Code::BadValue, Code::BadValue]);
        assert_eq!(codes(&backup(vec![good[0].clone(), good[0].clone()])), [Code::BadValue], "twice");
        let mut changed = backup(good.clone());
        changed.tool_version = "0.1.1".to_owned();
        assert_eq!(codes(&changed), [Code::DigestMismatch]);
        for spoil in [
            |entry: &mut BackupEntry| entry.mode = None,
            |entry: &mut BackupEntry| entry.size = None,
            |entry: &mut BackupEntry| entry.blake3 = None,
            |entry: &mut BackupEntry| entry.target = Some("x".to_owned()),
        ] {
            let mut file = good[2].clone();
            spoil(&mut file);
            assert_eq!(codes(&backup(vec![file])), [Code::BadValue]);
        }
    }
}
