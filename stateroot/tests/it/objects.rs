//! The object store.

use std::io::{self, Read};

use autonomy_schema::{Blake3, Code, Mode, Sha256};
use autonomy_stateroot::{
    Disk as _, Durability, Image, InsertError, ObjectStore, Placed, Query as _, SimDisk, StatCache, StateRoot, layout,
    read_capped,
};

use crate::fixture::{pins, rel, sim_root, store};

const DATA: &[u8] = b"an artifact";

/// The object store holds nothing, and nothing half.
fn is_empty(disk: &SimDisk) -> bool {
    disk.list(Some(&layout::objects())).expect("listed").is_empty()
}

/// Gives its bytes one at a time, and counts them.
struct Slow<'a>(&'a [u8], &'a mut usize);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(&mut buffer[..1])?;
        *self.1 += read;
        Ok(read)
    }
}

#[test]
fn what_is_not_as_signed_is_not_stored() {
    let (disk, root) = sim_root();
    let signed = pins(DATA, Mode::FILE);
    let mut flipped = DATA.to_vec();
    flipped[3] ^= 1;
    let cases: [(&[u8], Code, &str); 4] = [
        (b"an artifact and more", Code::SizeMismatch, "longer than the 11 bytes"),
        (b"an arti", Code::SizeMismatch, "has 7 bytes; 11 are signed"),
        (b"", Code::SizeMismatch, "has 0 bytes; 11 are signed"),
        (&flipped, Code::DigestMismatch, "hashes to blake3:"),
    ];
    for (data, code, text) in cases {
        let reason = store(&root, data, &signed, Durability::PerFile).expect_err("refused").to_reason("bin/agent");
        assert_eq!(reason.code, code);
        assert!(reason.message.starts_with("`bin/agent` ") && reason.message.contains(text), "{reason}");
        assert!(is_empty(&disk), "{:?}", disk.list(Some(&layout::objects())));
    }
    let wrong = autonomy_stateroot::Pins { sha256: Some(Sha256::of(b"other")), ..signed };
    let error = store(&root, DATA, &wrong, Durability::PerFile).expect_err("both digests must fit");
    assert!(matches!(error, InsertError::Digest(ref text) if text.contains("sha256:")), "{error}");
    assert!(is_empty(&disk));
}

#[test]
fn an_endless_source_is_read_one_byte_too_far_and_no_further() {
    let (_, root) = sim_root();
    let (endless, mut read) = (vec![b'a'; 1000], 0);
    let result = store(&root, Slow(&endless, &mut read), &pins(DATA, Mode::FILE), Durability::Batched);
    assert!(matches!(result, Err(InsertError::Size(_))));
    assert_eq!(read, DATA.len() + 1);
}

#[test]
fn an_object_is_stored_once_with_its_mode() {
    let (disk, root) = sim_root();
    let (blake3, mut read) = (Blake3::of(DATA), 0);
    for mode in ["0755", "0444"].map(|mode| mode.parse::<Mode>().expect("mode")) {
        let mut put = |data: &'static [u8]| store(&root, Slow(data, &mut read), &pins(DATA, mode), Durability::PerFile);
        assert_eq!(put(DATA).expect("stored"), Placed::Written);
        assert_eq!(put(b"unread").expect("there"), Placed::Reused);
        let path = layout::object(blake3, mode);
        assert_eq!(path.as_str(), format!("objects/{}-{mode}", blake3.hex()));
        assert_eq!(read_capped(&disk, &path, 99).expect("read").as_deref(), Some(DATA));
        assert_eq!(disk.stat(&path).expect("stat").expect("there").mode, mode);
    }
    assert_eq!(read, 2 * DATA.len());
}

#[test]
fn large_objects_come_in_pieces() {
    let (disk, root) = sim_root();
    let data: Vec<u8> = (0..3_000_000).flat_map(u32::to_le_bytes).take(2_500_001).collect();
    store(&root, &data[..], &pins(&data, Mode::FILE), Durability::PerFile).expect("stored");
    let path = layout::object(Blake3::of(&data), Mode::FILE);
    assert_eq!(read_capped(&disk, &path, 1 << 22).expect("read"), Some(data));
}

#[test]
fn a_power_cut_leaves_no_object_that_is_taken_for_whole() {
    let run = |root: &StateRoot, durability| store(root, DATA, &pins(DATA, Mode::FILE), durability);
    for durability in [Durability::PerFile, Durability::Batched] {
        let (disk, root) = sim_root();
        let before = disk.verbs();
        run(&root, durability).expect("stored");
        for stop in before + 1..=disk.verbs() + 1 {
            for image in Image::EACH {
                let (disk, root) = sim_root();
                disk.stop_at(stop);
                let _cut = run(&root, durability);
                let left = disk.crash(image);
                let root = StateRoot::on(std::sync::Arc::new(left.clone()));
                let path = layout::object(Blake3::of(DATA), Mode::FILE);
                // A torn object is a short one.
                if left.stat(&path).expect("asked").is_some_and(|stat| stat.size == 11) {
                    assert_eq!(read_capped(&left, &path, 99).expect("read").as_deref(), Some(DATA), "{image:?}");
                }
                run(&root, durability).expect("stored after all");
                assert_eq!(read_capped(&left, &path, 99).expect("read").as_deref(), Some(DATA));
            }
        }
    }
}

#[test]
fn a_placed_object_is_verified_and_a_damaged_one_written_anew() {
    let (disk, root) = sim_root();
    let store = ObjectStore::new(&root);
    let signed = pins(DATA, Mode::FILE);
    let mut cache = StatCache::default();
    let mut place = |to: &str, source: &'static [u8]| {
        let open = || Ok::<_, InsertError>(source);
        store.place(open, &signed, &rel(to), Durability::Batched, &mut cache).expect("placed")
    };
    assert_eq!(place("inbox/a", DATA), Placed::Written);
    assert_eq!(place("inbox/b", b"not read"), Placed::Reused, "its content is known by the cache");
    // Somebody writes through the first name: the object itself is damaged, with the same size.
    disk.write_at(&rel("inbox/a"), 0, b"AN").expect("damaged");
    assert_eq!(place("inbox/c", DATA), Placed::Healed);
    assert_eq!(read_capped(&disk, &rel("inbox/c"), 99).expect("read").as_deref(), Some(DATA));
    assert_eq!(read_capped(&disk, &rel("inbox/b"), 99).expect("read").as_deref(), Some(&b"AN artifact"[..]));
    let stat = disk.stat(&rel("inbox/c")).expect("stat").expect("there");
    assert_eq!(cache.get(&stat.identity, stat.size), Some((Blake3::of(DATA), Sha256::of(DATA))));
    // Without the cache the object is read, and found sound.
    let open = || Ok::<_, InsertError>(&b"not read"[..]);
    let placed = store.place(open, &signed, &rel("inbox/d"), Durability::Batched, &mut StatCache::default());
    assert_eq!(placed.expect("placed"), Placed::Reused);
}

#[test]
fn an_object_that_a_killed_staging_left_is_durable_before_it_is_used() {
    let (disk, root) = sim_root();
    let signed = pins(DATA, Mode::FILE);
    // A batched staging is killed before its one sync: the object is whole, and only in the page cache.
    store(&root, DATA, &signed, Durability::Batched).expect("stored");
    let to = rel("generations/used");
    let never = || -> Result<&[u8], InsertError> { panic!("the object is there") };
    let placed = ObjectStore::new(&root).place(never, &signed, &to, Durability::PerFile, &mut StatCache::default());
    let placed = placed.expect("placed");
    assert_eq!(placed, Placed::Reused);
    disk.sync(autonomy_stateroot::SyncTarget::Dir(Some(&layout::generations()))).expect("sync");
    let after = disk.crash(Image::Synced);
    assert_eq!(read_capped(&after, &to, 100).expect("reads").as_deref(), Some(DATA));
}
