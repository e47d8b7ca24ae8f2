//! The small words of documents: what is read is shown as it was written, and read again as the same.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use autonomy_schema::manifest::semver_text::Version;
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Code, Duration, Mode, Name, RelPath, Sha256, Time, generation, set};

/// One word as everything that it could be.
pub(crate) fn words(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    if let Ok(path) = text.parse::<RelPath>() {
        let safe = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\0', '\\', '\n']);
        assert!(!text.starts_with('/') && text.split('/').all(safe), "{text:?} is a path");
        assert_eq!(path.components().collect::<Vec<_>>().join("/"), text);
    }
    if let Ok(name) = text.parse::<Name>() {
        assert!(!text.contains(['/', '\0', '\n', ' ']) && !text.starts_with(['.', '-']), "{text:?} is a name");
        generation::number_of(&name, 1, Blake3::of(b""));
    }
    if set::is_root_file(text) {
        assert!(text.parse::<RelPath>().is_ok(), "{text:?} is a file of a set");
    }
    let read = [
        same::<RelPath>(text),
        same::<Name>(text),
        same::<Blake3>(text),
        same::<Sha256>(text),
        same::<Time>(text),
        same::<Mode>(text),
        same::<ApiVersion>(text),
        same::<Code>(text),
        stable::<Duration>(text),
        stable::<Version>(text),
        Kind::ALL.iter().any(|kind| kind.as_str() == text),
    ];
    read.contains(&true)
}

/// A type with one spelling for each value.
fn same<T: FromStr + Display>(text: &str) -> bool {
    let Ok(value) = text.parse::<T>() else { return false };
    assert_eq!(value.to_string(), text);
    true
}

/// A type with several spellings, one of which is written.
fn stable<T: FromStr + Display + PartialEq + Debug>(text: &str) -> bool {
    let Ok(value) = text.parse::<T>() else { return false };
    let shown = value.to_string();
    assert_eq!(shown.parse::<T>().ok().as_ref(), Some(&value), "{shown:?}");
    true
}
