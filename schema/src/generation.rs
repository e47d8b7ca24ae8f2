//! How a generation is named: `<serial>-<first 12 digits of the manifest's fingerprint>-<n>`, n from 1.

use crate::digest::Blake3;
use crate::path::Name;

/// How the names of all generations of a manifest begin.
pub fn prefix(serial: u64, manifest: Blake3) -> String {
    format!("{serial}-{}-", manifest.short())
}

/// The number of a generation of this manifest; `None` when it is of another one.
pub fn number_of(generation: &Name, serial: u64, manifest: Blake3) -> Option<u64> {
    generation.as_str().strip_prefix(&prefix(serial, manifest))?.parse().ok()
}

/// Whether a generation's name has the digits of this manifest, whatever its serial.
pub fn has_short(generation: &Name, manifest: Blake3) -> bool {
    generation.as_str().split('-').nth(1) == Some(manifest.short().as_str())
}

/// Whether two generations are of one manifest, by their names: all but the number is the same.
pub fn are_same_manifest(one: &Name, other: &Name) -> bool {
    let of = |name: &Name| name.as_str().rsplit_once('-').map(|(manifest, _number)| manifest.to_owned());
    of(one).is_some_and(|manifest| of(other) == Some(manifest))
}

/// Whether a generation is of this manifest, by its name.
pub fn is_of(generation: &Name, serial: u64, manifest: Blake3) -> bool {
    number_of(generation, serial, manifest).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_whose_it_is() {
        let (one, two) = (Blake3::of(b"one"), Blake3::of(b"two"));
        let name = |text: String| text.parse::<Name>().expect("name");
        let generation = name(format!("{}7", prefix(4, one)));
        assert_eq!(number_of(&generation, 4, one), Some(7));
        assert!(!is_of(&generation, 4, two) && !is_of(&generation, 41, one));
        assert!(!is_of(&name(format!("{}x", prefix(4, one))), 4, one));
    }
}
