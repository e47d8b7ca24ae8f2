//! What `autonomy status` says in each situation, as golden text: what runs, why, what is next, how old the intent is.
//! `UPDATE_SNAPSHOTS=1` records it anew.

use std::path::Path;

use serde_json::json;

use crate::confirm::{reboot, run_out, waiting};
use crate::life::{await_that, start};
use crate::node::Site;
use crate::rollback::second;

/// Five days and some hours after the example manifests were issued.
const NOW: &str = "2026-11-30T07:00:00Z";

/// Compares with the record; what differs from run to run has a word in its place.
#[track_caller]
fn tells(site: &Site, situation: &str, now: &str) {
    let ran = site.node(&format!("status --now {now}"));
    let mut text = normal(&ran.stdout(), now);
    for line in ran.stderr().lines() {
        text.push_str("stderr     ");
        text.push_str(&normal(line, now));
        text.push('\n');
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/status/{situation}.txt"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().expect("folder")).expect("folder");
        std::fs::write(&path, &text).expect("recorded");
    }
    let recorded = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, recorded, "{situation}");
}

/// Times of acts, fingerprints, processes and seconds that are left.
fn normal(text: &str, now: &str) -> String {
    let issued = ["2026-11-25T00:00:00Z", "2036-11-25T00:00:00Z", now];
    let mut out = String::new();
    for (number, word) in text.split_inclusive([' ', '\n']).enumerate() {
        let bare = word.trim_end_matches([' ', '\n', ':', ',', ';', ')', '`', '.']);
        let tail = &word[bare.len()..];
        let is_time = bare.len() == 20 && bare.ends_with('Z') && bare.as_bytes()[4] == b'-';
        let shown = if is_time && !issued.contains(&bare) { "TIME".to_owned() } else { hexless(bare) };
        let after_process = number > 0 && out.ends_with("process ");
        out.push_str(if after_process { "PID" } else { &shown });
        out.push_str(tail);
    }
    // The clock of the machine goes on between two runs.
    if let Some((before, rest)) = out.split_once("4 minutes ")
        && let Some((_, after)) = rest.split_once(" seconds")
    {
        return format!("{before}5 minutes{after}");
    }
    out
}

/// Runs of twelve or more hex digits become one word.
fn hexless(word: &str) -> String {
    let mut out = String::new();
    let mut run = String::new();
    for c in word.chars().chain([' ']) {
        if c.is_ascii_hexdigit() && !c.is_ascii_uppercase() {
            run.push(c);
            continue;
        }
        out.push_str(if run.len() >= 12 { "HEX" } else { &run });
        run.clear();
        out.push(c);
    }
    out.pop();
    out
}

#[test]
fn nothing_yet_first_release_and_an_old_intent() {
    let site = Site::bare();
    tells(&site, "nothing", NOW);
    site.set("one", 1);
    site.node("apply one --auto-approve").exits(0);
    tells(&site, "running", NOW);
    tells(&site, "expired", "2037-01-01T00:00:00Z");
    tells(&site, "clock-behind", "2026-11-20T00:00:00Z");
}

#[test]
fn staged_and_suspended() {
    let site = second();
    site.set("three", 3);
    site.node("apply three --stage-only --auto-approve").exits(0);
    tells(&site, "staged", NOW);
    site.world.run("suspend --reason inspection --owner berth-master --state-root node").exits(0);
    tells(&site, "suspended", NOW);
}

#[test]
fn waiting_rebooted_too_late_and_returned() {
    let site = waiting();
    tells(&site, "waiting", NOW);
    reboot(&site);
    tells(&site, "rebooted", NOW);
    site.node("confirm --expire").exits(0);
    tells(&site, "waiting-after-a-reboot", NOW);
    run_out(&site, "node");
    tells(&site, "too-late", NOW);
    site.node("confirm --expire").exits(8);
    tells(&site, "returned", NOW);
}

#[test]
fn failed_refused_and_returned_on_demand() {
    let site = second();
    site.set("bad", 3);
    site.doctor("bad", |m| m["spec"]["services"] = json!([{ "command": ["/bin/false"] }]));
    site.node("apply bad --auto-approve").exits(8);
    tells(&site, "failed", NOW);
    site.node("apply one --auto-approve").exits(3);
    tells(&site, "refused", NOW);
    site.node("rollback --auto-approve").exits(0);
    tells(&site, "rolled-back", NOW);
}

#[test]
fn cut_off_locked_and_damaged() {
    let site = Site::running();
    site.set("two", 2);
    site.doctor("two", |m| m["spec"]["services"] = json!([{ "command": ["/bin/sleep", "60"] }]));
    let mut apply = start(&site, "apply two --auto-approve", std::process::Stdio::null());
    await_that("the switch", || site.world.read("node/journal/apply.json").windows(8).any(|w| w == b"switched"));
    tells(&site, "locked", NOW);
    apply.kill().expect("SIGKILL");
    apply.wait().expect("ends");
    tells(&site, "cut-off", NOW);
    site.world.write("node/trust/floors.json", "{");
    tells(&site, "damaged", NOW);
}

#[test]
fn what_edged_says_of_the_relay_is_a_line() {
    let site = Site::running();
    let row = |segment: &str, peer: &str, state: &str| {
        let manifest = site.fingerprint("one");
        json!({ "manifest": manifest, "segment": segment, "peer": peer, "state": state, "attempts": 1, "last_error": null })
    };
    let segment = site.fingerprint("one").to_string();
    let written = json!({
        "node": "node-a", "pid": 1, "started": NOW, "state": "running", "draining": false,
        "peers": [
            { "id": "pier-7-crane", "address": "10.7.0.12:7443", "connected": true },
            { "id": "pier-7-gate", "address": "10.7.0.13:7443", "connected": false },
        ],
        "rows": [
            row("manifest", "pier-7-crane", "acked"), row(&segment, "pier-7-crane", "inflight"),
            row("manifest", "pier-7-gate", "deadletter"), row(&segment, "pier-7-gate", "deadletter"),
        ],
        "counters": {},
    });
    std::fs::create_dir_all(site.world.path("node/edge")).expect("folder");
    site.world.write("node/edge/status.json", written.to_string());
    let told = site.node("status").exits(0).stdout();
    let line = "Relay      1 of 2 peers connected, 1 on the way to a peer, 1 given up: `edgectl relay deadletter list`; edged does not run\n";
    assert!(told.contains(line), "{told}");
    let relay = json!({ "pid": 1, "peers": 2, "connected": 1, "unrelayed": 1, "deadLetters": 1, "truncated": false });
    let told: serde_json::Value =
        serde_json::from_str(&site.node("status --output json").exits(0).stdout()).expect("JSON");
    assert_eq!(told["relay"], relay);
    site.world.write("node/edge/status.json", "{");
    site.node("status").exits(11).warns("corrupt_state: `edge/status.json`");
}
