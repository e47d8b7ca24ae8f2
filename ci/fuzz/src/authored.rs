//! YAML as people write it.

use autonomy_schema::author::{self, AuthoredManifest, Located};
use autonomy_schema::node::Node;
use autonomy_schema::relay;
use autonomy_schema::version::Kind;

use crate::told;

/// A byte that no text holds: it parts a base from its overlay.
const PART: u8 = 0xff;

/// A base, or a base and an overlay, as `render` reads them; and the two other files that people write.
pub(crate) fn authored(bytes: &[u8]) -> bool {
    let mut parts = bytes.splitn(2, |byte| *byte == PART);
    let texts: Vec<&[u8]> = parts.by_ref().collect();
    let read = |texts: &[&[u8]]| {
        let mut located = texts.iter().map(|text| Located::parse_bytes("manifest.yaml", text));
        let mut merged = located.next().expect("splitn gives one at least")?;
        for overlay in located {
            merged = merged.merged(overlay?);
        }
        let manifest = merged.decode::<AuthoredManifest>(Kind::StateManifest)?;
        let reasons = author::check(&manifest).expect("what was read has a canonical form");
        if reasons.is_empty() { Ok(()) } else { Err(merged.locate(reasons)) }
    };
    let accepted = match read(&texts) {
        Ok(()) => true,
        Err(diagnostics) => {
            told::diagnostics(&diagnostics, &texts);
            false
        }
    };
    let others = std::str::from_utf8(bytes).is_ok_and(|text| {
        let node = author::parse_plain::<Node>("node.yaml", text);
        if let Err(diagnostics) = &node {
            told::diagnostics(diagnostics, &[bytes]);
        }
        node.is_ok() | relay::local_keys(text).is_ok_and(|keys| !keys.is_empty())
    });
    accepted | others
}
