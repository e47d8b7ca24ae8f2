//! Verification opens no socket, of whatever kind: looked at from outside, by strace.

use std::process::Command;

use crate::node::Site;
use crate::world::PASSWORD;

/// The network calls of a verb, in every thread and child.
fn network_calls(site: &Site, verb: &str, exit: i32) -> Vec<String> {
    let ran = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=%network", "-e", "signal=none", "-o", "network.txt"])
        .arg(env!("CARGO_BIN_EXE_autonomy"))
        .args(verb.split_whitespace())
        .args(["--state-root", "node"])
        .current_dir(site.world.path(""))
        .env("COSIGN_PASSWORD", PASSWORD)
        .output()
        .expect("strace (ci/setup-tests installs it)");
    assert_eq!(ran.status.code(), Some(exit), "{verb}: {}", String::from_utf8_lossy(&ran.stderr));
    let trace = String::from_utf8_lossy(&site.world.read("network.txt")).into_owned();
    trace.lines().filter(|line| line.contains('(')).map(str::to_owned).collect()
}

#[test]
fn no_socket_is_opened_while_verifying_planning_and_applying() {
    let site = Site::running();
    site.set("two", 2);
    site.copy("two", "forged");
    let mut bytes = site.world.read("forged/manifest.json");
    bytes[40] ^= 1;
    site.world.write("forged/manifest.json", bytes);
    std::fs::create_dir(site.world.path("roots")).expect("folder");
    let next = "--expires 3y --sign a.key --sign b.key --out roots/2.root.json";
    site.world.run(&format!("trust rotate --from root.json {next}")).exits(0);
    for (verb, exit) in [
        ("verify two", 0),
        ("verify two --trust-root root.json", 0),
        ("verify forged", 3),
        ("trust verify .", 0),
        ("trust import .", 0),
        ("trust show", 0),
        ("plan two", 0),
        ("apply forged --auto-approve", 3),
        ("apply two --auto-approve", 0),
        ("fsck", 0),
    ] {
        assert_eq!(network_calls(&site, verb, exit), [] as [String; 0], "{verb}");
    }
    // What reaches out is seen by the same eyes.
    let seen = network_calls(&site, "plan git+https://127.0.0.1:9/fleet?ref=main&path=x", 1);
    assert!(seen.iter().any(|call| call.contains("socket(")), "{seen:?}");
}
