//! What may be lost, and what is said when too much is.

use std::fs;

use autonomy_volumes::{OpenError, VolumeReport, VolumeSet, VolumeState};

use super::{assert_whole, files, flip, incomplete, read, vol, volume_of, write};

const BLOCK: usize = 64 << 10;

/// With three blocks for each data volume: four, the last of one block.
fn ten_blocks() -> super::Files {
    files(&[0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 0, 3 * BLOCK, 4 * BLOCK - 1000])
}

#[test]
fn sizes_around_block_boundaries_come_back() {
    for room in [1, 2, 5, 64] {
        for parity in [0, 1, 3] {
            let dir = tempfile::tempdir().expect("a folder");
            let files = ten_blocks();
            let written = write(dir.path(), &files, volume_of(room), parity).expect("writes");
            let set = assert_whole(dir.path(), &files);
            assert_eq!((set.id(), set.parity()), (written.set, parity));
            assert_eq!(set.scan(&|_, _| {}), Ok(()));
            assert!(set.report().iter().all(|volume| volume.state == VolumeState::Present && volume.damaged == 0));
        }
    }
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), &Vec::new(), volume_of(1), 1).expect("writes");
    assert!(assert_whole(dir.path(), &Vec::new()).members().is_empty());
}

#[test]
fn an_index_or_file_that_ends_with_its_block_comes_back() {
    for spare in 0..200 {
        let dir = tempfile::tempdir().expect("a folder");
        let files = files(&[BLOCK - spare, 5]);
        write(dir.path(), &files, volume_of(1), 1).expect("writes");
        fs::remove_file(vol(dir.path(), 0)).expect("removes");
        assert_whole(dir.path(), &files);
    }
}

#[test]
fn any_volume_may_be_lost_with_one_of_parity_and_any_two_with_two() {
    for parity in [1, 2] {
        let dir = tempfile::tempdir().expect("a folder");
        let files = ten_blocks();
        let written = write(dir.path(), &files, volume_of(3), parity).expect("writes");
        let count = written.data + u16::from(written.parity);
        assert_eq!(written.data, 4);
        for a in 0..count {
            for b in if parity == 1 { a..a + 1 } else { a..count } {
                let kept: Vec<_> = [a, b].map(|n| (n, fs::read(vol(dir.path(), n)).expect("reads"))).into();
                fs::remove_file(vol(dir.path(), a)).expect("removes");
                let _ = fs::remove_file(vol(dir.path(), b));
                let set = assert_whole(dir.path(), &files);
                assert_eq!(set.scan(&|_, _| {}), Ok(()));
                let lost = set.report().iter().filter(|volume| volume.state == VolumeState::Missing).count();
                assert_eq!(lost, if a == b { 1 } else { 2 });
                for (n, bytes) in kept {
                    fs::write(vol(dir.path(), n), bytes).expect("writes");
                }
            }
        }
    }
}

#[test]
fn more_than_the_parity_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let files = ten_blocks();
    write(dir.path(), &files, volume_of(3), 1).expect("writes");
    fs::remove_file(vol(dir.path(), 2)).expect("removes");
    fs::remove_file(vol(dir.path(), 3)).expect("removes");
    let set = VolumeSet::open(dir.path()).expect("the index is in vol-000");
    let told = incomplete(&read(&set, "dir-1/file-7").expect_err("lost"));
    assert_eq!(told.volumes, ["vol-002", "vol-003"]);
    assert_eq!(told.needed, 1);
    assert_eq!(told.to_string(), "lost or damaged at the same place: vol-002, vol-003; 1 of them needed");
    assert_eq!(set.scan(&|_, _| {}), Err(told));
    // What lies in the others is still there.
    assert_eq!(read(&set, "dir-1/file-1").expect("reads"), files[1].1);

    fs::remove_file(vol(dir.path(), 0)).expect("removes");
    match VolumeSet::open(dir.path()) {
        Err(OpenError::Incomplete(told)) => {
            assert_eq!(told.volumes, ["vol-000", "vol-002", "vol-003"]);
            assert_eq!(told.needed, 2);
        }
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_failed_read_fails_again() {
    use std::io::Read as _;
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), &files(&[3 * BLOCK]), volume_of(1), 0).expect("writes");
    fs::remove_file(vol(dir.path(), 2)).expect("removes");
    let set = VolumeSet::open(dir.path()).expect("opens");
    let mut reader = set.open_member(&set.members()[0].path, 0).expect("a member");
    let mut bytes = Vec::new();
    assert_eq!(incomplete(&reader.read_to_end(&mut bytes).expect_err("lost")).volumes, ["vol-002"]);
    assert_eq!(incomplete(&reader.read_to_end(&mut bytes).expect_err("lost")).volumes, ["vol-002"]);
    assert!(bytes.len() < 2 * BLOCK);
}

#[test]
fn flipped_bits_in_every_volume_are_repaired_at_different_stripes() {
    let dir = tempfile::tempdir().expect("a folder");
    let files = ten_blocks();
    write(dir.path(), &files, volume_of(3), 2).expect("writes");
    for (volume, block) in [(0, 0), (1, 0), (2, 1), (4, 1), (1, 2), (5, 2)] {
        flip(dir.path(), volume, block);
    }
    let set = assert_whole(dir.path(), &files);
    assert_eq!(set.scan(&|_, _| {}), Ok(()));
    assert_eq!(set.scan(&|_, _| {}), Ok(()));
    let damaged: Vec<u64> = set.report().iter().map(|volume| volume.damaged).collect();
    assert_eq!(damaged, [1, 2, 1, 0, 1, 1]);

    flip(dir.path(), 0, 1);
    flip(dir.path(), 1, 1);
    let told = VolumeSet::open(dir.path()).expect("opens").scan(&|_, _| {}).expect_err("too much");
    assert_eq!(told.volumes, ["vol-000", "vol-001", "vol-002", "vol-004"]);
    assert_eq!(told.needed, 2);
}

#[test]
fn a_block_at_another_place_is_damage() {
    let dir = tempfile::tempdir().expect("a folder");
    let files = files(&[5 * BLOCK]);
    write(dir.path(), &files, volume_of(3), 1).expect("writes");
    let bytes = fs::read(vol(dir.path(), 0)).expect("reads");
    let stored = BLOCK + 32;
    let mut swapped = bytes.clone();
    swapped[4096..4096 + stored].copy_from_slice(&bytes[4096 + stored..4096 + 2 * stored]);
    swapped[4096 + stored..4096 + 2 * stored].copy_from_slice(&bytes[4096..4096 + stored]);
    fs::write(vol(dir.path(), 0), swapped).expect("writes");
    assert_eq!(assert_whole(dir.path(), &files).report()[0].damaged, 2);
}

#[test]
fn a_truncated_volume_and_damaged_headers_are_survived() {
    let dir = tempfile::tempdir().expect("a folder");
    let files = ten_blocks();
    write(dir.path(), &files, volume_of(3), 1).expect("writes");
    let whole = fs::read(vol(dir.path(), 1)).expect("reads");
    for length in [0, 5, 4096, 4097, 4096 + 32 + BLOCK, 150_000, whole.len() - 4096, whole.len() - 1] {
        fs::write(vol(dir.path(), 1), &whole[..length]).expect("writes");
        let set = assert_whole(dir.path(), &files);
        let told = &set.report()[1];
        assert_eq!(told.state == VolumeState::BadHeader, length < 4096);
        assert_eq!(told.damaged > 0, (4096..whole.len() - 4096).contains(&length), "{length}");
    }
    // One header is enough.
    let mut bytes = whole.clone();
    bytes[..4096].fill(0xff);
    fs::write(vol(dir.path(), 1), &bytes).expect("writes");
    let report = assert_whole(dir.path(), &files).report();
    let good = VolumeReport { name: "vol-001".to_owned(), parity: false, state: VolumeState::Present, damaged: 0 };
    assert_eq!(report[1], good);
    assert_eq!(report.iter().filter(|volume| volume.parity).count(), 1);
    // With neither it is lost.
    let end = bytes.len() - 10;
    bytes[end] ^= 1;
    fs::write(vol(dir.path(), 1), &bytes).expect("writes");
    assert_eq!(assert_whole(dir.path(), &files).report()[1].state, VolumeState::BadHeader);
}
