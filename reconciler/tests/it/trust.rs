//! Power cut at every counted verb while newer roots and a revocation list are imported.

use std::path::Path;

use autonomy_reconciler::{Imported, import_trust, load};
use autonomy_schema::manifest::Revoked;
use autonomy_schema::revocation::Revocation;
use autonomy_schema::root::TrustRoot;
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Document as _, Reasons, document};
use autonomy_stateroot::{DirSet, Image, SimDisk, StateRoot};

use crate::fixture::{Fleet, Recorder, actor, lines, state_root, time};

/// Roots 2 and 3; root 2 resets the time mark.
pub(crate) fn roots(fleet: &Fleet, folder: &Path) {
    std::fs::create_dir_all(folder).expect("folder");
    let mut root: TrustRoot = document::parse(&fleet.root).expect("root");
    for version in [2, 3] {
        root.version = version;
        root.reset_time_mark = (version == 2).then(|| time("2026-11-01T00:00:00Z"));
        write(fleet, &folder.join(format!("{version}.root.json")), &root.to_canonical().expect("canonical"));
    }
}

/// These, and a revocation list.
fn medium(fleet: &Fleet, folder: &Path) -> DirSet {
    roots(fleet, &folder.join("roots"));
    let revoked = Revoked { number: 1, manifests: vec![Blake3::of(b"x")], keys: Vec::new() };
    let (api_version, kind) = (ApiVersion::default(), Kind::Revocation);
    let list = Revocation { api_version, kind, revoked, reason: String::new() };
    write(fleet, &folder.join("revocation.json"), &list.to_canonical().expect("canonical"));
    DirSet::open(folder).expect("medium")
}

fn write(fleet: &Fleet, path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("file");
    let mut beside = path.as_os_str().to_owned();
    beside.push(".sigstore.jsonl");
    std::fs::write(beside, lines(&fleet.signers, bytes)).expect("file");
}

/// A node whose mark is far ahead.
fn poisoned(fleet: &Fleet) -> SimDisk {
    let disk = fleet.node();
    let root = state_root(&disk);
    let mut floors = root.floors().expect("floors").expect("there");
    floors.time_mark = Some(time("2090-01-01T00:00:00Z"));
    root.write_floors(&floors).expect("writes");
    disk
}

fn import(root: &StateRoot, medium: &DirSet) -> Result<Imported, Reasons> {
    import_trust(root, medium, &actor(), &Recorder::default())
}

#[test]
fn a_power_cut_at_every_verb_of_an_import_leaves_one_root_or_the_next_and_it_can_be_repeated() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().expect("folder");
    let medium = medium(&fleet, folder.path());
    let whole = poisoned(&fleet);
    let before = whole.verbs();
    let imported = import(&state_root(&whole), &medium).expect("imports");
    assert_eq!((imported.pinned, imported.version, imported.revocation), (vec![2, 3], 3, Some(1)));
    let verbs = whole.verbs() - before;
    assert!(verbs > 20, "{verbs}");
    let start = poisoned(&fleet);
    for verb in 1..=verbs {
        for image in Image::EACH {
            let disk = start.crash(Image::All);
            disk.stop_at(disk.verbs() + verb);
            // The result is not looked at: a warning about the last records is a success.
            import(&state_root(&disk), &medium).ok();
            let survivor = disk.crash(image);
            let root = state_root(&survivor);
            let loaded = load(&root).unwrap_or_else(|reasons| panic!("verb {verb}, {image:?}: {reasons}"));
            let version = loaded.root.document().version;
            let place = format!("verb {verb}, {image:?}, root {version}");
            assert!((1..=3).contains(&version), "{place}");
            // The floors follow the root, whatever of it was written, and the mark comes down with root 2 and not before.
            assert_eq!(loaded.floors.root_version, version, "{place}");
            let mark = if version == 1 { "2090-01-01T00:00:00Z" } else { "2026-11-01T00:00:00Z" };
            assert_eq!(loaded.floors.time_mark, Some(time(mark)), "{place}");
            assert!(loaded.floors.revoked.number == 0 || version == 3, "{place}");
            assert_eq!(loaded.root.earlier().len() as u64, version - 1, "{place}: every root is kept");
            let again = import(&root, &medium).unwrap_or_else(|reasons| panic!("{place}: {reasons}"));
            assert_eq!(again.version, 3, "{place}");
            let floors = root.floors().expect("floors").expect("there");
            assert_eq!((floors.root_version, floors.revoked.number), (3, 1), "{place}");
            assert_eq!(floors.time_mark, Some(time("2026-11-01T00:00:00Z")), "{place}");
        }
    }
}
