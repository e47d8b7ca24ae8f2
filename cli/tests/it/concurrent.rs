//! Two processes at once, for every pair of verbs that change a node: one of them works, the other waits its turn or is
//! told who holds the lock; whatever the order, the node is whole, its records hold, and both verbs can be run again.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;

use crate::confirm::run_out;
use crate::node::Site;
use crate::world::PASSWORD;

/// A changing verb, and the exit codes that it may end with, whatever the other one did: its own success, `locked`, and
/// what the state that the other left makes of it.
const VERBS: [(&str, &[i32]); 13] = [
    ("apply three --auto-approve", &[0, 6, 7, 10]),
    ("apply three --stage-only --auto-approve", &[0, 6, 7, 10]),
    ("apply two --auto-approve", &[0, 3, 5, 6, 7, 10]),
    ("rollback --auto-approve", &[0, 1, 5, 6, 7, 10]),
    ("confirm", &[0, 1, 6]),
    ("confirm --expire", &[0, 6, 8]),
    ("gc --keep 0", &[0, 6]),
    ("fsck --repair", &[0, 6]),
    ("suspend --reason pair", &[0, 6]),
    ("resume", &[0, 6]),
    ("unpin 00000000", &[1, 6]),
    ("reconcile --source three --once", &[0, 1, 6, 7, 10]),
    ("restore backup.tar --auto-approve", &[0, 3, 6]),
];

/// Sets, a backup, and a node whose release 2 waits to be confirmed over release 1. It has no peers, so that gc works.
fn site() -> Site {
    let site = Site::bare();
    for (name, serial) in [("one", 1), ("two", 2), ("three", 3)] {
        site.world.write("build/agent", format!("#!/bin/sh\nexit 0 # {serial}\n"));
        site.set(name, serial);
        site.doctor(name, |manifest| {
            if let Some(spec) = manifest["spec"].as_object_mut() {
                spec.remove("relay");
                if serial == 2 {
                    spec.insert("confirm".to_owned(), serde_json::json!({ "within": "1h" }));
                }
            }
        });
    }
    site.node("apply one --auto-approve").exits(0);
    site.node("backup --out backup.tar").exits(0);
    site.node("apply two --auto-approve").exits(0);
    site
}

fn spawn(folder: &Path, node: &str, verb: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_autonomy"))
        .args(verb.split_whitespace())
        .args(["--state-root", node])
        .current_dir(folder)
        .env_clear()
        .env("COSIGN_PASSWORD", PASSWORD)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts")
}

fn ended(child: Child) -> (ExitStatus, String) {
    let output = child.wait_with_output().expect("ends");
    (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Every pair whose first verb is the `n`-th of every `of`; with the verb that returns, on a node whose wait is over.
fn pairs(n: usize, of: usize) {
    let site = site();
    let folder = site.world.path("");
    let mut met = 0;
    for (at, (first, first_codes)) in VERBS.iter().enumerate().filter(|(at, _)| at % of == n) {
        for (second, second_codes) in &VERBS[at..] {
            site.copy("node", "pair");
            let is_over = [first, second].iter().any(|verb| **verb == "confirm --expire");
            if is_over {
                run_out(&site, "pair");
            }
            let children =
                [(spawn(&folder, "pair", first), first_codes), (spawn(&folder, "pair", second), second_codes)];
            let pair = format!("`{first}` beside `{second}`");
            for (child, codes) in children {
                let (status, said) = ended(child);
                let code = status.code().unwrap_or(-1);
                // Any verb may come first on a node whose wait is over: then the return is its own.
                assert!(codes.contains(&code) || (is_over && matches!(code, 5 | 7 | 8)), "{pair}: exit {code}: {said}");
                assert!(code != 6 || said.contains("locked: "), "{pair}: {said}");
                met += u32::from(code == 6);
            }
            check(&site, &pair);
            std::fs::remove_dir_all(site.world.path("pair")).expect("removed");
        }
    }
    assert!(met > 0, "no two processes ever met");
}

/// Whole, with records that hold, and able to go on.
#[track_caller]
fn check(site: &Site, pair: &str) {
    let ran = site.world.run("fsck --state-root pair");
    assert!(ran.stdout().contains("The state root is sound"), "{pair}: {}", ran.stdout());
    let status = site.world.run("status --output json --state-root pair").exits(0).stdout();
    let status: Value = serde_json::from_str(&status).expect("JSON");
    let serial = status["active"]["serial"].as_u64();
    assert!(serial.is_some_and(|serial| (1..=3).contains(&serial)), "{pair}: {status}");
    site.world.run("resume --state-root pair").exits(0);
    site.world.run("apply three --auto-approve --state-root pair").exits(0);
    let facts = site.world.run("facts --verify-content --output json --state-root pair").exits(0).stdout();
    let facts: Value = serde_json::from_str(&facts).expect("JSON");
    assert_eq!(
        (&facts["bound"]["current"]["serial"], &facts["bound"]["drift"]),
        (&Value::from(3), &Value::Null),
        "{pair}"
    );
}

#[test]
fn pairs_of_every_third_verb_from_the_first() {
    pairs(0, 3);
}

#[test]
fn pairs_of_every_third_verb_from_the_second() {
    pairs(1, 3);
}

#[test]
fn pairs_of_every_third_verb_from_the_third() {
    pairs(2, 3);
}
