//! The stat cache.

use autonomy_schema::{Blake3, Mode, Sha256};
use autonomy_stateroot::{Identity, Query as _, StatCache, durable, init, layout, read_capped};

use crate::fixture::{ATTEST, SIGNATURES, node, rel, sim_root, trust_root};

fn identity(ino: u64, ctime_ns: i64) -> Identity {
    Identity { dev: 1, ino, mtime_ns: -5, ctime_ns }
}

fn filled() -> StatCache {
    let mut cache = StatCache::default();
    for ino in 0..100 {
        cache.put(identity(ino, 3), ino * 7, Blake3::of(&ino.to_le_bytes()), Sha256::of(&ino.to_le_bytes()));
    }
    cache
}

#[test]
fn what_is_stored_is_loaded_and_every_part_of_the_identity_counts() {
    let (_, root) = sim_root();
    assert!(StatCache::load(&root).is_empty());
    filled().store(&root).expect("stored");
    let cache = StatCache::load(&root);
    assert_eq!(cache, filled());
    let digests = Some((Blake3::of(&5u64.to_le_bytes()), Sha256::of(&5u64.to_le_bytes())));
    let known = identity(5, 3);
    assert_eq!(cache.get(&known, 35), digests);
    let others = [
        Identity { dev: 2, ..known },
        Identity { ino: 6, ..known },
        Identity { mtime_ns: 0, ..known },
        Identity { ctime_ns: 4, ..known },
    ];
    assert!(others.iter().all(|other| cache.get(other, 35).is_none()));
    assert_eq!(cache.get(&known, 36), None);
}

#[test]
fn damage_at_any_byte_makes_it_empty() {
    let (disk, root) = sim_root();
    filled().store(&root).expect("stored");
    let bytes = read_capped(&disk, &layout::cache_files(), 1 << 20).expect("read").expect("there");
    assert_eq!(bytes.len(), 16 + 100 * 104 + 32);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        durable::replace(&disk, &layout::cache_files(), &damaged, Mode::PRIVATE).expect("damaged");
        assert!(StatCache::load(&root).is_empty(), "byte {at}");
    }
    for len in 0..bytes.len() {
        durable::replace(&disk, &layout::cache_files(), &bytes[..len], Mode::PRIVATE).expect("cut");
        assert!(StatCache::load(&root).is_empty(), "cut at {len}");
    }
}

#[test]
fn a_file_that_changed_as_the_cache_was_written_is_not_believed() {
    let (disk, root) = sim_root();
    let mut cache = filled();
    let future = disk.stat(&layout::cache()).expect("stat").expect("there").identity.ctime_ns + i64::MAX / 2;
    cache.put(identity(1000, future), 1, Blake3::of(b""), Sha256::of(b""));
    cache.store(&root).expect("stored");
    assert_eq!(StatCache::load(&root), filled());
}

#[test]
fn on_a_real_disk_a_file_that_was_just_written_is_believed_after_store_waited() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = init(&folder.path().join("s"), &node(), &trust_root(), SIGNATURES, &ATTEST).expect("initialized");
    let path = rel("objects/x");
    durable::write_new(root.disk(), &path, b"x", Mode::FILE).expect("written");
    let stat = root.disk().stat(&path).expect("stat").expect("there");
    let mut cache = StatCache::default();
    cache.put(stat.identity, stat.size, Blake3::of(b"x"), Sha256::of(b"x"));
    cache.store(&root).expect("stored");
    assert_eq!(StatCache::load(&root), cache);
    root.disk().set_meta(&path, Mode::PRIVATE).expect("changed");
    let stat = root.disk().stat(&path).expect("stat").expect("there");
    assert_eq!(StatCache::load(&root).get(&stat.identity, stat.size), None);
}
