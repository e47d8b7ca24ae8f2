//! Bodies that are not what they say.

use autonomy_edge::store::StoreError;
use autonomy_schema::{Blake3, Code, set};
use autonomy_stateroot::layout;

use super::fixture::{Fleet, Release, Sent, lines, missing, noise, offer, open, progress, push, send, state_root, tar};

/// Refuses a body for this reason; it lies in quarantine, and nothing else is left of it.
#[track_caller]
fn refuses(fleet: &Fleet, fingerprint: Blake3, body: &[u8], code: Code) {
    let disk = fleet.node();
    let (mut store, root) = (open(&disk), state_root(&disk));
    match send(&mut store, fingerprint, body) {
        Err(StoreError::Refused(reasons)) => assert!(reasons.has(code), "{reasons}"),
        other => panic!("{other:?}"),
    }
    let quarantined = root.disk().list(Some(&layout::quarantine())).expect("lists");
    assert_eq!(quarantined.len(), 1);
    assert_eq!(quarantined[0].name, format!("received-{}.tar", fingerprint.hex()));
    assert_eq!(root.disk().list(Some(&layout::edge_sets())).expect("lists"), []);
    assert!(store.progress(fingerprint, super::fixture::now()).expect("asks").is_none());
    assert_eq!(store.transit().count(), 0);
}

fn good(fleet: &Fleet) -> Sent {
    fleet.set(&Release::of(3, noise("agent", 50_000)))
}

/// A set with one file changed.
fn with(sent: &Sent, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut sent = sent.clone();
    change(sent.files.entry(name.to_owned()).or_default());
    sent.tar()
}

#[test]
fn what_does_not_verify_is_quarantined_and_never_forwarded() {
    let fleet = Fleet::new();
    let sent = good(&fleet);
    let print = sent.fingerprint;
    let forger = Fleet::new();
    let lines_of_another = lines(&forger.signer, &sent.files[set::MANIFEST]);
    refuses(
        &fleet,
        print,
        &with(&sent, set::MANIFEST_SIGNATURES, |bytes| *bytes = lines_of_another),
        Code::BelowThreshold,
    );
    refuses(&fleet, Blake3::of(b"another"), &sent.tar(), Code::DigestMismatch);
    refuses(&fleet, print, &with(&sent, "segments/agent.idx", |bytes| bytes[0] ^= 1), Code::DigestMismatch);
    refuses(&fleet, print, &with(&sent, "segments/agent.idx", |bytes| bytes.truncate(40)), Code::SizeMismatch);
    refuses(&fleet, print, &with(&sent, set::POLICY, |bytes| bytes[0] ^= 1), Code::DigestMismatch);
    refuses(&fleet, print, &with(&sent, "artifacts/agent", |bytes| bytes.push(1)), Code::ExtraneousFile);
    refuses(&fleet, print, &with(&sent, "more", |bytes| bytes.push(1)), Code::ExtraneousFile);
    let mut lacks = sent.clone();
    lacks.files.remove(set::LOCK);
    refuses(&fleet, print, &lacks.tar(), Code::MissingFile);
    let elsewhere = fleet.set(&Release { scope: "fleet: quarry", ..Release::of(1, noise("agent", 50_000)) });
    refuses(&fleet, elsewhere.fingerprint, &elsewhere.tar(), Code::ScopeMismatch);
}

#[test]
fn archives_that_play_tricks_are_refused() {
    let fleet = Fleet::new();
    let sent = good(&fleet);
    let print = sent.fingerprint;
    let plain = sent.tar();
    refuses(&fleet, print, b"", Code::MissingFile);
    refuses(&fleet, print, &plain[..plain.len() / 2 / 512 * 512], Code::MissingFile);
    refuses(&fleet, print, &noise("garbage", 4096), Code::BadValue);
    let twice = tar([("manifest.json", b"one".as_slice()), ("manifest.json", b"two".as_slice())]);
    refuses(&fleet, print, &twice, Code::ExtraneousFile);
    let mut longer = plain.clone();
    longer.extend(noise("behind", 512));
    refuses(&fleet, print, &longer, Code::ExtraneousFile);
    for (kind, path, code) in [
        (tar::EntryType::Regular, "../escape", Code::UnsafePath),
        (tar::EntryType::Regular, "/etc/passwd", Code::UnsafePath),
        (tar::EntryType::Symlink, "manifest.json", Code::SymlinkRefused),
        (tar::EntryType::Link, "manifest.json", Code::SymlinkRefused),
        (tar::EntryType::Fifo, "manifest.json", Code::BadValue),
        (tar::EntryType::GNUSparse, "manifest.json", Code::BadValue),
        (tar::EntryType::XHeader, "manifest.json", Code::BadValue),
        (tar::EntryType::GNULongName, "manifest.json", Code::BadValue),
    ] {
        let mut header = tar::Header::new_ustar();
        header.as_ustar_mut().expect("ustar").name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(0);
        header.set_entry_type(kind);
        header.set_cksum();
        let mut body = header.as_bytes().to_vec();
        body.extend([0; 1024]);
        refuses(&fleet, print, &body, code);
    }
    // A header that claims more than there is.
    let mut header = tar::Header::new_ustar();
    header.set_path("manifest.json").expect("path");
    header.set_size(1 << 32);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    refuses(&fleet, print, header.as_bytes(), Code::MissingFile);
    let many: Vec<String> = (0..10_001).map(|at| format!("f{at}")).collect();
    refuses(&fleet, print, &tar(many.iter().map(|name| (name.as_str(), b"".as_slice()))), Code::LimitExceeded);
}

#[test]
fn a_body_without_end_is_cut_off_and_leaves_nothing() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let (mut store, root) = (open(&disk), state_root(&disk));
    let mut incoming = store.begin_set().expect("begins");
    let chunk = vec![0; 8 << 20];
    let mut sent = 0;
    let refused = loop {
        match store.write_set(&mut incoming, &chunk) {
            Ok(()) => sent += chunk.len(),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::TooLarge(_)), "{refused}");
    assert_eq!(sent, 64 << 20);
    drop(incoming);
    drop(store.begin_set().expect("begins"));
    assert_eq!(root.disk().list(Some(&layout::edge_sets())).expect("lists").len(), 1, "only the newest body");
}

#[test]
fn quarantine_keeps_the_newest_sixteen_bodies() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let (mut store, root) = (open(&disk), state_root(&disk));
    for at in 0..20_u8 {
        send(&mut store, Blake3::of(&[at]), b"garbage").expect_err("refuses");
    }
    let kept = root.disk().list(Some(&layout::quarantine())).expect("lists");
    assert_eq!(kept.len(), 16);
    let first = format!("received-{}.tar", Blake3::of(&[0]).hex());
    assert!(kept.iter().all(|entry| entry.name != first));
}

#[test]
fn the_same_serial_with_other_bytes_is_an_alarm_and_both_are_kept() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let (mut store, root) = (open(&disk), state_root(&disk));
    let (one, other) = (good(&fleet), fleet.set(&Release::of(3, noise("other", 50_000))));
    offer(&mut store, &one).expect("accepts");
    for whole in [false, true] {
        if whole {
            push(&mut store, one.all()).expect("puts");
        }
        let refused = offer(&mut store, &other).expect_err("refuses");
        assert!(refused.to_string().contains("serial_conflict"), "{refused}");
    }
    assert_eq!(root.disk().list(Some(&layout::quarantine())).expect("lists").len(), 1);
    super::receive::is_whole(&root, layout::inbox_entry(one.fingerprint), &one);
}

#[test]
fn a_serial_below_the_floor_is_refused() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let root = state_root(&disk);
    let sent = good(&fleet);
    let floors = root.floors().expect("floors").expect("there");
    let floors = floors.proven_by(&super::fixture::name("harbor"), 4, Blake3::of(b"four"));
    root.write_floors(&floors).expect("writes");
    match offer(&mut open(&disk), &sent) {
        Err(StoreError::Refused(reasons)) => assert!(reasons.has(Code::SerialTooLow), "{reasons}"),
        other => panic!("{other:?}"),
    }
    // A peer that has not heard of the newer one is honest: it takes no place from evidence.
    assert_eq!(root.disk().list(Some(&layout::quarantine())).unwrap_or_default(), []);
}

#[test]
fn segments_that_do_not_make_up_the_pinned_bytes_never_become_an_object() {
    // A signer's own mistake: the index is of other bytes than the digests.
    let fleet = Fleet::new();
    let disk = fleet.node();
    let (mut store, root) = (open(&disk), state_root(&disk));
    let sent = fleet.wrong_index(&Release::of(1, noise("agent", 50_000)), &noise("other", 50_000));
    offer(&mut store, &sent).expect("accepts");
    let lacking = missing(&progress(&mut store, &sent), &sent);
    push(&mut store, lacking).expect("puts");
    assert!(store.progress(sent.fingerprint, super::fixture::now()).expect("asks").is_none());
    assert_eq!(root.disk().list(Some(&layout::objects())).expect("lists"), []);
    assert_eq!(root.disk().list(Some(&layout::inbox())).expect("lists"), []);
}
