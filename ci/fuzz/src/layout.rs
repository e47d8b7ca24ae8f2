//! What lies on a medium: image layouts with their sets and packs, and the indices of trees.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use autonomy_oci::Layout;
use autonomy_oci::pack::read_table;
use autonomy_schema::manifest::TreeIndexRef;
use autonomy_schema::{Blake3, RelPath, Sha256, tree as trees};
use autonomy_stateroot::{SetSource, SourceError, SourceFile, SourceKind, Unfolded};

use crate::told;

/// Between the parts of an input.
const BETWEEN: &[u8] = b"\n%%\n";

/// A medium in memory.
#[derive(Clone)]
struct Memory(Arc<BTreeMap<String, Vec<u8>>>);

impl SetSource for Memory {
    fn list(&self) -> Result<Vec<SourceFile>, SourceError> {
        let file = |(path, bytes): (&String, &Vec<u8>)| SourceFile {
            path: path.clone(),
            kind: SourceKind::File,
            size: bytes.len() as u64,
            identity: None,
        };
        Ok(self.0.iter().map(file).collect())
    }

    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, SourceError> {
        let bytes = self.0.get(path.as_str()).ok_or_else(|| SourceError::Missing(path.to_string()))?;
        Ok(Box::new(Cursor::new(bytes.clone())))
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

/// The first part is the index, the others are blobs. A part may name a later one, whose digest no fuzzer guesses.
fn medium(bytes: &[u8]) -> Memory {
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(BETWEEN.len()).position(|window| window == BETWEEN).filter(|_| parts.len() < 16) {
        parts.push(&rest[..at]);
        rest = &rest[at + BETWEEN.len()..];
    }
    parts.push(rest);
    let mut files = BTreeMap::from([("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())]);
    let mut known: Vec<(String, String)> = Vec::new();
    for (at, part) in parts.iter().enumerate().rev() {
        let mut part = part.to_vec();
        // Texts alone: in other bytes nothing stands for anything.
        if let Ok(mut text) = String::from_utf8(part.clone()) {
            for (name, value) in known.iter().take(64) {
                text = text.replace(name, value);
            }
            part = text.into_bytes();
        }
        part.truncate(1 << 20);
        if at == 0 {
            files.insert("index.json".to_owned(), part);
        } else {
            let digest = Sha256::of(&part);
            known.push((format!("@d{at}"), digest.to_string()));
            known.push((format!("@s{at}"), part.len().to_string()));
            files.insert(format!("blobs/sha256/{}", digest.hex()), part);
        }
    }
    Memory(Arc::new(files))
}

/// A layout; whether it holds a set that is whole.
pub(crate) fn layout(bytes: &[u8]) -> bool {
    let medium = medium(bytes);
    let input = medium.0.values().map(Vec::len).sum::<usize>() + bytes.len();
    let layout = match Layout::on(Path::new("memory"), Box::new(medium)) {
        Ok(layout) => Arc::new(layout),
        Err(reasons) => {
            told::refusal(&reasons, input);
            return false;
        }
    };
    if let Err(reasons) = layout.check() {
        told::refusal(&reasons, input);
    }
    let mut accepted = false;
    for (_, set) in layout.sets().into_iter().chain(layout.trust()) {
        match set {
            Ok(set) => {
                accepted = true;
                for pack in set.packs() {
                    let Ok(bytes) = set.open_pack(pack, 0) else { continue };
                    read_table(bytes, pack.size, |_, length, offset| {
                        assert!(offset + u64::from(length) <= pack.size, "a segment beyond its pack");
                    })
                    .ok();
                }
                listed_can_be_read(&set);
                listed_can_be_read(&Unfolded::new(Box::new(set)));
            }
            Err(reasons) => told::refusal(&reasons, input),
        }
    }
    accepted
}

fn listed_can_be_read(set: &dyn SetSource) {
    let Ok(listed) = set.list() else { return };
    assert!(listed.is_sorted_by(|a, b| a.path < b.path), "a path twice: {listed:?}");
    for file in listed {
        let path = file.path.parse::<RelPath>().expect("a safe path is listed");
        let mut read = Vec::new();
        let source = set.open(&path).expect("what is listed opens");
        source.take(file.size.min(1 << 20) + 1).read_to_end(&mut read).expect("memory");
        assert!(read.len() as u64 <= file.size, "`{path}` has more than {} bytes", file.size);
    }
}

/// The index of a tree, pinned as it is, for a payload of the size that it adds up to or of ten bytes.
pub(crate) fn tree(bytes: &[u8]) -> bool {
    let pinned = TreeIndexRef { blake3: Blake3::of(bytes), digest: Sha256::of(bytes), size: bytes.len() as u64 };
    let size = match trees::parse(bytes, pinned, 10) {
        Ok(_) => 10,
        Err(trees::TreeError::Sum { sum, .. }) => sum,
        Err(error) => {
            told::sentences(&[error.to_reason("trees/x.jsonl")], bytes.len());
            return false;
        }
    };
    let entries = trees::parse(bytes, pinned, size).expect("with its own size it is right");
    assert!(entries.is_sorted_by(|a, b| a.path < b.path));
    assert_eq!(entries.iter().map(|entry| entry.size).sum::<u64>(), size);
    let written: Vec<u8> = entries.iter().flat_map(|entry| trees::line(entry).expect("writes")).collect();
    assert_eq!(written, bytes);
    true
}
