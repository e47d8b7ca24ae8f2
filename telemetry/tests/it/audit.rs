//! The audit trail: edits are found, half lines are cut, acknowledged entries stay.

use autonomy_schema::{Blake3, Time};
use autonomy_stateroot::{Image, SimDisk};
use autonomy_telemetry::{Audit, AuditError, Cause, Entry};
use serde_json::json;

use crate::{bytes, disk_with, root};

const TRAIL: &str = "audit/audit.jsonl";

fn entry(number: u64) -> Entry {
    Entry {
        time: Time::from_unix(1_795_165_200),
        verb: "apply".to_owned(),
        actor: "uid:0".to_owned(),
        correlation: Some(Blake3::of(b"manifest")),
        outcome: "done".to_owned(),
        detail: json!({ "number": number }),
    }
}

/// The bytes of a trail with `count` entries.
fn trail(count: u64) -> Vec<u8> {
    let disk = SimDisk::new();
    let mut audit = Audit::open(&root(&disk)).expect("opens");
    for number in 1..=count {
        audit.append(&entry(number)).expect("appends");
    }
    bytes(&disk, TRAIL)
}

fn verify(trail: &[u8]) -> Result<u64, AuditError> {
    Audit::verify(&root(&disk_with(&[(TRAIL, trail)])))
}

/// The line and the cause of the damage.
fn damage(trail: &[u8]) -> (u64, Cause) {
    match verify(trail) {
        Err(AuditError::Damaged { line, cause, .. }) => (line, cause),
        other => panic!("{other:?}"),
    }
}

fn numbers(disk: &SimDisk) -> Vec<u64> {
    let mut numbers = Vec::new();
    let count = Audit::read(&root(disk), &mut |entry| numbers.extend(entry.detail["number"].as_u64()));
    assert_eq!(count.expect("reads"), numbers.len() as u64);
    numbers
}

#[test]
fn every_bit_flip_is_found_also_in_the_last_line() {
    let whole = trail(3);
    assert_eq!(verify(&whole).expect("intact"), 3);
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match verify(&flipped) {
            Err(AuditError::Damaged { .. }) => {}
            // Without its newline, the last line is what a power loss leaves; it does not count.
            Ok(count) => assert!(count == 2 && bit / 8 == whole.len() - 1, "bit {bit} was not found"),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn edits_are_found_where_they_were_made() {
    let whole = String::from_utf8(trail(4)).expect("UTF-8");
    let lines: Vec<&str> = whole.lines().collect();
    let join = |lines: &[&str]| lines.iter().fold(String::new(), |all, line| all + line + "\n").into_bytes();
    assert_eq!(damage(&join(&[lines[0], lines[2], lines[3]])), (2, Cause::BadSequence), "a line removed");
    assert_eq!(damage(&join(&lines[1..])), (1, Cause::BadSequence), "the beginning removed");
    assert_eq!(damage(&join(&[lines[0], lines[2], lines[1], lines[3]])), (2, Cause::BadSequence), "lines swapped");
    assert_eq!(damage(&join(&[lines[0], lines[0], lines[1]])), (2, Cause::BadSequence), "a line repeated");
    assert_eq!(damage(&join(&[lines[0], "", lines[1]])), (2, Cause::BadRecord), "an empty line");

    for at in 0..4 {
        let edited = lines[at].replace("uid:0", "uid:7");
        let mut forged = lines.clone();
        forged[at] = &edited;
        assert_eq!(damage(&join(&forged)), (at as u64 + 1, Cause::BadDigest), "line {at}");
    }
    // An editor who writes the line anew, digest included, is given away by the next line.
    let other = String::from_utf8({
        let disk = SimDisk::new();
        let mut audit = Audit::open(&root(&disk)).expect("opens");
        audit.append(&Entry { actor: "uid:7".to_owned(), ..entry(1) }).expect("appends");
        bytes(&disk, TRAIL)
    })
    .expect("UTF-8");
    assert_eq!(damage(&join(&[other.trim_end(), lines[1]])), (2, Cause::BrokenChain));
}

#[test]
fn damage_stops_the_writer_and_nothing_is_touched() {
    let forged = String::from_utf8(trail(2)).expect("UTF-8").replacen("uid:0", "uid:7", 1).into_bytes();
    let disk = disk_with(&[(TRAIL, &forged)]);
    let Err(error) = Audit::open(&root(&disk)) else { panic!("opened") };
    assert_eq!(error.to_string(), format!("`{TRAIL}` is damaged at line 1 (byte 0): bad_digest"));
    assert_eq!(error.to_reason().code.exit(), 11);
    assert_eq!(bytes(&disk, TRAIL), forged);
}

#[test]
fn a_half_line_is_cut_and_counted_at_every_byte() {
    let whole = trail(3);
    let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').map(|at| at + 1).collect();
    for cut in 0..=whole.len() {
        let good = ends.iter().filter(|end| **end <= cut).count();
        let torn = cut - if good == 0 { 0 } else { ends[good - 1] };
        assert_eq!(verify(&whole[..cut]).expect("a half line is no damage"), good as u64, "cut {cut}");
        let disk = disk_with(&[(TRAIL, &whole[..cut])]);
        let mut audit = Audit::open(&root(&disk)).expect("opens");
        assert_eq!(audit.torn_bytes(), torn as u64, "cut {cut}");
        audit.append(&entry(9)).expect("appends");
        let expected: Vec<u64> = (1..=good as u64).chain([9]).collect();
        assert_eq!(numbers(&disk), expected, "cut {cut}");
    }
}

#[test]
fn blocks_that_were_never_written_read_as_zeros_and_are_cut_too() {
    let whole = trail(2);
    for zeros in [vec![0; 5000], [vec![0; 512], b"x\n".to_vec()].concat()] {
        let disk = disk_with(&[(TRAIL, &[whole.as_slice(), &zeros].concat())]);
        assert_eq!(Audit::open(&root(&disk)).expect("opens").torn_bytes(), zeros.len() as u64);
        assert_eq!(bytes(&disk, TRAIL), whole);
        // The same in the middle is no power loss.
        assert_eq!(damage(&[zeros.as_slice(), b"\n", &whole].concat()).0, 1);
    }
}

#[test]
fn a_crash_at_every_verb_loses_no_acknowledged_entry() {
    let story = |disk: &SimDisk| {
        let mut acknowledged = Vec::new();
        let mut tell = || {
            let mut audit = Audit::open(&root(disk))?;
            for number in 1..=2 {
                audit.append(&entry(number))?;
                acknowledged.push(number);
            }
            Audit::open(&root(disk))?.append(&entry(3))?;
            acknowledged.push(3);
            Ok::<(), AuditError>(())
        };
        let told = tell();
        (acknowledged, told)
    };
    let calm = SimDisk::new();
    story(&calm).1.expect("without a crash");
    for stop in 1..=calm.verbs() {
        let disk = SimDisk::new();
        disk.stop_at(stop);
        let (acknowledged, told) = story(&disk);
        assert!(told.is_err());
        for image in Image::EACH {
            let crashed = disk.crash(image);
            let mut audit = Audit::open(&root(&crashed)).expect("opens after a crash");
            audit.append(&entry(9)).expect("appends");
            let found = numbers(&crashed);
            assert!(found.starts_with(&acknowledged), "verb {stop}, {image:?}: {acknowledged:?} {found:?}");
            assert!(found.len() <= acknowledged.len() + 2, "verb {stop}, {image:?}: {found:?}");
        }
    }
}

#[test]
fn two_processes_write_one_trail() {
    let disk = SimDisk::new();
    let mut one = Audit::open(&root(&disk)).expect("opens");
    let mut two = Audit::open(&root(&disk)).expect("opens");
    one.append(&entry(1)).expect("appends");
    two.append(&entry(2)).expect("appends");
    one.append(&entry(3)).expect("appends");
    assert_eq!(numbers(&disk), [1, 2, 3]);
    assert_eq!(Audit::verify(&root(&SimDisk::new())).expect("an absent trail is empty"), 0);
}

#[test]
fn an_entry_that_is_too_long_is_refused_and_after_a_failed_sync_nothing_is_written() {
    let disk = SimDisk::new();
    let mut audit = Audit::open(&root(&disk)).expect("opens");
    let huge = Entry { detail: json!("x".repeat(1 << 20)), ..entry(1) };
    assert!(matches!(audit.append(&huge), Err(AuditError::Unwritable { .. })));
    audit.append(&entry(1)).expect("appends");
    disk.fail_at(disk.verbs() + 2, 5);
    assert!(matches!(audit.append(&entry(2)), Err(AuditError::Disk(_))));
    assert!(matches!(audit.append(&entry(3)), Err(AuditError::Distrusted(_))));
}
