//! What the node has seen, and will not go below: serials, revocations, time. All sets here are signed by enough keys.

use autonomy_schema::Blake3;
use serde_json::{Value, json};

use crate::Made;
use crate::case::{Case, attack, control};
use crate::world::{EXPIRES, FIRST, World, file};

pub(crate) fn cases(world: &World) -> Made<Vec<Case>> {
    let mut cases = serials(world)?;
    cases.extend(revocations(world)?);
    cases.extend(times(world)?);
    Ok(cases)
}

fn serials(world: &World) -> Made<Vec<Case>> {
    let next = &world.next;
    let serial = |serial: u64| world.doctored(|m| m["metadata"]["serial"] = json!(serial));
    let older = world.doctored(|m| {
        m["metadata"]["serial"] = json!(FIRST - 1);
        m["metadata"]["rollbackOf"] = json!(Blake3::of(b"an older manifest"));
    })?;
    let first_manifest = file(&world.first, "manifest.json")?;
    Ok(vec![
        attack(
            "rollback",
            3,
            &["serial_too_low"],
            "The release before, with its sound signatures, after the node has gone on: its old holes would be open \
             again.",
        )
        .step("run", json!(["apply", "set", "--auto-approve"]))
        .run(&["apply", "first", "--auto-approve"]),
        attack(
            "rollback-that-says-so",
            3,
            &["serial_too_low"],
            "A manifest that says it is a deliberate step back. Even that needs a higher serial.",
        )
        .set(next, older),
        attack(
            "equivocation",
            3,
            &["serial_conflict"],
            "Two manifests with one serial, both signed: one for this node, one for the others. Both are kept as \
             evidence.",
        )
        .set(next, serial(FIRST)?),
        attack("fast-forward", 3, &["serial_step"], "A serial so high that no later release could ever follow it.")
            .set(next, serial((1 << 53) - 1)?),
        attack("fast-forward-by-one-too-many", 3, &["serial_step"], "One more than the largest step.")
            .set(next, serial(FIRST + 1001)?),
        control("largest-step", "Exactly the largest step.").set(next, serial(FIRST + 1000)?),
        attack(
            "another-stream",
            3,
            &["wrong_stream"],
            "A manifest of another stream of the same fleet, whose serials this node has never seen.",
        )
        .set(next, world.doctored(|m| m["metadata"]["name"] = json!("harbor-cameras"))?),
        attack(
            "newer-root-needed",
            3,
            &["root_gap"],
            "The manifest was signed under a trust root that this node does not have, which may have removed one of \
             its keys.",
        )
        .set(next, world.doctored(|m| m["metadata"]["rootVersion"] = json!(4))?),
        attack("newer-tool-needed", 3, &["tool_too_old"], "The manifest demands a newer tool, which may check more.")
            .set(next, world.doctored(|m| m["metadata"]["minTool"] = json!("999.0.0"))?),
        control("active-set-again", "What the node runs, once more: no change, and nothing is written again.")
            .run(&["apply", "first", "--auto-approve"])
            .unchanged(),
        control(
            "another-parent",
            "A manifest that replaces another than the active one is shown, and not refused, when its serial is \
             higher.",
        )
        .set(next, world.doctored(|m| m["metadata"]["parent"] = json!(Blake3::of(first_manifest.split_at(1).1)))?),
    ])
}

fn revocations(world: &World) -> Made<Vec<Case>> {
    let next = &world.next;
    let revoked = |list: Value| world.doctored(|m| m["spec"]["revoked"] = list);
    let [one, ..] = &world.keys.manifest;
    Ok(vec![
        attack(
            "revoked-manifest",
            3,
            &["revoked"],
            "A release that was withdrawn, with its sound signatures. The release that runs lists its fingerprint.",
        )
        .set(next, world.withdrawn.clone()),
        attack(
            "lowered-revocation-number",
            3,
            &["revocation_number_lowered"],
            "A manifest with an older revocation list, under which a stolen key would count again.",
        )
        .set(next, revoked(json!({ "number": 3 }))?),
        attack("revocations-left-out", 3, &["revocation_number_lowered"], "A manifest without any revocation list.")
            .set(
                next,
                world.doctored(|m| {
                    if let Some(spec) = m["spec"].as_object_mut() {
                        spec.remove("revoked");
                    }
                })?,
            ),
        attack(
            "manifest-that-revokes-its-signer",
            3,
            &["revoked"],
            "A manifest that revokes a key which it needs itself: it would verify now, and never again.",
        )
        .set(next, revoked(json!({ "number": 5, "keys": [one.id()] }))?),
    ])
}

fn times(world: &World) -> Made<Vec<Case>> {
    let next = &world.next;
    let times = |issued: &str, expires: &str| {
        world.doctored(|m| {
            m["metadata"]["issuedAt"] = json!(issued);
            m["metadata"]["expiresAt"] = json!(expires);
        })
    };
    let expired = times("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")?;
    let set_back = ["plan", "set", "--now", "2026-01-15T00:00:00Z"];
    let mut old_root = world.root();
    old_root["expiresAt"] = json!("2026-06-01T00:00:00Z");
    let [root, root_signatures] = world.signed_root(&old_root)?;
    Ok(vec![
        attack(
            "expired",
            3,
            &["expired"],
            "Freeze: a release whose time has passed, so that newer ones are not missed.",
        )
        .set(next, expired.clone()),
        attack(
            "clock-set-back",
            3,
            &["expired"],
            "The same release, and the node's clock was set to a day on which it was good. The mark of the release \
             that runs says that this day has passed.",
        )
        .set(next, expired)
        .run(&set_back),
        attack(
            "clock-set-ahead",
            3,
            &["expired"],
            "The clock is set a century ahead: the good set expires, and the running release goes on. The mark does \
             not follow the clock, so that all is well when the clock is right again.",
        )
        .run(&["plan", "set", "--now", "2199-01-01T00:00:00Z"]),
        control(
            "clock-right-again",
            "A plan under a clock a century ahead leaves no mark: the good set is applied after it.",
        )
        .step("run", json!(["plan", "first", "--now", "2098-01-01T00:00:00Z"])),
        attack(
            "issued-in-the-future",
            3,
            &["issued_in_future"],
            "A manifest that would lift the time mark so far that every honest one is expired.",
        )
        .set(next, times("2097-01-01T00:00:00Z", EXPIRES)?),
        attack("expires-before-it-was-issued", 3, &["bad_value"], "A manifest whose life ends before it begins.")
            .set(next, times("2026-11-20T09:00:00Z", "2026-11-20T08:00:00Z")?),
        attack("time-with-an-offset", 3, &["bad_time"], "A time with an offset: a second spelling of an instant.")
            .set(next, times("2026-11-20T09:00:00Z", "2099-01-01T01:00:00+01:00")?),
        attack("time-with-a-fraction", 3, &["bad_time"], "A time with a fraction of a second.")
            .set(next, times("2026-11-20T09:00:00Z", "2099-01-01T00:00:00.999Z")?),
        attack("time-beyond-the-calendar", 3, &["bad_time"], "A time in the year 99999, against the arithmetic.")
            .set(next, times("2026-11-20T09:00:00Z", "+99999-01-01T00:00:00Z")?),
        attack("expired-root", 3, &["expired"], "The set is good, and the trust root that should say so has expired.")
            .file(root.0, root.1)
            .file(root_signatures.0, root_signatures.1)
            .run(&["verify", "set", "--trust-root", "root.json"]),
    ])
}
