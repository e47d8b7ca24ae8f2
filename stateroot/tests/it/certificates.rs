//! The four files of a node's certificates, replaced as one.

use std::sync::Arc;

use autonomy_schema::Mode;
use autonomy_stateroot::{Certificates, NewCertificates, Query as _, SimDisk, StateRoot, layout};

use crate::crash::at_every_verb;
use crate::fixture::{rel, sim_root};

const CAP: u64 = 1 << 16;

fn new(text: &str) -> [Vec<u8>; 4] {
    ["crt", "key", "ca", "crl"].map(|file| format!("{file} {text}").into_bytes())
}

fn install(disk: &SimDisk, text: &str) -> bool {
    let root = StateRoot::on(Arc::new(disk.clone()));
    let [certificate, key, ca, crl] = &new(text);
    let Ok(held) = root.lock("test") else { return false };
    root.install_certificates(&held, &NewCertificates { certificate, key, ca, crl }).is_ok()
}

fn texts(found: &Certificates) -> Option<[Vec<u8>; 4]> {
    let Certificates { certificate, key, ca, crl, .. } = found.clone();
    Some([certificate?, key?, ca?, crl?])
}

#[test]
fn a_crash_at_every_verb_leaves_the_old_certificates_or_the_new_ones() {
    let start = || {
        let disk = sim_root().0;
        assert!(install(&disk, "old"));
        disk
    };
    at_every_verb(
        start,
        |disk| install(disk, "new"),
        |disk, done| {
            let root = StateRoot::on(Arc::new(disk.clone()));
            let seen = texts(&root.certificates(CAP, CAP).expect("readable")).expect("all four");
            assert!(seen == new("new") || (!done && seen == new("old")), "{seen:?}");

            // The next writer finishes it, and nothing of it changes by that.
            let held = root.lock("test").expect("free");
            root.finish_certificates(&held).expect("finishes");
            assert_eq!(texts(&root.certificates(CAP, CAP).expect("readable")), Some(seen.clone()));
            assert_eq!(disk.stat(&layout::identity_next()).expect("looks"), None);
            assert_eq!(crate::crash::content(disk, "identity/node.key").as_ref(), Some(&seen[1]));
            drop(held);
            assert!(install(disk, "newer"), "and the next installation works");
            assert_eq!(texts(&root.certificates(CAP, CAP).expect("readable")), Some(new("newer")));
        },
    );
}

#[test]
fn the_first_certificates_are_whole_or_absent() {
    at_every_verb(
        || sim_root().0,
        |disk| install(disk, "new"),
        |disk, done| {
            let root = StateRoot::on(Arc::new(disk.clone()));
            let found = root.certificates(CAP, CAP).expect("readable");
            match texts(&found) {
                Some(seen) => assert_eq!(seen, new("new")),
                None => assert!(!done && found.certificate.is_none() && found.key.is_none(), "{found:?}"),
            }
        },
    );
}

#[test]
fn they_are_for_the_owner_alone() {
    let disk = sim_root().0;
    assert!(install(&disk, "new"));
    for file in ["node.crt", "node.key", "ca.crt", "crl.pem"] {
        let stat = disk.stat(&rel(&format!("identity/{file}"))).expect("looks").expect("there");
        assert_eq!(stat.mode, Mode::PRIVATE, "{file}");
    }
    let found = StateRoot::on(Arc::new(disk)).certificates(CAP, CAP).expect("readable");
    assert_eq!(found.key_mode, Some(Mode::PRIVATE));
    assert!(found.attest.is_some());
}
