//! Every bit of a small log flipped, one at a time.

use autonomy_telemetry::WalError;

use crate::{LOG, SAFE, disk_with, log, open, stored, tree};

/// The chain covers a record only once another follows it. A flip in the very last record that leaves it well formed
/// is therefore not seen; it never changes another record. `docs/formats/wal.md` says so.
#[test]
fn no_flip_changes_a_record_that_another_follows() {
    let (whole, ends) = log(3);
    let original = stored(&disk_with(&[(LOG, &whole)]));
    let mut unseen = 0;
    for safe in [0, 2, 3_u64] {
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let disk = disk_with(&[(LOG, &flipped), (SAFE, &safe.to_le_bytes())]);
            let before = tree(&disk);
            // The record that the flip hits, from 0.
            let hit = ends.iter().filter(|end| **end <= bit / 8).count();
            match open(&disk) {
                Ok((_, recovery)) if recovery.last_seq == 3 => {
                    assert_eq!(hit, 2, "safe {safe}, bit {bit}: not seen");
                    assert_eq!(stored(&disk)[..2], original[..2]);
                    unseen += 1;
                }
                Ok((_, recovery)) => {
                    // A flip that leaves a record well formed breaks the chain one record later.
                    let kept = usize::try_from(recovery.last_seq).expect("small");
                    assert!(kept == hit || kept == hit + 1, "safe {safe}, bit {bit}: kept {kept}");
                    assert!(recovery.last_seq >= safe && recovery.torn_bytes > 0);
                    assert_eq!(stored(&disk)[..hit], original[..hit]);
                }
                Err(WalError::Damaged(damage)) => {
                    assert!(damage.seq <= safe, "safe {safe}, bit {bit}: {damage}");
                    assert_eq!(tree(&disk), before, "safe {safe}, bit {bit}: something was touched");
                }
                Err(other) => panic!("safe {safe}, bit {bit}: {other}"),
            }
        }
    }
    assert!(unseen > 0, "the limit that the page states is gone; say so there");
}

#[test]
fn a_flip_in_the_checkpoint_stops_or_only_weakens_it() {
    let (whole, _) = log(3);
    for bit in 0..64 {
        let flipped = 3_u64 ^ (1 << bit);
        let disk = disk_with(&[(LOG, &whole), (SAFE, &flipped.to_le_bytes())]);
        let before = tree(&disk);
        match open(&disk) {
            Ok((_, recovery)) => assert!(flipped < 3 && recovery.last_seq == 3, "bit {bit}"),
            Err(WalError::Damaged(_)) => assert!(flipped > 3 && tree(&disk) == before, "bit {bit}"),
            Err(other) => panic!("bit {bit}: {other}"),
        }
    }
}
