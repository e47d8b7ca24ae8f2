//! `LOCK` and `store.lock`.

use std::sync::Arc;

use autonomy_schema::Code;
use autonomy_stateroot::{Disk as _, Image, LockError, LockMode, Query as _, StateRoot, init, layout, read_capped};

use crate::fixture::{ATTEST, SIGNATURES, node, sim_root, trust_root};

#[test]
fn the_second_holder_is_told_who_the_first_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let one = init(&path, &node(), &trust_root(), SIGNATURES, &ATTEST).expect("initialized");
    let two = StateRoot::open(&path).expect("opened");
    assert_eq!(one.lock_holder().expect("asked"), None);
    let held = one.lock("autonomy apply").expect("free");
    let Err(LockError::Held(reason)) = two.lock("autonomy plan") else { panic!("not refused") };
    assert_eq!(reason.code, Code::Locked);
    let pid = std::process::id();
    assert_eq!(reason.message, format!("`autonomy apply` (pid {pid}) holds the lock of the state root"));
    let holder = two.lock_holder().expect("asked").expect("held");
    assert_eq!((holder.command.as_str(), holder.pid), ("autonomy apply", pid));
    assert_eq!(holder.boot_id.len(), 36, "{holder:?}");
    drop(held);
    assert_eq!(two.lock_holder().expect("asked"), None, "what is written in it binds nobody");
    drop(two.lock("x").expect("free again"));
}

#[test]
fn a_holder_that_has_not_written_its_name_still_holds() {
    let (disk, root) = sim_root();
    let _held = disk.try_lock(&layout::lock_file(), LockMode::Exclusive).expect("asked").expect("free");
    disk.write_at(&layout::lock_file(), 0, b"{").expect("torn");
    let Err(LockError::Held(reason)) = root.lock("x") else { panic!("not refused") };
    assert_eq!(reason.code, Code::Locked);
}

#[test]
fn locks_vanish_with_the_power() {
    let (disk, root) = sim_root();
    let _held = root.lock("x").expect("free");
    let after = disk.crash(Image::All);
    let root = StateRoot::on(Arc::new(after.clone()));
    assert_eq!(root.lock_holder().expect("asked"), None);
    let _again = root.lock("y").expect("free");
    let text = read_capped(&after, &layout::lock_file(), 999).expect("read").expect("there");
    assert!(String::from_utf8(text).expect("text").contains(r#""command":"y""#));
}

#[test]
fn many_may_write_objects_and_one_collect_them() {
    let (_, root) = sim_root();
    let writers =
        [root.store_lock(LockMode::Shared).expect("asked"), root.store_lock(LockMode::Shared).expect("asked")];
    assert!(writers.iter().all(Option::is_some));
    assert!(root.store_lock(LockMode::Exclusive).expect("asked").is_none());
    drop(writers);
    assert!(root.store_lock(LockMode::Exclusive).expect("asked").is_some());
}

#[test]
fn who_stores_objects_waits_for_a_collection_of_a_moment() {
    let (_disk, root) = sim_root();
    let collecting = root.store_lock(LockMode::Exclusive).expect("asked").expect("free");
    let other = root.clone();
    let writer = std::thread::spawn(move || other.share_store().map(drop));
    // Less than its patience, and long enough for it to have asked.
    std::thread::sleep(std::time::Duration::from_millis(8));
    drop(collecting);
    writer.join().expect("joins").expect("the moment was over");
    let _collecting = root.store_lock(LockMode::Exclusive).expect("asked").expect("free");
    let Err(LockError::Held(reason)) = root.share_store() else { panic!("not refused") };
    assert_eq!(reason.code, Code::Locked);
}
