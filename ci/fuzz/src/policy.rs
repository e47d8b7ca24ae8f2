//! Policy bundles.

use std::collections::BTreeMap;
use std::io::Write as _;

use autonomy_policy::{BuildOptions, Bundle};
use autonomy_schema::{RelPath, Time};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::told;

/// Parts the files of a bundle that is to be built; no text holds it.
const FILE: u8 = 0xff;
/// Parts a file's path from its content.
const PATH: u8 = 0xfe;

/// The bytes as an archive; and, since a fuzzer cannot mend a checksum, as the tar within one.
pub(crate) fn archive(bytes: &[u8]) -> bool {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).expect("memory");
    load(bytes) | load(&packed.finish().expect("memory"))
}

fn load(bytes: &[u8]) -> bool {
    match Bundle::load(bytes) {
        Ok(bundle) => {
            assert_eq!(bundle.digest(), autonomy_schema::Sha256::of(bytes));
            assert_eq!(Bundle::load(bytes).ok(), Some(bundle));
            true
        }
        Err(error) => {
            told::refusal(&error.to_reason().into(), bytes.len());
            false
        }
    }
}

/// Files as `policy build` reads them from a folder. What is built loads, and is built again as the same bytes.
pub(crate) fn build(bytes: &[u8]) -> bool {
    let mut files: BTreeMap<RelPath, Vec<u8>> = BTreeMap::new();
    for file in bytes.split(|byte| *byte == FILE) {
        let mut parts = file.splitn(2, |byte| *byte == PATH);
        let path = parts.next().and_then(|path| std::str::from_utf8(path).ok()).and_then(|path| path.parse().ok());
        if let (Some(path), Some(content)) = (path, parts.next()) {
            files.insert(path, content.to_vec());
        }
    }
    let options = BuildOptions {
        name: "fuzz".parse().expect("a name"),
        version: "1.0.0".parse().expect("a version"),
        required_runtime_version: None,
        created_at: Time::EPOCH,
    };
    let Ok(packed) = autonomy_policy::build(&files, &options) else { return false };
    let bundle = Bundle::load(&packed).unwrap_or_else(|error| panic!("built, and not loaded: {error}"));
    assert!(!bundle.modules().is_empty());
    assert_eq!(autonomy_policy::build(&files, &options).ok(), Some(packed));
    true
}
