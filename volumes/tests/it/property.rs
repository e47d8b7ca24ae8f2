//! Any sizes, any damage: what was written, or an error that is right.

use std::collections::BTreeMap;
use std::fs;

use proptest::collection::vec;
use proptest::prelude::*;

use autonomy_volumes::{HEADER_BYTES, OpenError, VolumeSet, shape::STORED_BYTES};

use super::{files, incomplete, read, vol, volume_of, write};

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_repaired_or_told(
        sizes in vec(0usize..200_000, 0..8),
        room in 1u64..5,
        parity in 0u8..4,
        lost in vec(0u16..12, 0..3),
        flips in vec((0u16..12, 0u64..5), 0..6),
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let files = files(&sizes);
        let written = write(dir.path(), &files, volume_of(room), parity).expect("writes");
        let count = written.data + u16::from(parity);
        let mut erased: BTreeMap<u64, Vec<u16>> = BTreeMap::new();
        let stripes = (fs::metadata(vol(dir.path(), 0)).expect("is there").len() - 8192) / STORED_BYTES;
        for (volume, block) in flips.into_iter().map(|(volume, block)| (volume % count, block)) {
            let mut bytes = fs::read(vol(dir.path(), volume)).expect("reads");
            let at = usize::try_from(HEADER_BYTES as u64 + block * STORED_BYTES + 40).expect("fits");
            if at + HEADER_BYTES < bytes.len() {
                bytes[at] = !bytes[at];
                fs::write(vol(dir.path(), volume), bytes).expect("writes");
                let marks = erased.entry(block).or_default();
                // Flipped twice is whole again.
                if marks.contains(&volume) { marks.retain(|mark| *mark != volume) } else { marks.push(volume) }
            }
        }
        for volume in lost.into_iter().map(|volume| volume % count) {
            let Ok(metadata) = fs::metadata(vol(dir.path(), volume)) else { continue };
            fs::remove_file(vol(dir.path(), volume)).expect("removes");
            for block in 0..(metadata.len() - 8192) / STORED_BYTES {
                let marks = erased.entry(block).or_default();
                if !marks.contains(&volume) { marks.push(volume) }
            }
        }
        let hopeless = |marks: &Vec<u16>| {
            marks.len() > usize::from(parity) && marks.iter().any(|volume| *volume < written.data)
        };
        let whole = !erased.values().any(hopeless);
        prop_assert!(erased.keys().all(|block| *block < stripes));
        match VolumeSet::open(dir.path()) {
            Ok(set) => {
                prop_assert_eq!(set.scan(&|_, _| {}).is_ok(), whole);
                for (path, bytes) in &files {
                    match read(&set, path) {
                        Ok(read) => prop_assert!(read == *bytes),
                        Err(error) => {
                            prop_assert!(!whole);
                            prop_assert!(incomplete(&error).needed > 0);
                        }
                    }
                }
            }
            Err(OpenError::Incomplete(_) | OpenError::NoVolumes) => prop_assert!(!whole),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
