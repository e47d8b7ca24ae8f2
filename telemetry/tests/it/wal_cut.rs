//! The log cut at every byte, and with every kind of foreign tail.

use autonomy_telemetry::{Cause, Wal, WalError, inspect};
use serde_json::json;

use crate::{LOG, SAFE, disk_with, log, numbers, open, record, role, root, tree};

#[test]
fn a_torn_tail_is_cut_and_counted_at_every_byte_and_damage_before_the_checkpoint_touches_nothing() {
    let (whole, ends) = log(4);
    for safe in 0..=4_u64 {
        for cut in 0..=whole.len() {
            let disk = disk_with(&[(LOG, &whole[..cut]), (SAFE, &safe.to_le_bytes())]);
            let before = tree(&disk);
            let good = ends.iter().filter(|end| **end <= cut).count();
            let end = if good == 0 { 0 } else { ends[good - 1] };
            let report = inspect(&root(&disk), &role()).expect("inspects");
            assert_eq!(report.last_seq, good as u64, "safe {safe}, cut {cut}");
            assert_eq!(tree(&disk), before, "inspect writes nothing");
            match open(&disk) {
                Ok((mut wal, recovery)) => {
                    assert!(good as u64 >= safe, "safe {safe}, cut {cut}: records were lost unseen");
                    assert_eq!((recovery.last_seq, recovery.torn_bytes), (good as u64, (cut - end) as u64));
                    assert_eq!((report.torn_bytes, report.cause), (recovery.torn_bytes, None));
                    assert_eq!(wal.append(record(9)).expect("appends"), good as u64 + 1);
                    let expected: Vec<u64> = (1..=good as u64).chain([9]).collect();
                    assert_eq!(numbers(&disk), expected);
                }
                Err(WalError::Damaged(damage)) => {
                    assert!((good as u64) < safe, "safe {safe}, cut {cut}: {damage}");
                    assert_eq!((damage.seq, damage.offset), (good as u64 + 1, end as u64));
                    let expected = if cut == end { Cause::MissingRecords } else { Cause::CutShort };
                    assert_eq!(damage.cause, expected, "safe {safe}, cut {cut}");
                    assert_eq!(tree(&disk), before, "safe {safe}, cut {cut}: something was touched");
                    assert_eq!(report.cause, Some(damage.to_string()));
                }
                Err(other) => panic!("safe {safe}, cut {cut}: {other}"),
            }
        }
    }
}

/// Foreign bytes behind two good records, and what is wrong with them.
fn foreign_tails() -> Vec<(Vec<u8>, Cause)> {
    let (two, _) = log(2);
    let (three, ends) = log(3);
    let length = |line: &str| u32::try_from(line.len()).expect("short").to_be_bytes();
    let frame = |line: &str| [&length(line), line.as_bytes()].concat();
    let third = String::from_utf8(three[ends[1] + 4..].to_vec()).expect("UTF-8");
    assert_eq!(three[ends[1]..], frame(&third));
    vec![
        (vec![0; 4096], Cause::BadLength),
        (vec![0xff; 64], Cause::BadLength),
        (frame("\n"), Cause::BadRecord),
        (frame("{}\n"), Cause::BadRecord),
        (frame(third.trim_end()), Cause::BadLine),
        (frame(&third.replace("\"seq\"", " \"seq\"")), Cause::BadRecord),
        (frame(&third.replace("\"seq\":3", "\"seq\":3,\"seq\":3")), Cause::BadRecord),
        (frame(&third.replace("\"seq\":3", "\"seq\":3,\"zeal\":1")), Cause::BadRecord),
        (frame(&third.replace("\"priority\":\"rest\",", "")), Cause::BadRecord),
        (frame(&third.replace("\"seq\":3", "\"seq\":4")), Cause::BadSequence),
        (frame(&third.replace("blake3:", "blake3:0").replacen("0\"", "\"", 1)), Cause::BadRecord),
        (two[..ends[0]].to_vec(), Cause::BadSequence),
        (frame(&third.replacen("\"prev\":\"blake3:", "\"prev\":null,\"was\":\"blake3:", 1)), Cause::BadRecord),
        (frame(&other_chain(&third)), Cause::BrokenChain),
    ]
}

/// The line with another, well-formed digest of the one before.
fn other_chain(line: &str) -> String {
    let at = line.find("blake3:").expect("has a chain") + "blake3:".len();
    format!("{}{}{}", &line[..at], "0".repeat(64), &line[at + 64..])
}

#[test]
fn a_foreign_tail_is_cut_after_the_checkpoint_and_damage_before_it() {
    let (two, _) = log(2);
    for (at, (tail, cause)) in foreign_tails().into_iter().enumerate() {
        let whole = [two.as_slice(), &tail].concat();
        let disk = disk_with(&[(LOG, &whole), (SAFE, &2_u64.to_le_bytes())]);
        let (mut wal, recovery) = open(&disk).expect("opens");
        assert_eq!((recovery.last_seq, recovery.torn_bytes), (2, tail.len() as u64), "tail {at}");
        wal.append(record(3)).expect("appends");
        assert_eq!(numbers(&disk), [1, 2, 3]);

        let disk = disk_with(&[(LOG, &whole), (SAFE, &3_u64.to_le_bytes())]);
        let before = tree(&disk);
        let Err(WalError::Damaged(damage)) = open(&disk) else { panic!("tail {at} was taken") };
        assert_eq!((damage.seq, damage.cause), (3, cause), "tail {at}");
        assert_eq!(tree(&disk), before);
    }
}

#[test]
fn a_log_that_vanished_behind_its_checkpoint_is_damage() {
    let disk = disk_with(&[(SAFE, &1_u64.to_le_bytes())]);
    let before = tree(&disk);
    let Err(WalError::Damaged(damage)) = open(&disk) else { panic!("opened") };
    assert_eq!(damage.cause, Cause::MissingRecords);
    assert_eq!(tree(&disk), before);
}

#[test]
fn a_checkpoint_that_is_not_eight_bytes_is_damage() {
    let (whole, _) = log(1);
    for length in [0, 1, 7, 9, 4096] {
        let disk = disk_with(&[(LOG, &whole), (SAFE, &vec![0; length])]);
        let before = tree(&disk);
        let Err(WalError::Damaged(damage)) = open(&disk) else { panic!("opened with {length} bytes") };
        assert_eq!(damage.cause, Cause::BadCheckpoint);
        assert_eq!(damage.to_string(), format!("`{SAFE}` is damaged at record 0 (byte 0): bad_checkpoint"));
        assert_eq!(inspect(&root(&disk), &role()).expect("inspects").cause, Some(damage.to_string()));
        assert_eq!(tree(&disk), before);
    }
}

#[test]
fn what_no_reader_would_take_back_is_not_written() {
    let disk = disk_with(&[]);
    let (mut wal, _) = open(&disk).expect("opens");
    let mut deep = json!(1);
    for _ in 0..200 {
        deep = json!([deep]);
    }
    for body in [deep, json!("x".repeat(1 << 20))] {
        let before = tree(&disk);
        let mut bad = record(2);
        bad.body = body;
        assert!(matches!(wal.append_all(vec![record(1), bad]), Err(WalError::Unwritable { .. })));
        assert_eq!(tree(&disk), before, "nothing of the group is written");
    }
    assert_eq!(wal.append(record(1)).expect("appends"), 1);
    let mut widest = record(2);
    // One byte below the limit, newline included.
    widest.body = json!("x".repeat((1 << 20) - 2 - (line_without_body() + 1)));
    wal.append(widest).expect("the largest record");
    let (_, recovery) = Wal::open(&root(&disk), &role()).expect("opens");
    assert_eq!((recovery.last_seq, recovery.torn_bytes), (2, 0));
}

/// Bytes of the second line around its body, by measuring one.
fn line_without_body() -> usize {
    let (_, ends) = log(2);
    ends[1] - ends[0] - 4 - 1 - "{\"number\":2}".len()
}
